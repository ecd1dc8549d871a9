import { ChaperoneError } from '../errors.ts'
import { isId } from '../ids.ts'
import type { ApiParts } from './parts.ts'

/** The end of an id is enough where it is the only one: nobody copies thirty characters in an emergency. Fewer could be a slip. */
const FEWEST = 6

/** The live session of this id or end of one. Throws `not_found`, and `usage` when several end so. */
export async function sessionNamed({ store, clock }: Pick<ApiParts, 'store' | 'clock'>, text: string) {
  const sessions = store.db.selectFrom('sessions').selectAll().where('ended_at', 'is', null).where('expires_at', '>', clock.now())
  const end = text.startsWith('ses_') ? text.slice(4) : text
  const none = () => new ChaperoneError('not_found', 'There is no such session, or it is over.', { fix: 'See: chaperone sessions ls' })
  if (isId('ses', `ses_${end}`)) {
    const row = await sessions.where('id', '=', `ses_${end}`).executeTakeFirst()
    if (!row) throw none()
    return row
  }
  if (!/^[0-9a-z]+$/.test(end)) throw none()
  if (end.length < FEWEST)
    throw new ChaperoneError('usage', `At least ${FEWEST} characters of the end of an id are needed.`, { fix: 'See: chaperone sessions ls' })
  const [row, another] = await sessions.where('id', 'like', `%${end}`).limit(2).execute()
  if (!row) throw none()
  if (another) throw new ChaperoneError('usage', `More than one session ends in ${end}.`, { fix: 'Write more of its id.' })
  return row
}
