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
    const held = holdersOf(worldOf(await loadSnapshot(db)), vocabularies, chaperone, now)
    const locks = await activeLocks(db, now)
    return function* (verb: Verb) {
      for (const identity of held(verb))
        if (!ADMINISTRATORS_VERBS.has(verb) || lockFor(locks, { now, links: [{ identity }] }) === undefined) yield identity
    }
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
