import { setImmediate } from 'node:timers/promises'
import { type SelectQueryBuilder, sql } from 'kysely'
import { ChaperoneError } from '../errors.ts'
import type { Database } from '../store/store.ts'
import type { AuditLeafTable, Tables } from '../store/tables.ts'
import { decodeEnvelope } from './envelope.ts'
import type { Envelope, RecordType } from './record.ts'

/** What to look for. All that is given must hold. Ids, not names: names are looked up by the caller. */
export interface RecordFilter {
  /** who acted; several ids for a person and his agents */
  readonly identity?: string | readonly string[]
  readonly session?: string
  readonly resource?: string
  readonly type?: RecordType
  readonly verdict?: 'allow' | 'ask' | 'deny'
  /** ms since 1970; `since` included, `until` not */
  readonly since?: number
  readonly until?: number
}

export interface RecordQuery extends RecordFilter {
  /** found in the record or in its bodies, in any case */
  readonly text?: string
  /** 1 to 1000 */
  readonly limit: number
  /** `next` of the page before */
  readonly before?: string
}

export interface RecordRow {
  readonly envelope: Envelope
  /** null until the sequencer gave it one */
  readonly position: number | null
  /** the body `statement`, its first 4 KiB */
  readonly statement?: string
  /** of an intent: what came of it */
  readonly outcome?: NonNullable<Envelope['outcome']>
}

export interface RecordPage {
  /** newest first */
  readonly rows: readonly RecordRow[]
  /** where to go on; absent at the end */
  readonly next?: string
  /** Set when a search for text stopped, with `next`, after looking at so many records. */
  readonly stoppedAfter?: number
}

export interface RecordDetail extends RecordRow {
  /** hex */
  readonly leafHash: string
  readonly bodies: readonly { readonly name: string; readonly bytes: Uint8Array | null; readonly erasedAt: number | null }[]
  /** the records that name this one as their permit: its outcome */
  readonly followedBy: readonly RecordRow[]
}

const MOST_ROWS = 1000
const MOST_IDENTITIES = 50
/** A search for text has no index: it looks at so many records in one call, and says when it stopped. */
const TEXT_SEARCH_RECORDS = 100_000
const TEXT_PAGE = 500
export const COUNT_LIMIT = 100_000
const STATEMENT_BYTES = 4096

/** The newest records that fit. Throws ChaperoneError('usage') for a query that makes no sense. */
export async function searchRecords(db: Database, query: RecordQuery): Promise<RecordPage> {
  if (!Number.isInteger(query.limit) || query.limit < 1 || query.limit > MOST_ROWS) throw usage(`limit must be a number from 1 to ${MOST_ROWS}`)
  if (query.text !== undefined && query.text !== '') return searchText(db, query, query.text)
  const leaves = await newest(db, query, query.limit + 1)
  const page = leaves.slice(0, query.limit)
  return { rows: await withContext(db, page), ...(leaves.length > page.length && { next: cursorOf(page.at(-1)!) }) }
}

