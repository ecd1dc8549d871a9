import { ChaperoneError } from '../errors.ts'
import type { IdentityRecord } from '../identity/directory.ts'
import type { ApiParts } from './parts.ts'

/** Open sessions of one identity. */
const MOST_SESSIONS = 1000

/** A shim that starts over and over must not fill the store (rule 11). Throws `too_many`. */
export async function assertRoom({ store, clock }: Pick<ApiParts, 'store' | 'clock'>, { id, name }: IdentityRecord): Promise<void> {
  const { count } = await store.db
    .selectFrom('sessions')
    .select((is) => is.fn.countAll<number>().as('count'))
    .where('identity_id', '=', id)
    .where('ended_at', 'is', null)
    .where('expires_at', '>', clock.now())
    .executeTakeFirstOrThrow()
  if (count >= MOST_SESSIONS) {
    throw new ChaperoneError('too_many', `${name} has ${MOST_SESSIONS} open sessions.`, {
      fix: 'End some: chaperone sessions ls, chaperone sessions kill.',
    })
  }
}

/** Not the whole record: this goes into the answer and the record of it. */
export const shown = ({ id, name, kind }: IdentityRecord) => ({ id, name, kind })
