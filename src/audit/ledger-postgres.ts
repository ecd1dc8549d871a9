import pg from 'pg'
import { claimLost, type Ledger, type Placement, SEQUENCER_TTL_MS, type SequencerRow } from './ledger.ts'
import { frontierToBytes, hashFromBytes, hashToBytes } from './tree.ts'

const CONNECT_MS = 5000
/** An append that is not durable by then is refused; the connection is given up. */
const STATEMENT_MS = 10_000

/** A database may be set up with synchronous_commit = off, which forgets the last commits in a crash. */
const SESSION = `select
  case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on', false) end,
  set_config('statement_timeout', $1, false)`

const GROW = `update audit_sequencer set size = $1, frontier = $2, expires_at = ${deadline()} where id = 1 and token = $3 and size = $4`

/** One statement is one transaction and one round trip. What a data-modifying WITH does, it does whether or not it is read. */
const COMMIT = `with
  held as (${GROW} returning 1),
  leaves as (
    insert into audit_leaves (node_id, node_seq, id, at, type, identity_id, session_id, resource_id, verdict, permit, leaf, leaf_hash, position)
    select $5::text, l.seq, l.id, l.at, l.type, l.identity, l.session, l.resource, l.verdict, l.permit, l.leaf, l.hash,
      case when exists (select 1 from held) then $4 + l.place - 1 end
    from unnest($6::bigint[], $7::text[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bytea[], $16::bytea[])
      with ordinality as l (seq, id, at, type, identity, session, resource, verdict, permit, leaf, hash, place)),
  bodies as (
    insert into audit_bodies (node_id, node_seq, name, salt, body, size)
    select $5::text, b.seq, b.name, b.salt, b.body, length(b.body)
    from unnest($17::bigint[], $18::text[], $19::bytea[], $20::bytea[]) as b (seq, name, salt, body))
  select count(*)::int as placed from held`

const PLACE = `with
  held as (${GROW} returning 1),
  moved as (
    update audit_leaves set position = $4 + l.place - 1
    from unnest($5::text[], $6::bigint[]) with ordinality as l (node, seq, place)
    where node_id = l.node and node_seq = l.seq and position is null and exists (select 1 from held) returning 1)
  select (select count(*)::int from held) as held, (select count(*)::int from moved) as moved`

const CLAIM = `update audit_sequencer set node_id = $1, token = token + 1, expires_at = ${deadline()}
  where id = 1 and (node_id = $1 or expires_at <= ${time()}) returning token, size, frontier`

const CLAIM_APPROVAL = `update requests set state = 'used', permit = $1, node_id = $2, updated_at = greatest(${time()}, updated_at + 1)
  where id = $3 and kind = 'call' and state = 'approved' and digest = $4 and expires_at > ${time()}`

const CLAIM_ROUND = `update requests set permit = $1, node_id = $2, outcome = null, updated_at = greatest(${time()}, updated_at + 1)
  where id = $3 and kind = 'call' and state = 'used' and digest = $4 and permit = $5`

const OUTLOOK = `select token, size, frontier,
  exists (select 1 from audit_leaves where position is null) as waiting,
  coalesce((select max(size) from audit_checkpoints), 0) as signed from audit_sequencer where id = 1`

function time(): string {
  return 'floor(extract(epoch from clock_timestamp()) * 1000)::bigint'
}

function deadline(): string {
  return `${time()} + ${SEQUENCER_TTL_MS}`
}