/** How many fit; counting stops at 100,000, and `more` says so. */
export async function countRecords(db: Database, filter: RecordFilter): Promise<{ readonly count: number; readonly more: boolean }> {
  let count = 0
  for (const identity of identitiesOf(filter)) {
    const some = filtered(db, filter, identity)
      .select('node_seq')
      .limit(COUNT_LIMIT + 1 - count)
    const row = await db
      .selectFrom(some.as('some'))
      .select((is) => is.fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow()
    count += row.count
    if (count > COUNT_LIMIT) return { count: COUNT_LIMIT, more: true }
  }
  return { count, more: false }
}

/** One record with its bodies and what followed from it; undefined when there is none. Of several with one id, the first. */
export async function readRecord(db: Database, id: string): Promise<RecordDetail | undefined> {
  const leaf = await db.selectFrom('audit_leaves').selectAll().where('id', '=', id).orderBy('at').limit(1).executeTakeFirst()
  if (!leaf) return undefined
  const bodies = await db
    .selectFrom('audit_bodies')
    .select(['name', 'body as bytes', 'erased_at as erasedAt'])
    .where('node_id', '=', leaf.node_id)
    .where('node_seq', '=', leaf.node_seq)
    .orderBy('name')
    .execute()
  const following = await db.selectFrom('audit_leaves').selectAll().where('permit', '=', id).orderBy('at').limit(100).execute()
  const [row] = await withContext(db, [leaf])
  return { ...row!, leafHash: Buffer.from(leaf.leaf_hash).toString('hex'), bodies, followedBy: following.map(rowOf) }
}

type Leaf = AuditLeafTable

/** Several identities are several walks along their index, put together: one walk with `in` would sort all they ever did. */
async function newest(db: Database, query: RecordFilter & { readonly before?: string }, limit: number): Promise<Leaf[]> {
  const lists: Leaf[] = []
  for (const identity of identitiesOf(query)) {
    let select = filtered(db, query, identity).selectAll().orderBy('at', 'desc').orderBy('node_id', 'desc').orderBy('node_seq', 'desc').limit(limit)
    if (query.before !== undefined) {
      const { at, node, seq } = readCursor(query.before)
      select = select
        .where('at', '<=', at)
        .where((is) => is.or([is('at', '<', at), is('node_id', '<', node), is.and([is('node_id', '=', node), is('node_seq', '<', seq)])]))
    }
    lists.push(...(await select.execute()))
  }
  return lists.sort((a, b) => b.at - a.at || (a.node_id < b.node_id ? 1 : a.node_id > b.node_id ? -1 : b.node_seq - a.node_seq)).slice(0, limit)
}

function identitiesOf({ identity }: RecordFilter): readonly (string | undefined)[] {
  const list = typeof identity === 'string' || identity === undefined ? [identity] : [...new Set(identity)]
  if (list.length > MOST_IDENTITIES) throw usage(`no more than ${MOST_IDENTITIES} identities at once`)
  return list
}

function filtered(db: Database, filter: RecordFilter, identity: string | undefined): SelectQueryBuilder<Tables, 'audit_leaves', object> {
  const { session, resource, type, verdict, since, until } = filter
  let select = db.selectFrom('audit_leaves')
  if (identity !== undefined) select = select.where('identity_id', '=', identity)
  if (session !== undefined) select = select.where('session_id', '=', session)
  if (resource !== undefined) select = select.where('resource_id', '=', resource)
  if (since !== undefined) select = select.where('at', '>=', since)
  if (until !== undefined) select = select.where('at', '<', until)
  if (verdict !== undefined) {
    select = select.where('verdict', '=', verdict)
    // The words of the partial index: it is used only when the query repeats them.
    if (verdict !== 'allow') select = select.where(sql<boolean>`verdict <> 'allow'`)
  }
  if (type !== undefined) {
    select = select.where('type', '=', type)
    if (type !== 'action.intent' && type !== 'action.outcome') select = select.where(sql<boolean>`type not in ('action.intent', 'action.outcome')`)
  }
  return select
}

async function searchText(db: Database, query: RecordQuery, text: string): Promise<RecordPage> {
  const found: Leaf[] = []
  let before = query.before
  for (let seen = 0; seen < TEXT_SEARCH_RECORDS; seen += TEXT_PAGE) {
    await setImmediate() // SQLite answers on this very thread, and others want to run on it too
    const page = await newest(db, { ...query, ...(before !== undefined && { before }) }, TEXT_PAGE)
    const hits = await thoseWith(db, page, text.toLowerCase())
    const room = query.limit - found.length
    found.push(...hits.slice(0, room))
    if (hits.length > room || (hits.length === room && page.length === TEXT_PAGE))
      return { rows: await withContext(db, found), next: cursorOf(found.at(-1)!) }
    if (page.length < TEXT_PAGE) return { rows: await withContext(db, found) }
    before = cursorOf(page.at(-1)!)
  }
  return { rows: await withContext(db, found), stoppedAfter: TEXT_SEARCH_RECORDS, ...(before !== undefined && { next: before }) }
}

async function thoseWith(db: Database, page: readonly Leaf[], text: string): Promise<Leaf[]> {
  const inJson = JSON.stringify(text).slice(1, -1)
  const inBody = new Set<string>()
  await eachBody(db, page, undefined, (key, bytes) => {
    if (bytes.toString().toLowerCase().includes(text)) inBody.add(key)
  })
  return page.filter((leaf) => inBody.has(keyOf(leaf)) || textOf(leaf).toLowerCase().includes(inJson))
}

/** Rows with what stands elsewhere: the statement, and the outcome of an intent. */
async function withContext(db: Database, leaves: readonly Leaf[]): Promise<readonly RecordRow[]> {
  const statements = new Map<string, string>()
  await eachBody(db, leaves, 'statement', (key, bytes) => statements.set(key, bytes.subarray(0, STATEMENT_BYTES).toString()))
  const outcomes = new Map<string, NonNullable<Envelope['outcome']>>()
  const intents = leaves.filter(({ type }) => type === 'action.intent').map(({ id }) => id)
  for (let at = 0; at < intents.length; at += TEXT_PAGE) {
    const rows = await db
      .selectFrom('audit_leaves')
      .selectAll()
      .where('permit', 'in', intents.slice(at, at + TEXT_PAGE))
      .where('type', '=', 'action.outcome')
      .execute()
    for (const row of rows) {
      const { outcome } = rowOf(row).envelope
      if (outcome) outcomes.set(row.permit!, outcome)
    }
  }
  return leaves.map((leaf) => {
    const statement = statements.get(keyOf(leaf))
    const outcome = outcomes.get(leaf.id)
    return { ...rowOf(leaf), ...(statement !== undefined && { statement }), ...(outcome && leaf.type === 'action.intent' && { outcome }) }
  })
}

async function eachBody(db: Database, leaves: readonly Leaf[], name: string | undefined, see: (key: string, bytes: Buffer) => void): Promise<void> {
  for (const [node, records] of Map.groupBy(leaves, ({ node_id }) => node_id)) {
    for (let at = 0; at < records.length; at += TEXT_PAGE) {
      const seqs = records.slice(at, at + TEXT_PAGE).map(({ node_seq }) => node_seq)
      let select = db.selectFrom('audit_bodies').select(['node_seq', 'body']).where('node_id', '=', node).where('node_seq', 'in', seqs)
      if (name !== undefined) select = select.where('name', '=', name)
      for (const { node_seq, body } of await select.execute()) if (body) see(`${node} ${node_seq}`, Buffer.from(body))
    }
  }
}

const keyOf = ({ node_id, node_seq }: Leaf) => `${node_id} ${node_seq}`
const textOf = ({ leaf }: Leaf) => Buffer.from(leaf).toString()

function rowOf(leaf: Leaf): RecordRow {
  try {
    return { envelope: decodeEnvelope(leaf.leaf), position: leaf.position }
  } catch (error) {
    // One record that somebody broke must not hide the others; `verify` says more.
    const unreadable = error instanceof ChaperoneError ? error.message : String(error)
    const envelope: Envelope = {
      v: 1,
      id: leaf.id,
      at: leaf.at,
      node: leaf.node_id,
      seq: leaf.node_seq,
      type: leaf.type as RecordType,
      data: { unreadable },
    }
    return { envelope, position: leaf.position }
  }
}

const cursorOf = ({ at, node_seq, node_id }: Leaf) => `${at}.${node_seq}.${node_id}`

function readCursor(cursor: string): { at: number; seq: number; node: string } {
  const match = /^([0-9]{1,16})\.([0-9]{1,16})\.(.+)$/.exec(cursor)
  if (!match) throw usage('before must be the `next` of the page before')
  return { at: Number(match[1]), seq: Number(match[2]), node: match[3]! }
}

const usage = (what: string) => new ChaperoneError('usage', `The record cannot be searched like this: ${what}.`)
