import type { Told } from '../catalog/notifier.ts'
import { newId } from '../ids.ts'
import type { Store, Write } from '../store/store.ts'
import type { DeliveryTable } from '../store/tables-requests.ts'
import type { Channel, NotifierRow } from './types.ts'

/** What waits for one notifier. When its receiver is slow or gone for long, the oldest news make room, and then the oldest questions. */
export const MOST_WAITING = 2_000
/** What somebody waits for an answer to, or has to know at once: news never push these out. */
const QUESTIONS: readonly string[] = [
  'request.made',
  'request.escalated',
  'request.broke_glass',
  'request.review_overdue',
  'lock.made',
  'agent.due',
  'agent.stopped',
  'directory.refused',
] satisfies readonly Told[]
export const NO_ROOM = `more than ${MOST_WAITING} messages waited`
/** `next_at` of a row that was lost for want of room, until the record says so. */
const UNTOLD = -1
/** Of one identity, for one notifier (and one recipient), in an hour: a noisy agent neither fills the queue nor floods a channel. */
export const MOST_OF_ONE = 60
export const HOUR_MS = 3_600_000
/** Longer than any attempt may last: a node that dies in the middle holds a row no longer than this. */
const CLAIM_MS = 90_000
const KEEP_MS = 7 * 24 * HOUR_MS
const KEEP_ROWS = 1_000
const SWEEP_ROWS = 1_000

export interface NewDelivery {
  readonly notifier: string
  readonly way: Channel
  readonly event: Told
  readonly source?: string | null | undefined
  readonly payloads: readonly string[]
}

/** What one claim may send. `attempts` is its fencing token: whoever claimed the row later has another. */
export type Claimed = Pick<DeliveryTable, 'id' | 'notifier' | 'way' | 'event' | 'payload' | 'attempts' | 'created_at'>

/**
 * Makes room for `size` more, if what is there counts for less than `event`: news go before questions, and the oldest first, whose
 * answer comes soonest or is past already. What is being sent stays. Returns whether there is room now, and how many were lost.
 */
export async function makeRoom(trx: Write, notifier: string, event: Told, size: number, now: number): Promise<{ ok: boolean; lost: number }> {
  let lacking = size - (await roomFor(trx, notifier))
  let lost = 0
  for (const kind of QUESTIONS.includes(event) ? (['not in', 'in'] as const) : (['not in'] as const)) {
    if (lacking <= 0) break
    const oldest = await trx
      .selectFrom('deliveries')
      .select('id')
      .where('notifier', '=', notifier)
      .where('state', '=', 'waiting')
      .where('event', kind, QUESTIONS)
      .where((is) => is.or([is('claimed_until', 'is', null), is('claimed_until', '<=', now)]))
      .orderBy('created_at')
      .orderBy('id')
      .limit(lacking)
      .execute()
    if (oldest.length === 0) continue
    await trx
      .updateTable('deliveries')
      .set({ state: 'given_up', payload: '', last_error: NO_ROOM, next_at: UNTOLD, claimed_until: null })
      .where(
        'id',
        'in',
        oldest.map(({ id }) => id),
      )
      .execute()
    lacking -= oldest.length
    lost += oldest.length
  }
  return { ok: lacking <= 0, lost }
}

/** What was lost for want of room and is in no record yet, by notifier. */
export async function untold(
  store: Store,
  names: readonly string[],
): Promise<readonly { readonly notifier: string; readonly ids: readonly string[] }[]> {
  if (names.length === 0) return []
  const rows = await store.db
    .selectFrom('deliveries')
    .select(['id', 'notifier'])
    .where('notifier', 'in', [...names])
    .where('state', '=', 'given_up')
    .where('next_at', '=', UNTOLD)
    .limit(SWEEP_ROWS)
    .execute()
  return [...Map.groupBy(rows, ({ notifier }) => notifier)].map(([notifier, lost]) => ({ notifier, ids: lost.map(({ id }) => id) }))
}

export const toldOf = (store: Store, ids: readonly string[]): Promise<unknown> =>
  store.write((trx) => trx.updateTable('deliveries').set({ next_at: 0 }).where('id', 'in', ids).execute())

