import { ADMINISTRATORS_VERBS, type Verb } from '../access/administration.ts'
import { holdersOf, lostVerb } from '../documents/administrators.ts'
import { loadSnapshot } from '../documents/stored.ts'
import { worldOf } from '../documents/world.ts'
import { ChaperoneError } from '../errors.ts'
import { activeLocks, lockFor } from '../identity/locks.ts'
import type { Database, Write } from '../store/store.ts'
import type { ApiParts } from './parts.ts'

/**
 * Somebody must be left who can undo it: asked inside the transaction of a change that takes rights away, which then
 * rolls back. What a lock takes is not lost as long as somebody may lift it, so that no verb beyond those keeps anybody
 * from being locked. Throws `conflict`.
 */
export async function assertAdministratorLeft(
  { store, vocabularies, chaperone, clock }: Pick<ApiParts, 'store' | 'vocabularies' | 'chaperone' | 'clock'>,
  trx: Write,
): Promise<void> {
  const now = clock.now()
  const holdersIn = async (db: Database | Write) => {
    const world = worldOf(await loadSnapshot(db))
    const locks = await activeLocks(db, now)
    const held = holdersOf(world, vocabularies, chaperone, now)
    const free = holdersOf(world, vocabularies, chaperone, now, (identity) => lockFor(locks, { now, links: [{ identity }] }) === undefined)
    return (verb: Verb) => (ADMINISTRATORS_VERBS.has(verb) ? free(verb) : held(verb))
  }
  // Outside the transaction nothing has changed yet.
  const verb = lostVerb(await holdersIn(store.db), await holdersIn(trx))
  if (verb === undefined) return
  throw new ChaperoneError('conflict', `After this nobody who may \`${verb}\` would be left to administer Chaperone; nothing was changed.`, {
    fix: ADMINISTRATORS_VERBS.has(verb)
      ? 'Give somebody else the role of an administrator first, or lock the session instead of the person.'
      : 'Whoever holds the verb gives it to somebody else first. To stop him now: chaperone lock add identity NAME, which loses nothing.',
  })
}
