import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { ChaperoneError } from '../errors.ts'
import { openSqlite } from '../store/sqlite-dialect.ts'
import { storeError } from '../store/store-errors.ts'
import { byNode, type Log, type LogPlace, PAGE, type StoredCheckpoint, type StoredLeaf } from './log.ts'
import { hashFromBytes } from './tree.ts'

/** Text is read three times faster than a blob; its true length is beside it, because what is no UTF-8 must not look as if it were. */
const LEAF = `position, node_id, node_seq, id, at, type, identity_id, session_id, resource_id, verdict, permit,
  cast(leaf as text), length(leaf), lower(hex(leaf_hash))`

type LeafTuple = [
  number | null,
  string,
  number,
  string,
  number,
  string,
  string | null,
  string | null,
  string | null,
  string | null,
  string | null,
  string,
  number,
  string,
]

export function openSqliteLog(place: LogPlace): Log {
  if (!existsSync(place.location)) {
    throw new ChaperoneError('store_unavailable', `There is no store in ${dirname(place.location)}.`, {
      fix: 'Give the data directory that `chaperone up` was started with.',
    })
  }
  const database = named(() => openSqlite(place.location, { readOnly: true }))
  const rows = (sql: string) => {
    const statement = database.prepare(sql)
    statement.setReturnArrays(true)
    return statement
  }
  const sql = named(() => ({
    overview: database.prepare(`select coalesce((select max(position) + 1 from audit_leaves), 0) as total,
      coalesce((select max(size) from audit_checkpoints), 0) as signed,
      (select size from audit_sequencer where id = 1) as size, (select frontier from audit_sequencer where id = 1) as frontier`),
    keys: database.prepare(`select public_key from keys where purpose = 'checkpoints' and public_key is not null`),
    leaves: rows(`select ${LEAF} from audit_leaves where position >= ? and position < ? order by position`),
    tailKeys: rows(`select node_id, node_seq from audit_leaves where position is null
      union all select node_id, node_seq from audit_leaves where position >= ?`),
    one: rows(`select ${LEAF} from audit_leaves where node_id = ? and node_seq = ?`),
    blob: database.prepare('select leaf from audit_leaves where node_id = ? and node_seq = ?'),
    bodies: rows('select node_seq, name, salt, body, erased_at from audit_bodies where node_id = ? and node_seq between ? and ?'),
    countBodies: database.prepare('select count(*) as count from audit_bodies where node_id = ? and node_seq <= ?'),
    bodyNodes: database.prepare('select distinct node_id from audit_bodies'),
    checkpoints: database.prepare(`select size, root, note from audit_checkpoints where size > ? and size <= ? order by size limit ${PAGE}`),
  }))

  function leafOf(row: LeafTuple): StoredLeaf {
    const [position, node, seq, id, at, type, identity_id, session_id, resource_id, verdict, permit, text, size, hash] = row
    // Bytes that are no UTF-8 come as U+FFFD, and a NUL may end the text early: then only the bytes will do.
    const exact = Buffer.byteLength(text) === size && !text.includes('\ufffd')
    const leaf = exact ? text : (sql.blob.get(node, seq)!.leaf as Uint8Array)
    return { position, node, seq, id, at, type, identity_id, session_id, resource_id, verdict, permit, leaf, hash }
  }

  return {
    place,
    async overview() {
      const row = sql.overview.get() as { total: number; signed: number; size: number | null; frontier: Uint8Array | null }
      const sequencer = row.size !== null && row.frontier !== null ? { size: row.size, frontier: row.frontier } : undefined
      return { total: row.total, signed: row.signed, sequencer, keys: sql.keys.all().map((key) => key.public_key as Uint8Array) }
    },
    async *leaves(from, to) {
      for (let at = from; at < to; at += PAGE) yield (sql.leaves.all(at, Math.min(at + PAGE, to)) as unknown as LeafTuple[]).map(leafOf)
    },
    async *tail(total) {
      // Sorted here: asked for an order, SQLite walks the whole table in that order.
      const keys = (sql.tailKeys.all(total) as unknown as [string, number][]).sort(byNode)
      for (let at = 0; at < keys.length; at += PAGE) {
        yield keys.slice(at, at + PAGE).flatMap(([node, seq]) => (sql.one.all(node, seq) as unknown as LeafTuple[]).map(leafOf))
      }
    },
    async bodies(node, from, to, see) {
      for (const row of sql.bodies.iterate(node, from, to)) {
        const [seq, name, salt, body, erasedAt] = row as unknown as [number, string, Uint8Array, Uint8Array | null, number | null]
        see({ seq, name, salt, body, erasedAt })
      }
    },
    bodyNodes: async () => sql.bodyNodes.all().map((row) => String(row.node_id)),
    countBodies: async (node, last) => Number(sql.countBodies.get(node, last)!.count),
    async *checkpoints(after, to) {
      for (let last = after; ; ) {
        const page = sql.checkpoints
          .all(last, to)
          .map((row): StoredCheckpoint => ({ size: Number(row.size), root: hashFromBytes(row.root as Uint8Array), note: String(row.note) }))
        if (page.length === 0) return
        yield page
        last = page.at(-1)!.size
      }
    },
    close: async () => database.close(),
  }
}

function named<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw storeError(error)
  }
}
