import type { RunningServer } from '../../src/server/start.ts'
import { stepAt, totpCode } from '../../src/signin/totp.ts'

const OPENED = new Map<string, Uint8Array>()

/** The code that the app of this person shows now; whatever step he used before counts as not used, so that no test waits for the next one. */
export async function codeOf({ store, keyring }: RunningServer['parts'], name: string): Promise<string> {
  const row = await store.db
    .selectFrom('factors')
    .innerJoin('identities', 'identities.id', 'factors.identity_id')
    .select(['factors.id', 'factors.identity_id', 'factors.sealed'])
    .where('identities.name', '=', name)
    .where('last_step', '>=', 0)
    .executeTakeFirstOrThrow()
  const secret = OPENED.get(row.id) ?? (await keyring.open('factors', row.sealed, `totp ${row.id} ${row.identity_id}`))
  OPENED.set(row.id, secret)
  await store.write((trx) => trx.updateTable('factors').set({ last_step: 0 }).where('id', '=', row.id).execute())
  return totpCode(secret, stepAt(Date.now()))
}
