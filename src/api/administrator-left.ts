import { administrators } from '../documents/administrators.ts'
import { loadSnapshot } from '../documents/stored.ts'
import { worldOf } from '../documents/world.ts'
import { ChaperoneError } from '../errors.ts'
import { activeLocks, lockFor } from '../identity/locks.ts'
import type { Write } from '../store/store.ts'
import type { ApiParts } from './parts.ts'

/**
 * Somebody must be left who can undo it: asked inside the transaction of a change that takes rights away, which then
 * rolls back. Throws `conflict`.
 */
export async function assertAdministratorLeft(
  { vocabularies, chaperone, clock }: Pick<ApiParts, 'vocabularies' | 'chaperone' | 'clock'>,
  trx: Write,
): Promise<void> {
  const now = clock.now()
  const world = worldOf(await loadSnapshot(trx))
  const locks = await activeLocks(trx, now)
  const left = administrators(world, vocabularies, chaperone, now).some((identity) => lockFor(locks, { now, links: [{ identity }] }) === undefined)
  if (left) return
  throw new ChaperoneError('conflict', 'After this nobody could administer Chaperone any more; nothing was changed.', {
    fix: 'Give somebody else the role of an administrator first, or lock the session instead of the person.',
  })
}
