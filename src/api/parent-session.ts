import { ChaperoneError } from '../errors.ts'
import type { ApiParts } from './parts.ts'

/** When the session ends from which another one is made. Throws `session_ended`. */
export async function parentSession({ store }: Pick<ApiParts, 'store'>, id: string): Promise<{ readonly expires_at: number }> {
  const row = await store.db.selectFrom('sessions').select(['expires_at', 'ended_at']).where('id', '=', id).executeTakeFirst()
  if (!row || row.ended_at !== null) throw new ChaperoneError('session_ended', 'The session is over.')
  return row
}
