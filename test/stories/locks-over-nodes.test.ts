import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Credential, Invitation, LockRow, SessionRow } from '../../src/api/contract.ts'
import { openApi } from '../../src/client/api.ts'
import { makeKeyPair } from '../../src/client/key-pair.ts'
import { join as joinAs } from '../../src/client/sign-in.ts'
import { enrol } from '../../src/demo/person.ts'
import { startPostgres } from '../../src/demo/postgres.ts'
import { ChaperoneError, type ReasonCode } from '../../src/errors.ts'
import { startServer } from '../../src/server/start.ts'
import { apply, governed, issued } from '../parts/governed.ts'

const code = (expected: ReasonCode) => (error: unknown) => error instanceof ChaperoneError && error.code === expected

const WORLD = `
kind: user
name: boris
spec: {}
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [short] }
---
kind: role
name: short
spec: { sessions: { concurrent: 2 } }
---
kind: tripwire
name: refusals
spec: { when: { refused: { more_than: 5, within: 1m } }, lock: session, for: 15m }
`

test('rule 6: a lock made on one node cuts on the other, is kept over a restart, and ends by itself', { timeout: 180_000 }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-nodes-'))
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
  const postgres = await startPostgres({ dir: join(dir, 'store') })
  t.after(() => postgres.stop())
  const options = (name: string) => ({
    ...{ dataDir: join(dir, name), store: postgres.superuserUrl, rootKey: join(dir, 'root-key'), admin: 'dana', logLevel: 'silent' as const },
    ...{ listen: '127.0.0.1:0', webListen: '127.0.0.1:0', postgresListen: '127.0.0.1:0' },
  })
  const { rootKey, ...first } = options('one')
  const one = await startServer(first)
  t.after(() => one.stop())
  const dana = await enrol('dana', one.invitation!.line, join(dir, 'dana'))
  t.after(async () => dana.api.close())
  const two = await startServer({ ...options('two'), rootKey: join(dir, 'one.root-key') })
  let second = two
  t.after(() => second.stop())
  await apply(dana, WORLD)
  const held = await issued(dana, 'boris-ai', '10m')
  const at = (server: typeof one) => `localhost:${server.addresses.data.split(':').at(-1)}`
  const there = openApi({ address: at(two), authorities: held.profile.bundles.server, identity: held })
  t.after(async () => there.close())
  await there.call('GET', '/v1/whoami')
  const [session] = two.parts.sessions.list().filter(({ id }) => id === held.profile.session)
  const connection = session!.connect('postgres')
  const cut = new Promise<void>((done) => connection.signal.addEventListener('abort', () => done()))

  const began = performance.now()
  const lock = await dana.api.call<LockRow>('POST', '/v1/locks', { kind: 'agents', target: '*', reason: 'stop all', ttl: '1h' })
  // The acknowledgement is that of both: by then it is cut over there, or that node has no lease, and lets nothing through.
  assert.ok(connection.signal.aborted || !two.parts.lease.valid())
  await cut
  assert.ok(performance.now() - began < 20_000)
  await assert.rejects(there.call('GET', '/v1/whoami'), (error: unknown) => error instanceof ChaperoneError)

  await second.stop()
  second = await startServer({ ...options('two'), rootKey: join(dir, 'one.root-key') })
  const again = openApi({ address: at(second), authorities: held.profile.bundles.server, identity: held })
  t.after(async () => again.close())
  await assert.rejects(again.call('GET', '/v1/whoami'), code('locked'))
  // Its end passes: nobody has to lift it, and no epoch rises.
  await one.parts.store.write((trx) =>
    trx
      .updateTable('locks')
      .set({ expires_at: Date.now() - 1 })
      .where('id', '=', lock.id)
      .execute(),
  )
  await one.parts.raised((await one.parts.store.reduce(async () => {})).epoch)
  await again.call('GET', '/v1/whoami')

  await t.test('a copy that renews is found out on whatever node it comes, and both are cut', async () => {
    const { invitation } = await dana.api.call<Invitation>('POST', '/v1/invitations', { name: 'boris-ai' })
    const profile = await joinAs(invitation)
    const api = (server: typeof one, identity: { readonly key: string; readonly certificate: string }) => {
      const opened = openApi({ address: at(server), authorities: profile.bundles.server, identity })
      t.after(async () => opened.close())
      return opened
    }
    const honest = makeKeyPair()
    const next = await api(one, profile).call<Credential>('POST', '/v1/renew', { csr: honest.csr })
    const renewed = api(one, { key: honest.key, certificate: next.certificate })
    await renewed.call('POST', '/v1/prove', {})
    const elsewhere = one.parts.sessions
      .list()
      .find(({ id }) => id === profile.session)!
      .connect('test')
    const cut = new Promise<void>((done) => elsewhere.signal.addEventListener('abort', () => done()))
    // Connections are cut before anybody is answered, the thief's first; a new one is told why.
    await assert.rejects(api(second, profile).call('POST', '/v1/renew', { csr: makeKeyPair().csr }))
    await assert.rejects(api(second, profile).call('GET', '/v1/whoami'), code('locked'))
    await cut
    await assert.rejects(renewed.call('GET', '/v1/whoami'))
    await assert.rejects(api(second, { key: honest.key, certificate: next.certificate }).call('GET', '/v1/whoami'), code('locked'))
    // Peers R64: the identity itself goes on, in its other session.
    await again.call('GET', '/v1/whoami')
  })
})

test('a tripwire locks the session that is refused too often; a role limits how many there are; nobody else notices', {
  timeout: 180_000,
}, async (t) => {
  const { server, dana } = await governed(t)
  await apply(dana, WORLD)
  const [held, other] = [await issued(dana, 'boris-ai', '10m'), await issued(dana, 'boris-ai', '10m')]
  await assert.rejects(issued(dana, 'boris-ai', '10m'), code('too_many'))
  const api = openApi({ address: dana.profile.address, authorities: dana.profile.bundles.server, identity: held })
  const beside = openApi({ address: dana.profile.address, authorities: dana.profile.bundles.server, identity: other })
  t.after(async () => {
    api.close()
    beside.close()
  })
  const made = new Promise<void>((done) => {
    const stop = server.parts.audit.watch((record) => {
      if (record.type !== 'lock.made') return
      stop()
      done()
    })
  })
  for (let i = 0; i < 6; i++) await assert.rejects(api.call('GET', '/v1/audit'), code('no_rule'))
  await made
  let locks: LockRow[] = []
  while (locks.length === 0) ({ locks } = await dana.api.call<{ locks: LockRow[] }>('GET', '/v1/locks'))
  assert.deepEqual(
    locks.map(({ kind, target, madeBy }) => [kind, target, madeBy]),
    [['session', held.profile.session, 'refusals']],
  )
  await assert.rejects(
    (async () => {
      for (;;) await api.call('GET', '/v1/whoami')
    })(),
    (error: unknown) => error instanceof ChaperoneError,
  )
  await beside.call('GET', '/v1/whoami')
  const { sessions } = await dana.api.call<{ sessions: SessionRow[] }>('GET', '/v1/sessions?of=boris-ai')
  assert.equal(sessions.length, 2)
})
