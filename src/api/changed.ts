import { ChaperoneError } from '../errors.ts'
import type { IdentityRecord } from '../identity/directory.ts'
import { findIdentity } from '../identity/directory.ts'
import type { Write } from '../store/store.ts'
import type { ApiParts } from './parts.ts'

/**
 * A change that can take rights away: done, and answered only when no node acts on what was before (design 3.5).
 * The record of it must already be written.
 */
export async function reduceRights<T>(
  { store, lease, clock }: Pick<ApiParts, 'store' | 'lease' | 'clock'>,
  work: (trx: Write) => Promise<T>,
): Promise<{ readonly result: T; readonly acknowledgedMs: number }> {
  const began = clock.now()
  const { result, epoch } = await store.reduce(work)
  lease.noticed(epoch)
  await lease.confirmed(epoch)
  return { result, acknowledgedMs: Math.max(0, clock.now() - began) }
}

/** The identity of this name or id that is not deleted. Throws `not_found`. */
export async function knownIdentity({ store }: Pick<ApiParts, 'store'>, nameOrId: string): Promise<IdentityRecord> {
  const identity = (await findIdentity(store.db, { name: nameOrId })) ?? (await findIdentity(store.db, { id: nameOrId }))
  if (!identity || identity.state === 'deleted') throw new ChaperoneError('not_found', `There is no identity ${nameOrId}.`)
  return identity
}
