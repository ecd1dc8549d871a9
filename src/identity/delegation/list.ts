import { ChaperoneError } from '../../errors.ts'
import { isId } from '../../ids.ts'
import { limitsInWords } from '../../policy/narrowing-words.ts'
import type { Limits } from '../../policy/types.ts'
import type { Database, Store } from '../../store/store.ts'
import { endWords } from '../end-reasons.ts'
import type { LiveSession, Sessions } from '../types.ts'
import { type Delegation, toDelegation } from './delegations.ts'

/** A delegation as people are shown it. */
export interface DelegationRow {
  readonly id: string
  /** names */
  readonly from: string
  readonly to: string
  readonly how?: string
  /** OAuth client, or program */
  readonly client?: string
  readonly limits: Limits
  /** what it leaves over, one sentence a part; empty: everything */
  readonly leaves: readonly string[]
  /** what was agreed to */
  readonly words?: string
  /** name of who agreed */
  readonly madeBy?: string
  readonly createdAt: number
  readonly expiresAt?: number
  readonly endedAt?: number
  /** in words */
  readonly endReason?: string
  /** the session with which it ends */
  readonly session?: string
  /** the delegation under which it was handed on */
  readonly under?: string
  /** open sessions that rest on it */
  readonly sessions: number
}

/** Whose delegations somebody may see without a verb: his own, and in his own person also those of his agents. */
export interface Own {
  readonly id: string
  readonly agents: boolean
}
export type Side = 'from' | 'to'

export const ownOf = ({ principal }: LiveSession): Own => ({
  id: principal.identityId,
  // What acts for a person is not that person: it sees what is its own alone.
  agents: principal.kind === 'user' && principal.chain.length === 1,
})

/** On which sides of it somebody stands. */
export async function sidesOf(db: Database, { fromId, toId }: Delegation, own: Own): Promise<readonly Side[]> {
  const rows = own.agents ? await db.selectFrom('identities').select(['id', 'owner_id']).where('id', 'in', [fromId, toId]).execute() : []
  const mine = (id: string) => id === own.id || rows.some((row) => row.id === id && row.owner_id === own.id)
  return [...(mine(fromId) ? (['from'] as const) : []), ...(mine(toId) ? (['to'] as const) : [])]
}

export interface Wanted {
  readonly now: number
  /** id of an identity on either side */
  readonly of?: string
  readonly mine?: Own
  /** also those that have ended */
  readonly all?: boolean
  readonly limit: number
}

/** Newest first: of more than fit, the old ones are left out. */
export async function listGiven(db: Database, { now, of, mine, all = false, limit }: Wanted): Promise<readonly Delegation[]> {
  let query = db
    .selectFrom('delegations')
    .innerJoin('identities as giver', 'giver.id', 'delegations.from_id')
    .innerJoin('identities as taker', 'taker.id', 'delegations.to_id')
    .selectAll('delegations')
  if (!all)
    query = query
      .where('delegations.ended_at', 'is', null)
      .where((row) => row.or([row('delegations.expires_at', 'is', null), row('delegations.expires_at', '>', now)]))
      .where('giver.state', '!=', 'deleted')
      .where('taker.state', '!=', 'deleted')
  if (of !== undefined) query = query.where((row) => row.or([row('delegations.from_id', '=', of), row('delegations.to_id', '=', of)]))
  if (mine)
    query = query.where((row) =>
      row.or([
        row('delegations.from_id', '=', mine.id),
        row('delegations.to_id', '=', mine.id),
        ...(mine.agents ? [row('giver.owner_id', '=', mine.id), row('taker.owner_id', '=', mine.id)] : []),
      ]),
    )
  return (await query.orderBy('delegations.id', 'desc').limit(limit).execute()).map(toDelegation)
}

