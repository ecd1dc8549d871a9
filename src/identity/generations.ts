import { ChaperoneError } from '../errors.ts'
import { isId, timeOfId } from '../ids.ts'
import type { Store } from '../store/store.ts'
import type { SessionTable } from '../store/tables.ts'
import { activeLocks, locked, lockFor } from './locks.ts'

/**
 * Which of a session's credentials asks for the next one. Each is renewed once, so the second who renews it holds a copy: the
 * thief, or the one he stole from; nobody can say which.
 *
 *   newest    as it should be
 *   lost      the one before, and the newest was never shown by anybody: its answer got lost on the way, so it is asked again
 *   ahead     newer than all the row knows of: the store was set back to a backup; nobody is accused (peers R65)
 *   copy      anything older
 */
export type Generation = 'newest' | 'lost' | 'ahead' | 'copy'

/** What stands where a session's credential before the newest would: nobody has shown the first one yet. */
export const UNSHOWN = 'unshown'

/** The row keeps the one before only for as long as the newest has not been shown. */
export type Generations = Pick<SessionTable, 'newest_credential' | 'previous_credential'>

/** Pure. */
export function generationOf({ newest_credential: newest, previous_credential: previous }: Generations, asked: string): Generation {
  // A row without one: nothing was renewed in it yet.
  if (newest === null || newest === asked) return 'newest'
  if (previous === asked) return 'lost'
  if (isId('crd', newest) && isId('crd', asked) && timeOfId(asked) > timeOfId(newest)) return 'ahead'
  return 'copy'
}

/** Two renewals of one session at the same moment are one too many already; this many are somebody at play. */
const MOST_TRIES = 20

export interface NextCredential {
  readonly sessionId: string
  /** of the certificate that asks */
  readonly asked: string
  /** of the one that is to be issued */
  readonly next: string
  readonly now: number
}

/**
 * Writes down that `next` takes the place of `asked`, if that one may still be renewed. Returns what it was; on `copy` nothing
 * was written. A lock is looked for in the same transaction: one that came while the request was under way gets no way around
 * it. Throws `session_ended`, `locked`.
 */
export async function takeGeneration(store: Store, { sessionId, asked, next, now }: NextCredential): Promise<Generation> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const taken = await store.write(async (trx) => {
      const row = await trx
        .selectFrom('sessions')
        .select(['newest_credential', 'previous_credential', 'ended_at', 'parent_id'])
        .where('id', '=', sessionId)
        .executeTakeFirst()
      if (!row || row.ended_at !== null) throw new ChaperoneError('session_ended', 'The session is over.')
      const lock = lockFor(await activeLocks(trx, now), {
        now,
        sessionId,
        credentialId: asked,
        links: [],
        ...(row.parent_id === null ? {} : { parentId: row.parent_id }),
      })
      if (lock) throw locked(lock)
      const generation = generationOf(row, asked)
      if (generation === 'copy') return generation
      // On PostgreSQL another node may have been here since the row was read: then it is read again.
      const { numUpdatedRows } = await trx
        .updateTable('sessions')
        .set({ newest_credential: next, previous_credential: asked })
        .where('id', '=', sessionId)
        .where('newest_credential', 'is not distinct from', row.newest_credential)
        .where('previous_credential', 'is not distinct from', row.previous_credential)
        .executeTakeFirstOrThrow()
      return numUpdatedRows === 0n ? undefined : generation
    })
    if (taken) return taken
  }
  throw new ChaperoneError('conflict', 'The credential of this session is being renewed by others all the time.')
}

/** Somebody has shown this one: if it is the newest, the one before is no longer good for renewing. */
export async function confirmGeneration(store: Store, sessionId: string, credentialId: string): Promise<void> {
  await store.write((trx) =>
    trx
      .updateTable('sessions')
      .set({ previous_credential: null })
      .where('id', '=', sessionId)
      .where('newest_credential', '=', credentialId)
      .where('previous_credential', 'is not', null)
      .execute(),
  )
}
