import pg from 'pg'
import { storeError } from '../store/store-errors.ts'
import { byNode, type Log, type LogPlace, PAGE, type StoredCheckpoint, type StoredLeaf } from './log.ts'
import { hashFromBytes } from './tree.ts'

const CONNECT_MS = 5000
/** Bodies are up to 256 KiB each: those of so many records are read at once. */
const BODY_RECORDS = 32

const LEAF = 'position, node_id, node_seq, id, at, type, identity_id, session_id, resource_id, verdict, permit, leaf, leaf_hash'

const { INT8 } = pg.types.builtins
const types: pg.CustomTypesConfig = {
  getTypeParser: (oid: number, format?: string) => (oid === INT8 && format !== 'binary' ? Number : pg.types.getTypeParser(oid, format as 'text')),
}

export async function openPostgresLog(place: LogPlace): Promise<Log> {
  const client = new pg.Client({
    connectionString: place.location,
    application_name: 'chaperone audit reader',
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    types,
  })
  client.on('error', () => {}) // whatever is asked next gets the error
  const query = async (text: string, values: unknown[] = []) => {
    try {
      return (await client.query({ text, values, types })).rows
    } catch (error) {
      throw storeError(error)
    }
  }
  try {
    await client.connect()
  } catch (error) {
    throw storeError(error)
  }
  await query('set default_transaction_read_only = on')

  return {
    place,
    async overview() {
      const [row] = await query(`select coalesce((select max(position) + 1 from audit_leaves), 0) as total,
        coalesce((select max(size) from audit_checkpoints), 0) as signed,
        (select size from audit_sequencer where id = 1) as size, (select frontier from audit_sequencer where id = 1) as frontier`)
      const keys = await query(`select public_key from keys where purpose = 'checkpoints' and public_key is not null`)
      const sequencer = row.size !== null && row.frontier !== null ? { size: row.size, frontier: row.frontier } : undefined
      return { total: row.total, signed: row.signed, sequencer, keys: keys.map((key) => key.public_key) }
    },
    async *leaves(from, to) {
      for (let at = from; at < to; at += PAGE) {
        yield (
          await query(`select ${LEAF} from audit_leaves where position >= $1 and position < $2 order by position`, [at, Math.min(at + PAGE, to)])
        ).map(leafOf)
      }
    },
    async *tail(total) {
      // One statement, so that a leaf which gets its position just now is not missed.
      const rows = await query(
        'select node_id, node_seq from audit_leaves where position is null union all select node_id, node_seq from audit_leaves where position >= $1',
        [total],
      )
      const keys = rows.map((row): [string, number] => [row.node_id, row.node_seq]).sort(byNode)
      for (let at = 0; at < keys.length; at += PAGE) {
        const page = keys.slice(at, at + PAGE)
        yield (
          await query(
            `select ${LEAF} from audit_leaves join unnest($1::text[], $2::bigint[]) as wanted (node, seq) on node_id = node and node_seq = seq order by node_id, node_seq`,
            [page.map(([node]) => node), page.map(([, seq]) => seq)],
          )
        ).map(leafOf)
      }
    },
    async bodies(node, from, to, see) {
      for (let at = from; at <= to; at += BODY_RECORDS) {
        const rows = await query(
          'select node_seq as seq, name, salt, body, erased_at as "erasedAt" from audit_bodies where node_id = $1 and node_seq between $2 and $3',
          [...[node, at, Math.min(at + BODY_RECORDS - 1, to)]],
        )
        for (const row of rows) see(row)
      }
    },
    bodyNodes: async () => (await query('select distinct node_id from audit_bodies')).map((row) => row.node_id),
    countBodies: async (node, last) =>
      (await query('select count(*) as count from audit_bodies where node_id = $1 and node_seq <= $2', [node, last]))[0].count,
    async *checkpoints(after, to) {
      for (let last = after; ; ) {
        const rows = await query(`select size, root, note from audit_checkpoints where size > $1 and size <= $2 order by size limit ${PAGE}`, [
          last,
          to,
        ])
        if (rows.length === 0) return
        yield rows.map((row): StoredCheckpoint => ({ size: row.size, root: hashFromBytes(row.root), note: row.note }))
        last = rows.at(-1).size
      }
    },
    close: () => client.end(),
  }
}

/** The columns have the names of StoredLeaf already, but for three. */
type LeafRow = Omit<StoredLeaf, 'node' | 'seq' | 'hash'> & { readonly node_id: string; readonly node_seq: number; readonly leaf_hash: Uint8Array }

function leafOf({ node_id, node_seq, leaf_hash, ...rest }: LeafRow): StoredLeaf {
  return { ...rest, node: node_id, seq: node_seq, hash: hashFromBytes(leaf_hash) }
}
