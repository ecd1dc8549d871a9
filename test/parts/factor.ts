import type { RunningServer } from '../../src/server/start.ts'
import { stepAt, totpCode } from '../../src/signin/totp.ts'

const OPENED = new Map<string, Uint8Array>()

/** The secret of the app of this person, and the row that it stands in. */
async function factorOf({ store, keyring }: RunningServer['parts'], name: string) {
  const row = await store.db
    .selectFrom('factors')
    .innerJoin('identities', 'identities.id', 'factors.identity_id')
    .select(['factors.id', 'factors.identity_id', 'factors.sealed'])
    .where('identities.name', '=', name)
    .where('last_step', '>=', 0)
    .executeTakeFirstOrThrow()
  const secret = OPENED.get(row.id) ?? (await keyring.open('factors', row.sealed, `totp ${row.id} ${row.identity_id}`))
  OPENED.set(row.id, secret)
  return { id: row.id, secret }
}

/** A code that this person's app shows neither now nor in the next minutes: any fixed one is the right one now and then. */
export async function wrongCodeOf(parts: RunningServer['parts'], name: string): Promise<string> {
  const { secret } = await factorOf(parts, name)
  const right = Array.from({ length: 40 }, (_, i) => totpCode(secret, stepAt(Date.now()) - 2 + i))
  return Array.from({ length: 41 }, (_, i) => String(i * 11_111).padStart(6, '0')).find((code) => !right.includes(code))!
}

/** The code that the app of this person shows now; whatever step he used before counts as not used, so that no test waits for the next one. */
export async function codeOf(parts: RunningServer['parts'], name: string): Promise<string> {
  const { id, secret } = await factorOf(parts, name)
  await parts.store.write((trx) => trx.updateTable('factors').set({ last_step: 0 }).where('id', '=', id).execute())
  return totpCode(secret, stepAt(Date.now()))
}
