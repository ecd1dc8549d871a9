import { findIdentity } from '../../src/identity/directory.ts'
import type { RunningServer } from '../../src/server/start.ts'

/** A person says yes to the code of a terminal, as his browser would after the page has asked him. */
export async function sayYes({ parts }: RunningServer, name: string, code: string): Promise<void> {
  const { browsers, devices, store } = parts
  const { secret } = await browsers.begin((await findIdentity(store.db, { name }))!)
  const { session } = await browsers.open(secret)
  await devices.decide(session, (await devices.look(session, code)).id, 'yes', 'totp')
}