async function roomFor(trx: Write, notifier: string): Promise<number> {
  const { count } = await trx
    .selectFrom('deliveries')
    .select((is) => is.fn.countAll<number>().as('count'))
    .where('notifier', '=', notifier)
    .where('state', '=', 'waiting')
    .executeTakeFirstOrThrow()
  return MOST_WAITING - Number(count)
}

/** How many were made about this identity in the last hour, and when the first of them was. */
export async function lately(trx: Write, notifier: string, source: string, now: number) {
  const { count, first } = await trx
    .selectFrom('deliveries')
    .select((is) => [is.fn.countAll<number>().as('count'), is.fn.min('created_at').as('first')])
    .where('notifier', '=', notifier)
    .where('source', '=', source)
    .where('created_at', '>', now - HOUR_MS)
    .executeTakeFirstOrThrow()
  return { count: Number(count), first: Number(first ?? now) }
}

export async function put(trx: Write, { notifier, way, event, source = null, payloads }: NewDelivery, now: number): Promise<void> {
  if (payloads.length === 0) return
  await trx
    .insertInto('deliveries')
    .values(
      payloads.map((payload) => ({
        id: newId('dlv', now),
        notifier,
        way,
        event,
        source,
        payload,
        state: 'waiting' as const,
        attempts: 0,
        next_at: now,
        claimed_until: null,
        last_error: null,
        created_at: now,
      })),
    )
    .execute()
}

/** A row that can never be sent, so that somebody sees that it was not. One that there was no room for is recorded, too. */
export async function putLost(trx: Write, lost: Omit<NewDelivery, 'payloads'>, why: string, now: number): Promise<void> {
  const { notifier, way, event, source = null } = lost
  await trx
    .insertInto('deliveries')
    .values({
      id: newId('dlv', now),
      notifier,
      way,
      event,
      source,
      payload: '',
      state: 'given_up',
      attempts: 0,
      next_at: why === NO_ROOM ? UNTOLD : now,
      claimed_until: null,
      last_error: why,
      created_at: now,
    })
    .execute()
}

const due = (store: Store, notifier: string, now: number, most: number) =>
  store.db
    .selectFrom('deliveries')
    .select(['id', 'attempts'])
    .where('notifier', '=', notifier)
    .where('state', '=', 'waiting')
    .where('next_at', '<=', now)
    .where((is) => is.or([is('claimed_until', 'is', null), is('claimed_until', '<=', now)]))
    .orderBy('next_at')
    .limit(most)
    .execute()

/** Takes what is due, for this node alone until `CLAIM_MS` are over. Two nodes that see the same row: one gets it. */
export async function claim(store: Store, notifier: string, now: number, most: number): Promise<readonly Claimed[]> {
  const rows = await due(store, notifier, now, most)
  if (rows.length === 0) return []
  return store.write(async (trx) => {
    const claimed: Claimed[] = []
    for (const { id, attempts } of rows) {
      const row = await trx
        .updateTable('deliveries')
        .set({ claimed_until: now + CLAIM_MS, attempts: attempts + 1 })
        .where('id', '=', id)
        .where('state', '=', 'waiting')
        .where('attempts', '=', attempts)
        .where((is) => is.or([is('claimed_until', 'is', null), is('claimed_until', '<=', now)]))
        .returning(['id', 'notifier', 'way', 'event', 'payload', 'attempts', 'created_at'])
        .executeTakeFirst()
      if (row) claimed.push(row)
    }
    return claimed
  })
}

type Ending =
  | { readonly state: 'done' }
  | { readonly state: 'given_up'; readonly error: string }
  /** `again`: not counted as an attempt (this node stops) */
  | { readonly state: 'waiting'; readonly at: number; readonly error?: string; readonly payload?: string }

