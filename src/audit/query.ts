import { setImmediate } from 'node:timers/promises'
import { type SelectQueryBuilder, sql } from 'kysely'
import { ChaperoneError } from '../errors.ts'
import type { Database } from '../store/store.ts'
import type { AuditLeafTable, Tables } from '../store/tables.ts'
import { decodeEnvelope } from './envelope.ts'
import { type FactFilter, factsMatch, leafHolds, needsOutcome } from './fact-filter.ts'
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
  /** in what the record says of the action; finds intents and refusals */
  readonly facts?: FactFilter
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
  /** of a tool call: the body `arguments`, its first 4 KiB */
  readonly arguments?: string
  /** of an intent: what came of it */
  readonly outcome?: NonNullable<Envelope['outcome']>
}

export interface RecordPage {
  /** newest first */
  readonly rows: readonly RecordRow[]
  /** where to go on; absent at the end */
  readonly next?: string
  /** Set when the search stopped, with `next`, after looking at so many records. */
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
/** What no index finds directly (a text, or two things at once) is looked for among so many records in one call, which says when it stopped. */
const LOOKED_AT = 100_000
const TEXT_PAGE = 500
const STATEMENT_BYTES = 4096

/** The newest records that fit, among the newest `most` along an index. Throws ChaperoneError('usage') for a query that makes no sense. */
export async function searchRecords(db: Database, query: RecordQuery, most = LOOKED_AT): Promise<RecordPage> {
  if (!Number.isInteger(query.limit) || query.limit < 1 || query.limit > MOST_ROWS) throw usage(`limit must be a number from 1 to ${MOST_ROWS}`)
  const tests = testsOf(db, query)
  if (tests.length > 0) return searchThrough(db, query, tests, most)
  const { leaves, stoppedAt } = await newest(db, query, query.limit + 1, WHOLE, most)
  const page = leaves.slice(0, query.limit)
  const rows = await withContext(db, page)
  if (leaves.length > page.length) return { rows, next: cursorOf(page.at(-1)!) }
  return stoppedAt ? { rows, stoppedAfter: most, next: cursorOf(stoppedAt) } : { rows }
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
/** What a cursor is made of. */
type Place = Pick<Leaf, 'at' | 'node_id' | 'node_seq'>

const PLACE = ['at', 'node_id', 'node_seq'] as const
const FILTERED = [...PLACE, 'type', 'verdict', 'identity_id', 'resource_id'] as const
/** All that a search for text reads: a row of thirteen columns costs three times as much. */
const SEARCHED = [...PLACE, 'leaf'] as const
const WHOLE = [...FILTERED, 'session_id', 'id', 'permit', 'leaf', 'leaf_hash', 'position'] as const

type Leaves = SelectQueryBuilder<Tables, 'audit_leaves', object>

/** One walk along one index, newest first, with what else must hold. */
interface Walk {
  readonly along: (leaves: Leaves) => Leaves
  readonly and: readonly ((leaves: Leaves) => Leaves)[]
}

/**
 * The walks that find what a filter asks for: one for each identity, because one walk with `in` would sort all they ever
 * did. Each goes along the index of which there is least, so that a rare thing of a busy identity is found at once.
 */
function walksOf(filter: RecordFilter): readonly Walk[] {
  const { identity, session, resource, type, verdict, since, until } = filter
  const identities = typeof identity === 'string' || identity === undefined ? [identity] : [...new Set(identity)]
  if (identities.length > MOST_IDENTITIES) throw usage(`no more than ${MOST_IDENTITIES} identities at once`)
  const within = (leaves: Leaves) => {
    const from = since === undefined ? leaves : leaves.where('at', '>=', since)
    return until === undefined ? from : from.where('at', '<', until)
  }
  return identities.map((id) => {
    const indexed: ((leaves: Leaves) => Leaves)[] = []
    const others: ((leaves: Leaves) => Leaves)[] = []
    if (session !== undefined) indexed.push((leaves) => leaves.where('session_id', '=', session))
    // The conditions of a partial index: it is used only by a query that repeats them.
    if (type === 'action.intent' || type === 'action.outcome') others.push((leaves) => leaves.where('type', '=', type))
    else if (type !== undefined)
      indexed.push((leaves) => leaves.where('type', '=', type).where(sql<boolean>`type not in ('action.intent', 'action.outcome')`))
    if (verdict === 'allow') others.push((leaves) => leaves.where('verdict', '=', verdict))
    else if (verdict !== undefined) indexed.push((leaves) => leaves.where('verdict', '=', verdict).where(sql<boolean>`verdict <> 'allow'`))
    if (id !== undefined) indexed.push((leaves) => leaves.where('identity_id', '=', id))
    if (resource !== undefined) indexed.push((leaves) => leaves.where('resource_id', '=', resource))
    const [first, ...rest] = indexed
    return { along: (leaves) => within(first ? first(leaves) : leaves), and: [...rest, ...others] }
  })
}

interface Found<Row> {
  /** newest first */
  readonly leaves: Row[]
  /** Set when a walk had looked at as many records as it may: all newer than this one were seen. */
  readonly stoppedAt?: Place
}

async function newest<Column extends keyof Leaf>(
  db: Database,
  query: RecordFilter & { readonly before?: string },
  limit: number,
  columns: readonly Column[],
  most: number,
): Promise<Found<Pick<Leaf, Column> & Place>> {
  type Row = Pick<Leaf, Column> & Place
  const leaves: Row[] = []
  const stops: Place[] = []
  for (const walk of walksOf(query)) {
    const seen = walk
      .along(olderThan(query.before, db.selectFrom('audit_leaves')))
      .orderBy('at', 'desc')
      .orderBy('node_id', 'desc')
      .orderBy('node_seq', 'desc')
    // Both engines give the rows of the inner query in its order, and stop when there are enough.
    const looked = walk.and.length === 0 ? seen : (db.selectFrom(seen.selectAll().limit(most).as('audit_leaves')) as unknown as Leaves)
    const hits = walk.and.reduce((rows, holds) => holds(rows), looked)
    const some = (await hits.select(columns).limit(limit).execute()) as unknown as Row[]
    leaves.push(...some)
    if (walk.and.length > 0 && some.length < limit)
      stops.push(
        ...(await seen
          .select(PLACE)
          .offset(most - 1)
          .limit(1)
          .execute()),
      )
  }
  leaves.sort(newestFirst)
  const stoppedAt = stops.sort(newestFirst)[0]
  if (!stoppedAt) return { leaves: leaves.slice(0, limit) }
  const sure = leaves.filter((leaf) => newestFirst(leaf, stoppedAt) <= 0)
  return sure.length >= limit ? { leaves: sure.slice(0, limit) } : { leaves: sure, stoppedAt }
}

const newestFirst = (a: Place, b: Place) => b.at - a.at || (a.node_id < b.node_id ? 1 : a.node_id > b.node_id ? -1 : b.node_seq - a.node_seq)

function olderThan(cursor: string | undefined, leaves: Leaves): Leaves {
  if (cursor === undefined) return leaves
  const { at, node, seq } = readCursor(cursor)
  return leaves
    .where('at', '<=', at)
    .where((is) => is.or([is('at', '<', at), is('node_id', '<', node), is.and([is('node_id', '=', node), is('node_seq', '<', seq)])]))
}

type Searched = Place & Pick<Leaf, 'leaf'>
/** Those of a page that fit; for what no index knows. */
type Test = (page: readonly Searched[]) => Promise<readonly Searched[]>

function testsOf(db: Database, { text, facts }: RecordQuery): readonly Test[] {
  return [
    ...(facts !== undefined && Object.keys(facts).length > 0 ? [(page: readonly Searched[]) => thoseOf(db, page, facts)] : []),
    ...(text !== undefined && text !== '' ? [(page: readonly Searched[]) => thoseWith(db, page, text.toLowerCase())] : []),
  ]
}

async function searchThrough(db: Database, query: RecordQuery, tests: readonly Test[], most: number): Promise<RecordPage> {
  const found: Place[] = []
  let before = query.before
  for (let seen = 0; seen < most; seen += TEXT_PAGE) {
    await setImmediate() // SQLite answers on this very thread, and others want to run on it too
    const { leaves: page, stoppedAt } = await newest(
      db,
      { ...query, ...(before !== undefined && { before }) },
      Math.min(TEXT_PAGE, most),
      SEARCHED,
      most,
    )
    const last = page.length >= Math.min(TEXT_PAGE, most) ? page.at(-1) : stoppedAt
    let hits: readonly Searched[] = page
    for (const test of tests) hits = await test(hits)
    const room = query.limit - found.length
    found.push(...hits.slice(0, room))
    if (hits.length > room || (hits.length === room && last))
      return { rows: await withContext(db, await wholeOf(db, found)), next: cursorOf(found.at(-1)!) }
    if (!last) return { rows: await withContext(db, await wholeOf(db, found)) }
    before = cursorOf(last)
    if (stoppedAt) break
  }
  return { rows: await withContext(db, await wholeOf(db, found)), stoppedAfter: most, ...(before !== undefined && { next: before }) }
}

async function thoseOf(db: Database, page: readonly Searched[], filter: FactFilter): Promise<readonly Searched[]> {
  const held = leafHolds(filter)
  const near = page.flatMap((leaf) => {
    const text = textOf(leaf)
    if (!text.includes('"decision":') || !held.every((part) => text.includes(part))) return []
    return [{ leaf, envelope: envelopeOf(leaf.leaf) }]
  })
  const outcomes = needsOutcome(filter)
    ? await outcomesOf(
        db,
        near.flatMap(({ envelope }) => (envelope?.type === 'action.intent' ? [envelope.id] : [])),
      )
    : new Map<string, NonNullable<Envelope['outcome']>>()
  const whole = new Map<string, string>()
  const long = near.flatMap(({ leaf, envelope }) => (envelope?.action?.facts?.more === undefined ? [] : [leaf]))
  await eachBody(db, long, 'facts', (key, bytes) => whole.set(key, bytes.toString()))
  return near.flatMap(({ leaf, envelope }) =>
    envelope && factsMatch(filter, envelope, outcomes.get(envelope.id), whole.get(keyOf(leaf))) ? [leaf] : [],
  )
}

async function outcomesOf(db: Database, intents: readonly string[]): Promise<Map<string, NonNullable<Envelope['outcome']>>> {
  const outcomes = new Map<string, NonNullable<Envelope['outcome']>>()
  for (let at = 0; at < intents.length; at += TEXT_PAGE) {
    const rows = await db
      .selectFrom('audit_leaves')
      .select(['permit', 'leaf'])
      .where('permit', 'in', intents.slice(at, at + TEXT_PAGE))
      .where('type', '=', 'action.outcome')
      .execute()
    for (const { permit, leaf } of rows) {
      const outcome = envelopeOf(leaf)?.outcome
      if (outcome) outcomes.set(permit!, outcome)
    }
  }
  return outcomes
}

async function thoseWith(db: Database, page: readonly Searched[], text: string): Promise<readonly Searched[]> {
  const inJson = JSON.stringify(text).slice(1, -1)
  const inBody = new Set<string>()
  await eachBody(db, page, undefined, (key, bytes) => {
    if (bytes.toString().toLowerCase().includes(text)) inBody.add(key)
  })
  return page.filter((leaf) => inBody.has(keyOf(leaf)) || textOf(leaf).toLowerCase().includes(inJson))
}

async function wholeOf(db: Database, places: readonly Place[]): Promise<Leaf[]> {
  const whole: Leaf[] = []
  for (const [node, records] of Map.groupBy(places, ({ node_id }) => node_id)) {
    const seqs = records.map(({ node_seq }) => node_seq)
    whole.push(...(await db.selectFrom('audit_leaves').selectAll().where('node_id', '=', node).where('node_seq', 'in', seqs).execute()))
  }
  return whole.sort(newestFirst)
}

/** Rows with what stands elsewhere: the statement, and the outcome of an intent. */
async function withContext(db: Database, leaves: readonly Leaf[]): Promise<readonly RecordRow[]> {
  const statements = new Map<string, string>()
  await eachBody(db, leaves, 'statement', (key, bytes) => statements.set(key, bytes.subarray(0, STATEMENT_BYTES).toString()))
  // What a call asked for is as much part of the line as a statement is. (Administration keeps its documents to `show`.)
  const calls = leaves.filter((leaf) => textOf(leaf).includes('"operation":"tools/call"'))
  const args = new Map<string, string>()
  await eachBody(db, calls, 'arguments', (key, bytes) => args.set(key, bytes.subarray(0, STATEMENT_BYTES).toString()))
  const outcomes = await outcomesOf(
    db,
    leaves.filter(({ type }) => type === 'action.intent').map(({ id }) => id),
  )
  return leaves.map((leaf) => {
    const statement = statements.get(keyOf(leaf))
    const outcome = outcomes.get(leaf.id)
    const asked = args.get(keyOf(leaf))
    return {
      ...rowOf(leaf),
      ...(statement !== undefined && { statement }),
      ...(asked !== undefined && { arguments: asked }),
      ...(outcome && leaf.type === 'action.intent' && { outcome }),
    }
  })
}

async function eachBody(db: Database, leaves: readonly Place[], name: string | undefined, see: (key: string, bytes: Buffer) => void): Promise<void> {
  for (const [node, records] of Map.groupBy(leaves, ({ node_id }) => node_id)) {
    for (let at = 0; at < records.length; at += TEXT_PAGE) {
      const seqs = records.slice(at, at + TEXT_PAGE).map(({ node_seq }) => node_seq)
      let select = db.selectFrom('audit_bodies').select(['node_seq', 'body']).where('node_id', '=', node).where('node_seq', 'in', seqs)
      if (name !== undefined) select = select.where('name', '=', name)
      for (const { node_seq, body } of await select.execute()) if (body) see(`${node} ${node_seq}`, Buffer.from(body))
    }
  }
}

const keyOf = ({ node_id, node_seq }: Place) => `${node_id} ${node_seq}`
const textOf = ({ leaf }: Pick<Leaf, 'leaf'>) => Buffer.from(leaf).toString()

/** Undefined for one that somebody broke; {@link rowOf} says so where it is shown. */
function envelopeOf(leaf: Uint8Array): Envelope | undefined {
  try {
    return decodeEnvelope(leaf)
  } catch {
    return undefined
  }
}

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

const cursorOf = ({ at, node_seq, node_id }: Place) => `${at}.${node_seq}.${node_id}`

function readCursor(cursor: string): { at: number; seq: number; node: string } {
  const match = /^([0-9]{1,16})\.([0-9]{1,16})\.(.+)$/.exec(cursor)
  if (!match) throw usage('before must be the `next` of the page before')
  return { at: Number(match[1]), seq: Number(match[2]), node: match[3]! }
}

const usage = (what: string) => new ChaperoneError('usage', `The record cannot be searched like this: ${what}.`)
