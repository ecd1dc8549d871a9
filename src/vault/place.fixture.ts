import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { type FakeOAuth, fakeOAuth } from '../../test/fakes/oauth-server.ts'
import type { Draft } from '../audit/record.ts'
import { type Clock, systemClock } from '../clock.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { openStore } from '../store/open.ts'
import type { LoginsParts } from './logins.ts'
import { openLogins } from './oauth.ts'

/** What logins stand on: a real store and keyring, an authorization server that answers, a clock that can be put ahead, and what was recorded and masked. */
export async function loginsPlace(t: TestContext, given?: FakeOAuth) {
  const fake = given ?? (await fakeOAuth())
  t.after(() => fake.close())
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-logins-'))
  let ahead = 0
  const clock: Clock = { now: () => systemClock.now() + ahead, at: (at, wake) => systemClock.at(at - ahead, wake) }
  const store = await openStore({ dataDir: dir }, { clock })
  t.after(async () => {
    await store.close()
    await rm(dir, { recursive: true, force: true })
    await rm(`${dir}.key`, { force: true })
  })
  const keyring = await openKeyring(store, await loadRootKey({ store, createAt: `${dir}.key` }), clock)
  const records: Draft[] = []
  const secrets: string[] = []
  const audit: LoginsParts['audit'] = {
    async append(draft) {
      records.push(draft)
      return { id: 'rec', seq: records.length }
    },
    addSecrets: (values) => void secrets.push(...values),
  }
  const open = (more: Pick<LoginsParts, 'reveal'> & Partial<LoginsParts>) => openLogins({ store, keyring, clock, audit, ...more })
  const advance = (ms: number) => {
    ahead += ms
  }
  return { fake, store, keyring, clock, records, secrets, open, advance }
}