/** The delegation of this id, or end of one. Throws `not_found`, and `usage` when several end so. */
export async function delegationNamed(db: Database, text: string): Promise<Delegation> {
  const end = text.startsWith('dlg_') ? text.slice(4) : text
  const rows = db.selectFrom('delegations').selectAll()
  if (isId('dlg', `dlg_${end}`)) {
    const row = await rows.where('id', '=', `dlg_${end}`).executeTakeFirst()
    if (!row) throw noSuch()
    return toDelegation(row)
  }
  if (!/^[0-9a-z]+$/.test(end)) throw noSuch()
  if (end.length < FEWEST) throw new ChaperoneError('usage', `At least ${FEWEST} characters of the end of an id are needed.`, { fix: SEE })
  const [row, another] = await rows.where('id', 'like', `%${end}`).limit(2).execute()
  if (!row) throw noSuch()
  if (another) throw new ChaperoneError('usage', `More than one delegation ends in ${end}.`, { fix: 'Write more of its id.' })
  return toDelegation(row)
}

/** With the names that identities have now. `open`: the sessions of this process. */
export async function inNames(db: Database, delegations: readonly Delegation[], open: readonly LiveSession[]): Promise<readonly DelegationRow[]> {
  const ids = [...new Set(delegations.flatMap(({ fromId, toId, madeBy }) => [fromId, toId, ...(madeBy === undefined ? [] : [madeBy])]))]
  const names = new Map<string, string>()
  for (let from = 0; from < ids.length; from += CHUNK) {
    const some = await db
      .selectFrom('identities')
      .select(['id', 'name'])
      .where('id', 'in', ids.slice(from, from + CHUNK))
      .execute()
    for (const { id, name } of some) names.set(id, name)
  }
  const resting = new Map<string, number>()
  for (const { principal } of open) {
    for (const { delegation } of principal.chain) if (delegation !== undefined) resting.set(delegation, (resting.get(delegation) ?? 0) + 1)
  }
  const nameOf = (id: string) => names.get(id) ?? id
  return delegations.map((one) => ({
    id: one.id,
    from: nameOf(one.fromId),
    to: nameOf(one.toId),
    limits: one.limits,
    leaves: limitsInWords(one.limits),
    createdAt: one.createdAt,
    sessions: resting.get(one.id) ?? 0,
    ...(one.how === undefined ? {} : { how: one.how }),
    ...(one.client === undefined ? {} : { client: one.client }),
    ...(one.words === undefined ? {} : { words: one.words }),
    ...(one.madeBy === undefined ? {} : { madeBy: nameOf(one.madeBy) }),
    ...(one.expiresAt === undefined ? {} : { expiresAt: one.expiresAt }),
    ...(one.endedAt === undefined ? {} : { endedAt: one.endedAt }),
    ...(one.endReason === undefined
      ? {}
      : { endReason: one.how === 'run' && one.endReason === 'logout' ? 'its program ended' : endWords(one.endReason) }),
    ...(one.sessionId === undefined ? {} : { session: one.sessionId }),
    ...(one.parentId === undefined ? {} : { under: one.parentId }),
  }))
}

/** Ends it, what was handed on under it, and what runs on any of that. Throws `not_found` when it has ended already. */
export async function revoke(
  { store, sessions }: { readonly store: Pick<Store, 'db'>; readonly sessions: Pick<Sessions, 'endDelegations'> },
  id: string,
  { principal }: LiveSession,
): Promise<void> {
  const row = await store.db.selectFrom('delegations').select('ended_at').where('id', '=', id).executeTakeFirst()
  if (!row || row.ended_at !== null) throw noSuch('It has ended already.')
  await sessions.endDelegations([id], 'revoked', { id: principal.identityId, name: principal.name })
}

/** The end of an id is enough where it is the only one; fewer characters could be a slip. */
const FEWEST = 6
const CHUNK = 500
const SEE = 'See: chaperone delegations ls'

/** The same of one that is not there, and of one that is nobody's business here. */
export const noSuch = (more = '') =>
  new ChaperoneError('not_found', ['There is no such delegation for you.', more].filter(Boolean).join(' '), { fix: SEE })
