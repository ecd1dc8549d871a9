import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import type { IdentityRecord } from '../../identity/directory.ts'
import type { EndReason } from '../../identity/end-reasons.ts'
import { givenIn } from '../../identity/given.ts'
import type { Sessions } from '../../identity/types.ts'
import type { Database, Store, Write } from '../../store/store.ts'
import type { AccountTable } from '../../store/tables-identity.ts'

export interface PeopleParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly sessions: Pick<Sessions, 'end'>
  /** The epoch has risen: resolves when every node knows. */
  readonly raised: (epoch: number) => Promise<void>
  /** Asked inside the transaction that takes rights away. Throws `conflict` when nobody would be left who could undo it. */
  readonly administratorLeft: (trx: Write) => Promise<void>
  /** Tells people outside, in the transaction of what happened. */
  readonly told: (trx: Write, notice: { readonly type: 'refused'; readonly directory: string; readonly what: string }) => Promise<void>
  readonly clock: Clock
}

/** The directory wants to take away the last one who could undo it: whoever has stolen its token would lock the house. */
export class LastAdministrator extends Error {
  override readonly name = 'LastAdministrator'
}

export interface DirectoryChange {
  readonly type: 'directory.changed'
  readonly actor?: { readonly id: string; readonly name: string; readonly kind: 'user' }
  readonly data: Readonly<Record<string, unknown>>
}

/** How a change by a directory stands in the record. */
export function changed(directory: string, person: Pick<IdentityRecord, 'id' | 'name'>, what: string, more: Readonly<Record<string, unknown>> = {}) {
  return { type: 'directory.changed', actor: { id: person.id, name: person.name, kind: 'user' }, data: { directory, what, ...more } } as const
}

/** Whether the directory gives the person something else than it did. Asked before: each change raises the epoch. */
export async function givesOther(
  db: Database | Write,
  identityId: string,
  directory: string,
  { roles, traits }: { readonly roles: readonly string[]; readonly traits?: Readonly<Record<string, unknown>> | undefined },
): Promise<boolean> {
  const row = await db.selectFrom('identities').select('given').where('id', '=', identityId).executeTakeFirst()
  const was = givenIn(row?.given ?? null)?.from[directory] ?? { roles: [], traits: {} }
  return canonicalJson([was.roles, was.traits]) !== canonicalJson([roles, traits ?? was.traits])
}

/**
 * Somebody has left, or is held back at the company: he is disabled, unless somebody did that already. Inside `reduceRights`; then
 * `endSessionsOf`. His agents stop with the same epoch, for nobody answers for them any more (access/state.ts).
 */
export async function stopPerson(trx: Write, identityId: string, now: number): Promise<void> {
  await trx
    .updateTable('identities')
    .set({ state: 'disabled', stopped: 'directory', updated_at: now })
    .where('id', '=', identityId)
    .where('state', '=', 'active')
    .execute()
  // What was sent to him while he was here opens nothing when he is back.
  await trx.deleteFrom('invitations').where('identity_id', '=', identityId).where('used_at', 'is', null).execute()
}

/**
 * What takes rights away because a directory says so. A directory is believed, but for one thing: somebody must be left who can undo it.
 * Otherwise nothing has changed, it is a record and told outside, and LastAdministrator is thrown. `what`: the record of the change.
 */
export async function reduceRights<T>(
  { store, audit, administratorLeft, told }: Pick<PeopleParts, 'store' | 'audit' | 'administratorLeft' | 'told'>,
  what: DirectoryChange,
  work: (trx: Write) => Promise<T>,
): Promise<{ readonly result: T; readonly epoch: number }> {
  try {
    return await store.reduce(async (trx) => {
      const result = await work(trx)
      await administratorLeft(trx).catch((error: unknown) => {
        throw error instanceof ChaperoneError && error.code === 'conflict' ? new LastAdministrator(error.message, { cause: error }) : error
      })
      return result
    })
  } catch (error) {
    if (error instanceof LastAdministrator) {
      await audit.append({
        ...what,
        data: { ...what.data, refused: 'nobody would be left to administer' },
        outcome: { status: 'refused', reason: 'conflict' },
      })
      await store.write((trx) => told(trx, { type: 'refused', directory: String(what.data.directory), what: String(what.data.what) }))
    }
    throw error
  }
}

/** He is back: he may act again if it was a directory that stopped him, and no other one still does. Inside `store.reduce`. */
export async function revivePerson(trx: Write, identityId: string, now: number): Promise<void> {
  const away = await trx
    .selectFrom('accounts')
    .select('id')
    .where('identity_id', '=', identityId)
    .where((row) => row.or([row('active', '=', 0), row('deleted_at', 'is not', null)]))
    .executeTakeFirst()
  if (away) return
  await trx
    .updateTable('identities')
    .set({ state: 'active', stopped: null, updated_at: now })
    .where('id', '=', identityId)
    .where('state', '=', 'disabled')
    .where('stopped', '=', 'directory')
    .execute()
}

/** Everything that runs as him or on his behalf is over for good: whoever is let back in signs in again, and no certificate of before comes back with him. */
export async function endSessionsOf(
  { store, sessions }: Pick<PeopleParts, 'store' | 'sessions'>,
  identityId: string,
  reason: EndReason,
): Promise<void> {
  const rows = await store.db
    .selectFrom('sessions')
    .select('id')
    .where('ended_at', 'is', null)
    .where((row) => row.or([row('identity_id', '=', identityId), row('chain', 'like', `%"${identityId}"%`)]))
    .execute()
  if (rows.length > 0)
    await sessions.end(
      rows.map((row) => row.id),
      reason,
    )
}

export const isHere = ({ active, deleted_at }: Pick<AccountTable, 'active' | 'deleted_at'>): boolean => active === 1 && deleted_at === null
