import type { Named } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { newId } from '../../ids.ts'
import { narrowingOf } from '../../policy/narrowing.ts'
import type { Limits } from '../../policy/types.ts'
import type { Database, Store, Write } from '../../store/store.ts'
import type { DelegationTable } from '../../store/tables.ts'
import type { EndReason } from '../end-reasons.ts'
import { holdStanding } from '../endings.ts'
import type { ChainLink, Sessions } from '../types.ts'

/** `to` may act on behalf of `from`, within the limits; whatever its roles would allow beyond them it may not. */
export interface Delegation {
  readonly id: string
  readonly fromId: string
  readonly toId: string
  readonly limits: Limits
  readonly createdAt: number
  readonly expiresAt?: number
  readonly endedAt?: number
  readonly how?: DelegationHow
  /** It ends with this session. */
  readonly sessionId?: string
  /** It was made under that one, and ends with it. */
  readonly parentId?: string
  /** id of the identity that agreed */
  readonly madeBy?: string
  /** OAuth client, or program */
  readonly client?: string
  /** what the person read when he agreed */
  readonly words?: string
  /** why it ended */
  readonly endReason?: string
}

/** A person, his client, what that starts, and what this hands on to: who is asked about more cannot follow it any more. */
export const MOST_LINKS = 4

/** `client`: on first use; `consent`: an OAuth client; `run`: a program that the person started; `exchange`: handed on by one who acts already */
export type DelegationHow = 'client' | 'consent' | 'run' | 'exchange'

export interface MakeDelegation {
  readonly fromId: string
  readonly toId: string
  readonly limits?: Limits
  /** ms since 1970 */
  readonly expiresAt?: number
  readonly how?: DelegationHow
  readonly sessionId?: string
  readonly parentId?: string
  readonly madeBy?: string
  readonly client?: string
  readonly words?: string
  readonly now: number
}

/**
 * Throws `usage` for a delegation to oneself, or one that is over before it begins; `session_ended` when what it would rest on has
 * ended; `invalid_document` for limits that cannot be read.
 */
export async function makeDelegation(trx: Write, ask: MakeDelegation): Promise<Delegation> {
  narrowingOf(ask.limits ?? {})
  await assertStands(trx, ask)
  if (ask.fromId === ask.toId) throw new ChaperoneError('usage', 'Nobody acts on behalf of himself.')
  if (ask.expiresAt !== undefined && ask.expiresAt <= ask.now) throw new ChaperoneError('usage', 'The delegation would be over before it began.')
  const row: DelegationTable = {
    id: newId('dlg', ask.now),
    from_id: ask.fromId,
    to_id: ask.toId,
    limits: JSON.stringify(ask.limits ?? {}),
    created_at: ask.now,
    expires_at: ask.expiresAt ?? null,
    ended_at: null,
    how: ask.how ?? null,
    session_id: ask.sessionId ?? null,
    parent_id: ask.parentId ?? null,
    made_by: ask.madeBy ?? null,
    client: ask.client ?? null,
    words: ask.words ?? null,
    end_reason: null,
  }
  await trx.insertInto('delegations').values(row).execute()
  return toDelegation(row)
}

async function assertStands(trx: Write, { sessionId, parentId }: MakeDelegation): Promise<void> {
  const over = (what: string) => new ChaperoneError('session_ended', `The ${what} that this would rest on is over.`)
  if (sessionId !== undefined && !(await holdStanding(trx, { sessions: [sessionId] }))) throw over('session')
  if (parentId !== undefined && !(await holdStanding(trx, { delegations: [parentId] }))) throw over('delegation')
}

/** ms since 1970: when the first of the chain's delegations is over; infinity when none has an end. */
export async function soonestEnd(db: Database | Write, chain: readonly ChainLink[]): Promise<number> {
  const given = chain.flatMap(({ delegation }) => delegation ?? [])
  if (given.length === 0) return Number.POSITIVE_INFINITY
  const rows = await db.selectFrom('delegations').select('expires_at').where('id', 'in', given).where('expires_at', 'is not', null).execute()
  return Math.min(Number.POSITIVE_INFINITY, ...rows.map((row) => row.expires_at!))
}

/**
 * Delegations that still stand though what they rest on does not: their time is over, one of the two is deleted, the session they are
 * bound to has ended or run out. Nothing can be done with them any more; the sweep ends them on record. Why each of them ends, by id.
 */