/** Says what came of a claim, unless somebody else has taken the row over meanwhile. */
export async function settle(store: Store, { id, attempts }: Claimed, ending: Ending): Promise<boolean> {
  const set =
    ending.state === 'done'
      ? { state: ending.state, payload: '', last_error: null }
      : ending.state === 'given_up'
        ? { state: ending.state, last_error: ending.error }
        : {
            next_at: ending.at,
            ...(ending.error === undefined ? {} : { last_error: ending.error }),
            ...(ending.payload === undefined ? {} : { payload: ending.payload }),
          }
  const { numUpdatedRows } = await store.write((trx) =>
    trx
      .updateTable('deliveries')
      .set({ ...set, claimed_until: null })
      .where('id', '=', id)
      .where('attempts', '=', attempts)
      .where('state', '=', 'waiting')
      .executeTakeFirst(),
  )
  return numUpdatedRows === 1n
}

/** Removes what is over and old, and gives up what waits for a notifier that is there no more. */
export const sweep = (store: Store, names: readonly string[], now: number): Promise<void> => store.write((trx) => sweepIn(trx, names, now))

async function sweepIn(db: Write, names: readonly string[], now: number): Promise<void> {
  await db
    .deleteFrom('deliveries')
    .where('state', '!=', 'waiting')
    .where('created_at', '<', now - KEEP_MS)
    .execute()
  const counts = await db
    .selectFrom('deliveries')
    .select((is) => ['notifier', is.fn.countAll<number>().as('count')])
    .where('state', '!=', 'waiting')
    .groupBy('notifier')
    .execute()
  for (const { notifier, count } of counts) {
    if (Number(count) <= KEEP_ROWS) continue
    const [newest] = await db
      .selectFrom('deliveries')
      .select('created_at')
      .where('notifier', '=', notifier)
      .where('state', '!=', 'waiting')
      .orderBy('created_at', 'desc')
      .orderBy('id', 'desc')
      .offset(KEEP_ROWS)
      .limit(1)
      .execute()
    if (newest)
      await db
        .deleteFrom('deliveries')
        .where('notifier', '=', notifier)
        .where('state', '!=', 'waiting')
        .where('created_at', '<=', newest.created_at)
        .execute()
  }
  const orphans = await db
    .selectFrom('deliveries')
    .select('id')
    .where('state', '=', 'waiting')
    .$if(names.length > 0, (query) => query.where('notifier', 'not in', [...names]))
    .limit(SWEEP_ROWS)
    .execute()
  if (orphans.length === 0) return
  await db
    .updateTable('deliveries')
    .set({ state: 'given_up', last_error: 'there is no such notifier any more', claimed_until: null })
    .where(
      'id',
      'in',
      orphans.map(({ id }) => id),
    )
    .where('state', '=', 'waiting')
    .execute()
}

/** What the outbox holds for each notifier. */
export async function countsOf(store: Store): Promise<ReadonlyMap<string, Omit<NotifierRow, 'name' | 'way' | 'on'>>> {
  const rows = await store.db
    .selectFrom('deliveries')
    .select((is) => ['notifier', 'state', is.fn.countAll<number>().as('count'), is.fn.min('created_at').as('oldest')])
    .groupBy(['notifier', 'state'])
    .execute()
  const counts = new Map<string, { waiting: number; done: number; givenUp: number; lost?: number; oldest?: number; lastError?: string }>()
  for (const { notifier, state, count, oldest } of rows) {
    const of = counts.get(notifier) ?? { waiting: 0, done: 0, givenUp: 0 }
    of[state === 'given_up' ? 'givenUp' : state] = Number(count)
    if (state === 'waiting' && oldest !== null) of.oldest = Number(oldest)
    counts.set(notifier, of)
  }
  const lost = await store.db
    .selectFrom('deliveries')
    .select((is) => ['notifier', is.fn.countAll<number>().as('count')])
    .where('state', '=', 'given_up')
    .where('last_error', '=', NO_ROOM)
    .groupBy('notifier')
    .execute()
  for (const { notifier, count } of lost) Object.assign(counts.get(notifier)!, { lost: Number(count) })
  for (const [notifier, of] of counts) {
    const failed = await store.db
      .selectFrom('deliveries')
      .select('last_error')
      .where('notifier', '=', notifier)
      .where('state', 'in', ['waiting', 'given_up'])
      .where('last_error', 'is not', null)
      .orderBy('id', 'desc')
      .limit(1)
      .executeTakeFirst()
    if (failed?.last_error) of.lastError = failed.last_error
  }
  return counts
}