export async function openPostgresLedger(url: string): Promise<Ledger> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'chaperone audit',
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: STATEMENT_MS + 1000,
    keepAlive: true,
  })
  // A connection that breaks between two queries says so by an event, which without a listener ends the thread. Whatever
  // is asked next gets the error.
  client.on('error', () => {})
  await client.connect()
  await client.query(SESSION, [String(STATEMENT_MS)])
  await client.query(
    `insert into audit_sequencer (id, node_id, token, expires_at, size, frontier) values (1, '', 0, 0, 0, '') on conflict do nothing`,
  )
  const one = async <T>(text: string, values: unknown[]): Promise<T | undefined> => (await client.query(text, values)).rows[0] as T | undefined

  const store: Ledger['commit'] = async (node, rows, bodies, placement) => {
    const column = <K extends keyof (typeof rows)[number]>(key: K) => rows.map((row) => row[key])
    const values = [
      ...(placement ? growth(placement) : [0, Buffer.alloc(0), -1, 0]),
      ...[node, column('seq'), column('id'), column('at'), column('type'), column('identity_id'), column('session_id'), column('resource_id')],
      ...[column('verdict'), column('permit'), column('leaf'), rows.map(({ hash }) => hashToBytes(hash))],
      ...[
        bodies.map(({ seq }) => seq),
        bodies.map(({ name }) => name),
        bodies.map(({ salt }) => Buffer.from(salt)),
        bodies.map(({ body }) => Buffer.from(body)),
      ],
    ]
    const result = await client.query<{ placed: number }>({ name: 'commit', text: COMMIT, values })
    return result.rows[0]!.placed === 1
  }

  return {
    lastSeq: async (node) =>
      Number((await one<{ seq: string }>('select coalesce(max(node_seq), 0) as seq from audit_leaves where node_id = $1', [node]))!.seq),
    commit: store,
    commitClaim: async (node, { request, digest, permit, continues }, row, bodies, placement) => {
      await client.query('begin')
      try {
        const use = [permit, node, request, digest]
        const { rowCount } = await (continues === undefined ? client.query(CLAIM_APPROVAL, use) : client.query(CLAIM_ROUND, [...use, continues]))
        if (rowCount !== 1) throw claimLost()
        const placed = await store(node, [row], bodies, placement)
        await client.query('commit')
        return placed
      } catch (error) {
        await client.query('rollback').catch(() => {}) // a connection that is broken is opened anew with the next batch
        throw error
      }
    },
    claim: async (node) => sequencerRow(await one(CLAIM, [node])),
    outlook: async () => {
      const row = (await one<{ waiting: boolean; signed: string }>(OUTLOOK, []))!
      return { ...sequencerRow(row)!, waiting: row.waiting, signed: Number(row.signed) }
    },
    unplaced: async (limit) => {
      const { rows } = await client.query(
        'select node_id, node_seq, leaf_hash from audit_leaves where position is null order by node_id, node_seq limit $1',
        [limit],
      )
      return rows.map((row) => ({ node: row.node_id, seq: Number(row.node_seq), hash: hashFromBytes(row.leaf_hash) }))
    },
    place: async (leaves, placement) => {
      await client.query('begin')
      try {
        const row = (await one<{ held: number; moved: number }>(PLACE, [
          ...growth(placement),
          leaves.map(({ node }) => node),
          leaves.map(({ seq }) => seq),
        ]))!
        if (row.held === 1 && row.moved !== leaves.length) throw new Error('some of the leaves have a position already')
        await client.query('commit')
        return row.held === 1
      } catch (error) {
        await client.query('rollback').catch(() => {}) // the first error is the one that counts, and the connection is closed after it
        throw error
      }
    },
    saveCheckpoint: async (size, root, note, at) => {
      await client.query('insert into audit_checkpoints (size, root, note, at) values ($1, $2, $3, $4) on conflict do nothing', [
        size,
        hashToBytes(root),
        note,
        at,
      ])
    },
    newestCheckpoint: async () => {
      const row = await one<{ size: string; root: Buffer; note: string }>(
        'select size, root, note from audit_checkpoints order by size desc limit 1',
        [],
      )
      return row && { size: Number(row.size), root: hashFromBytes(row.root), note: row.note }
    },
    close: () => client.end(),
  }
}

/** The parameters $1 to $4 of GROW. */
const growth = ({ token, before, after }: Placement): unknown[] => [after.size, frontierToBytes(after), token, before.size]

/** pg gives bigint as text. */
function sequencerRow(row: unknown): SequencerRow | undefined {
  const { token, size, frontier } = (row ?? {}) as { token?: string; size?: string; frontier?: Buffer }
  return frontier && { token: Number(token), size: Number(size), frontier }
}
