import type { Named } from '../audit/record.ts'
import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Limits } from '../policy/types.ts'
import type { Database, Write } from '../store/store.ts'
import type { DelegationTable } from '../store/tables.ts'
import type { ChainLink } from './types.ts'

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
}

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

/** Throws `usage` for a delegation to oneself, or one that is over before it begins. */
export async function makeDelegation(trx: Write, ask: MakeDelegation): Promise<Delegation> {
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
  }
  await trx.insertInto('delegations').values(row).execute()
  return toDelegation(row)
}

/** Ends a delegation. Call it inside `store.reduce`. Throws `not_found` when there is none, or it ended already. */
export async function endDelegation(trx: Write, id: string, now: number): Promise<void> {
  const { numUpdatedRows } = await trx
    .updateTable('delegations')
    .set({ ended_at: now })
    .where('id', '=', id)
    .where('ended_at', 'is', null)
    .executeTakeFirstOrThrow()
  if (numUpdatedRows === 0n) throw new ChaperoneError('not_found', 'There is no such delegation, or it has ended already.')
}

/** The delegations that stand, from or to an identity, oldest first. */
export async function listDelegations(
  db: Database | Write,
  filter: { readonly fromId?: string; readonly toId?: string; readonly now: number; readonly limit?: number },
): Promise<Delegation[]> {
  let query = db
    .selectFrom('delegations')
    .selectAll()
    .where('ended_at', 'is', null)
    .where((row) => row.or([row('expires_at', 'is', null), row('expires_at', '>', filter.now)]))
  if (filter.fromId !== undefined) query = query.where('from_id', '=', filter.fromId)
  if (filter.toId !== undefined) query = query.where('to_id', '=', filter.toId)
  return (
    await query
      .orderBy('id')
      .limit(filter.limit ?? 1000)
      .execute()
  ).map(toDelegation)
}

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

function toDelegation(row: DelegationTable): Delegation {
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
  }
}
