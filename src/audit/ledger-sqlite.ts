import { openSqlite } from '../store/sqlite-dialect.ts'
import { turnstileOf, writeAsleep } from '../store/turnstile.ts'
import { claimLost, type Ledger, type Placement, SEQUENCER_TTL_MS, type SequencerRow } from './ledger.ts'
import type { BodyRow, LeafRow } from './prepare.ts'
import { frontierToBytes, hashFromBytes, hashToBytes } from './tree.ts'

/** The pages of the indexes that each append touches should stay in memory: a third more records a second than with 2 MB. */
const CACHE_KIB = 65_536

export function openSqliteLedger(path: string, { busyMs, maxPages }: { readonly busyMs?: number; readonly maxPages?: number } = {}): Ledger {
  const database = openSqlite(path, busyMs === undefined ? {} : { busyMs })
  // In turn with the main thread: a writer that commits without pause would keep a lease from being renewed.
  const turns = turnstileOf(path)
  database.exec(`pragma cache_size = -${CACHE_KIB}`)
  if (maxPages !== undefined) database.exec(`pragma max_page_count = ${maxPages}`)
  database.exec(`insert into audit_sequencer (id, node_id, token, expires_at, size, frontier) values (1, '', 0, 0, 0, x'') on conflict do nothing`)

  const sql = {
    lastSeq: database.prepare('select coalesce(max(node_seq), 0) as seq from audit_leaves where node_id = ?'),
    leaf: database.prepare(`insert into audit_leaves
      (node_id, node_seq, id, at, type, identity_id, session_id, resource_id, verdict, permit, leaf, leaf_hash, position)
      values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
    body: database.prepare('insert into audit_bodies (node_id, node_seq, name, salt, body, size) values (?, ?, ?, ?, ?, ?)'),
    grow: database.prepare('update audit_sequencer set size = ?, frontier = ?, expires_at = ? where id = 1 and token = ? and size = ?'),
    position: database.prepare('update audit_leaves set position = ? where node_id = ? and node_seq = ? and position is null'),
    claim: database.prepare(`update audit_sequencer set node_id = ?1, token = token + 1, expires_at = ?3
      where id = 1 and (node_id = ?1 or expires_at <= ?2) returning token, size, frontier`),
    outlook: database.prepare(`select token, size, frontier,
      exists (select 1 from audit_leaves where position is null) as waiting,
      coalesce((select max(size) from audit_checkpoints), 0) as signed from audit_sequencer where id = 1`),
    unplaced: database.prepare(
      'select node_id, node_seq, leaf_hash from audit_leaves indexed by audit_leaves_waiting where position is null order by node_id, node_seq limit ?',
    ),
    // Each time of a change is newer than the one before, whatever the clock does: who looks for changes asks by it.
    use: database.prepare(`update requests set state = 'used', permit = ?1, node_id = ?2, updated_at = max(?4, updated_at + 1)
      where id = ?3 and kind = 'call' and state = 'approved' and digest = ?5 and expires_at > ?4`),
    useOn: database.prepare(`update requests set permit = ?1, node_id = ?2, outcome = null, updated_at = max(?4, updated_at + 1)
      where id = ?3 and kind = 'call' and state = 'used' and digest = ?5 and permit = ?6`),
    newest: database.prepare('select size, root, note from audit_checkpoints order by size desc limit 1'),
    checkpoint: database.prepare('insert into audit_checkpoints (size, root, note, at) values (?, ?, ?, ?) on conflict do nothing'),
  }
  const grow = ({ token, before, after, now }: Placement) =>
    sql.grow.run(after.size, frontierToBytes(after), now + SEQUENCER_TTL_MS, token, before.size).changes === 1

  const store = (node: string, rows: readonly LeafRow[], bodies: readonly BodyRow[], placement: Placement | undefined) => {
    const placed = placement !== undefined && grow(placement)
    let position = placed ? placement.before.size : null
    for (const row of rows) {
      const { seq, id, at, type, identity_id, session_id, resource_id, verdict, permit, leaf, hash } = row
      sql.leaf.run(node, seq, id, at, type, identity_id, session_id, resource_id, verdict, permit, leaf, hashToBytes(hash), position)
      if (position !== null) position++
    }
    for (const { seq, name, salt, body } of bodies) sql.body.run(node, seq, name, salt, body, body.length)
    return placed
  }

  return {
    lastSeq: async (node) => Number(sql.lastSeq.get(node)!.seq),
    commit: async (node, rows, bodies, placement) => writeAsleep(database, turns, () => store(node, rows, bodies, placement)),
    commitClaim: async (node, claim, row, bodies, placement) =>
      writeAsleep(database, turns, () => {
        const { request, digest, permit, continues } = claim
        const { changes } =
          continues === undefined
            ? sql.use.run(permit, node, request, row.at, digest)
            : sql.useOn.run(permit, node, request, row.at, digest, continues)
        if (changes !== 1) throw claimLost()
        return store(node, [row], bodies, placement)
      }),
    claim: async (node, now) => sql.claim.get(node, now, now + SEQUENCER_TTL_MS) as SequencerRow | undefined,
    outlook: async () => {
      const { waiting, ...row } = sql.outlook.get() as unknown as SequencerRow & { waiting: number; signed: number }
      return { ...row, waiting: waiting === 1 }
    },
    unplaced: async (limit) =>
      sql.unplaced
        .all(limit)
        .map((row) => ({ node: String(row.node_id), seq: Number(row.node_seq), hash: hashFromBytes(row.leaf_hash as Uint8Array) })),
    place: async (leaves, placement) =>
      writeAsleep(database, turns, () => {
        if (!grow(placement)) return false
        for (const [i, { node, seq }] of leaves.entries()) {
          if (sql.position.run(placement.before.size + i, node, seq).changes !== 1) throw new Error(`leaf ${seq} of ${node} has a position already`)
        }
        return true
      }),
    saveCheckpoint: async (size, root, note, at) => {
      sql.checkpoint.run(size, hashToBytes(root), note, at)
    },
    newestCheckpoint: async () => {
      const row = sql.newest.get() as { size: number; root: Uint8Array; note: string } | undefined
      return row && { ...row, root: hashFromBytes(row.root) }
    },
    close: async () => database.close(),
  }
}