export async function overDelegations(db: Database, now: number, limit = 500): Promise<ReadonlyMap<string, EndReason>> {
  const rows = await db
    .selectFrom('delegations')
    .innerJoin('identities as giver', 'giver.id', 'delegations.from_id')
    .innerJoin('identities as taker', 'taker.id', 'delegations.to_id')
    .leftJoin('sessions', 'sessions.id', 'delegations.session_id')
    .leftJoin('delegations as above', 'above.id', 'delegations.parent_id')
    .select(['delegations.id', 'delegations.expires_at', 'giver.state as giver_state', 'taker.state as taker_state', 'above.ended_at as above_ended'])
    .where('delegations.ended_at', 'is', null)
    .where((row) =>
      row.or([
        row('delegations.expires_at', '<=', now),
        row('giver.state', '=', 'deleted'),
        row('taker.state', '=', 'deleted'),
        row('sessions.ended_at', 'is not', null),
        row('sessions.expires_at', '<=', now),
        row('above.ended_at', 'is not', null),
      ]),
    )
    .limit(limit)
    .execute()
  return new Map(rows.map((row) => [row.id, whyOver(row, now)]))
}

/** Ends on record what stands and rests on nothing any more. Called every few seconds. */
export async function sweepDelegations({
  store,
  sessions,
  clock,
}: {
  readonly store: Pick<Store, 'db'>
  readonly sessions: Pick<Sessions, 'endDelegations'>
  readonly clock: Clock
}): Promise<void> {
  const over = await overDelegations(store.db, clock.now())
  for (const [why, ids] of Map.groupBy(over.keys(), (id) => over.get(id)!)) await sessions.endDelegations(ids, why)
}

function whyOver(
  row: { readonly expires_at: number | null; readonly giver_state: string; readonly taker_state: string; readonly above_ended: number | null },
  now: number,
): EndReason {
  if (row.giver_state === 'deleted' || row.taker_state === 'deleted') return 'deleted'
  if (row.expires_at !== null && row.expires_at <= now) return 'expired'
  return row.above_ended === null ? 'unbound' : 'uprooted'
}

/** The delegations that stand, from or to an identity, oldest first. */
export async function listDelegations(
  db: Database | Write,
  filter: {
    readonly fromId?: string
    readonly toId?: string
    /** Only those made on the first use of a client: not bound to anything, and limited in nothing that somebody chose for one run. */
    readonly firstUse?: true
    readonly now: number
    readonly limit?: number
  },
): Promise<Delegation[]> {
  let query = standingAt(db, filter.now)
  if (filter.firstUse) query = query.where((row) => row.or([row('how', 'is', null), row('how', '=', 'client')])).where('session_id', 'is', null)
  if (filter.fromId !== undefined) query = query.where('from_id', '=', filter.fromId)
  if (filter.toId !== undefined) query = query.where('to_id', '=', filter.toId)
  return (
    await query
      .orderBy('id')
      .limit(filter.limit ?? 1000)
      .execute()
  ).map(toDelegation)
}

const standingAt = (db: Database | Write, now: number) =>
  db
    .selectFrom('delegations')
    .selectAll()
    .where('ended_at', 'is', null)
    .where((row) => row.or([row('expires_at', 'is', null), row('expires_at', '>', now)]))
    // What was given by or to somebody who is deleted stands no more, also before the sweep has come by.
    .where((row) =>
      row.not(
        row.exists(
          row
            .selectFrom('identities')
            .select('identities.id')
            .where('state', '=', 'deleted')
            .where((of) => of.or([of('identities.id', '=', of.ref('delegations.from_id')), of('identities.id', '=', of.ref('delegations.to_id'))])),
        ),
      ),
    )

/** A chain with the names its identities have now, as a record wants it. An identity that is not in the store keeps its id as name. */
export async function loadChain(db: Database | Write, chain: readonly ChainLink[]): Promise<(Named & { readonly delegation?: string })[]> {
  const ids = [...new Set(chain.map((link) => link.identity))]
  const rows = await db.selectFrom('identities').select(['id', 'name', 'kind']).where('id', 'in', ids).execute()
  const known = new Map(rows.map((row) => [row.id, row]))
  return chain.map(({ identity, delegation }) => {
    const row = known.get(identity)
    return {
      id: identity,
      name: row?.name ?? identity,
      ...(row ? { kind: row.kind } : {}),
      ...(delegation === undefined ? {} : { delegation }),
    }
  })
}

export function toDelegation(row: DelegationTable): Delegation {
  return {
    id: row.id,
    fromId: row.from_id,
    toId: row.to_id,
    limits: JSON.parse(row.limits) as Delegation['limits'],
    createdAt: row.created_at,
    ...(row.expires_at === null ? {} : { expiresAt: row.expires_at }),
    ...(row.ended_at === null ? {} : { endedAt: row.ended_at }),
    ...(row.how === null ? {} : { how: row.how as DelegationHow }),
    ...(row.session_id === null ? {} : { sessionId: row.session_id }),
    ...(row.parent_id === null ? {} : { parentId: row.parent_id }),
    ...(row.made_by === null ? {} : { madeBy: row.made_by }),
    ...(row.client === null ? {} : { client: row.client }),
    ...(row.words === null ? {} : { words: row.words }),
    ...(row.end_reason === null ? {} : { endReason: row.end_reason }),
  }
}
