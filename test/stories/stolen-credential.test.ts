import assert from 'node:assert/strict'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { InstanceList } from '../../src/api/agents-contract.ts'
import type { AuditPage } from '../../src/api/audit-contract.ts'
import type { Credential, WhoAmI } from '../../src/api/contract.ts'
import { openApi } from '../../src/client/api.ts'
import { type Held, heldOf } from '../../src/client/credential.ts'
import { makeKeyPair } from '../../src/client/key-pair.ts'
import { enrol, type Person } from '../../src/demo/person.ts'
import { startPostgres } from '../../src/demo/postgres.ts'
import { ChaperoneError, type ReasonCode } from '../../src/errors.ts'
import { type RunningServer, startServer } from '../../src/server/start.ts'
import { apply, joined } from '../parts/governed.ts'

const code = (expected: ReasonCode) => (error: unknown) => error instanceof ChaperoneError && error.code === expected

const WORLD = `
kind: user
name: boris
spec: {}
---
kind: agent
name: boris-ai
spec: { owner: boris }
---
kind: notifier
name: ops
spec: { on: ["lock.*"], webhook: { url: "https://127.0.0.1:9/", secret: ops } }
`

const LISTEN = { listen: '127.0.0.1:0', webListen: '127.0.0.1:0', postgresListen: '127.0.0.1:0', admin: 'dana', logLevel: 'silent' as const }

/** One program that holds a credential, at whichever node answers. */
const as = (t: TestContext, held: Held, server: RunningServer) => {
  const address = `localhost:${server.addresses.data.split(':').at(-1)}`
  const api = openApi({ address, authorities: held.profile.bundles.server, identity: held })
  t.after(async () => api.close())
  return api
}

const whoami = (t: TestContext, held: Held, server: RunningServer) => as(t, held, server).call<WhoAmI>('GET', '/v1/whoami')

/** Renews as the client does: a new key, a certificate for it, and the proof that it arrived. */
async function renewed(t: TestContext, held: Held, server: RunningServer, { shown = true } = {}): Promise<Held> {
  const { key, csr } = makeKeyPair()
  const next = heldOf(held.profile.address, key, await as(t, held, server).call<Credential>('POST', '/v1/renew', { csr }))
  if (shown) await as(t, next, server).call('POST', '/v1/prove', {})
  return next
}

async function signedIn(t: TestContext, server: RunningServer, dir: string): Promise<Person> {
  const dana = await enrol('dana', server.invitation!.line, join(dir, 'dana'))
  t.after(async () => dana.api.close())
  await dana.api.call('PUT', '/v1/secrets/ops', { value: `whsec_${Buffer.alloc(32, 7).toString('base64')}` })
  await apply(dana, WORLD)
  return dana
}

test('rule 6: two agents, one stolen credential: the thief is locked and the other works on, over two nodes and a rolling restart', {
  timeout: 120_000,
}, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-stolen-'))
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
  const postgres = await startPostgres({ dir: join(dir, 'store') })
  t.after(() => postgres.stop())
  const options = (name: string) => ({ ...LISTEN, dataDir: join(dir, name), store: postgres.superuserUrl })
  const nodes: RunningServer[] = [await startServer(options('one'))]
  t.after(() => Promise.all(nodes.map((node) => node.stop())))
  const dana = await signedIn(t, nodes[0]!, dir)
  const rootKey = join(dir, 'one.root-key')
  nodes.push(await startServer({ ...options('two'), rootKey }))
  const [one, two] = nodes as [RunningServer, RunningServer]

  // Two copies of the same agent, each with a join token of its own. Somebody copies the key and certificate of the first.
  const stolen = await joined(dana, 'boris-ai', '10m')
  let other = await joined(dana, 'boris-ai', '10m')
  const first = await renewed(t, stolen, one)
  await whoami(t, first, two)
  const live = two.parts.sessions
    .list()
    .find(({ id }) => id === stolen.profile.session)!
    .connect('postgres')
  const mate =
    (await whoami(t, other, two)) &&
    two.parts.sessions
      .list()
      .find(({ id }) => id === other.profile.session)!
      .connect('postgres')

  // The thief keeps what he has alive, at the other node. Connections are cut before anybody is answered.
  await assert.rejects(renewed(t, stolen, two))
  await one.parts.raised(await one.parts.store.epoch())
  assert.equal((live.signal.reason as ChaperoneError).code, 'locked')
  for (const held of [stolen, first]) for (const node of nodes) await assert.rejects(whoami(t, held, node), code('locked'))
  assert.equal(mate.signal.aborted, false)
  for (const node of nodes) other = await renewed(t, other, node)

  // His people see which one it is, and whoever is told of locks is told.
  const { instances } = await dana.api.call<InstanceList>('GET', '/v1/instances?of=boris-ai')
  assert.deepEqual(
    instances.map(({ id, state }) => [id, state]).sort(),
    [
      [stolen.profile.session, 'locked'],
      [other.profile.session, 'live'],
    ].sort(),
  )
  assert.match(instances.find(({ state }) => state === 'locked')?.why ?? '', /somebody holds a copy/)
  assert.ok(instances.every(({ cameFrom }) => cameFrom?.includes('127.0.0.1')))
  const found = await dana.api.call<AuditPage>('GET', '/v1/audit?type=credential.copied')
  assert.deepEqual(
    found.records.map(({ actor, session }) => [actor, session]),
    [['boris-ai', stolen.profile.session]],
  )
  const told = await one.parts.store.db.selectFrom('deliveries').select(['event', 'payload']).execute()
  assert.deepEqual(
    told.map(({ event }) => event),
    ['lock.made'],
  )
  assert.match(told[0]?.payload ?? '', new RegExp(stolen.profile.session))

  // It joins anew, and works: nobody has to lift anything.
  let again = await joined(dana, 'boris-ai', '10m')
  again = await renewed(t, again, two)

  // Each node is stopped and started while the other one answers. An answer of the old one never arrived.
  for (const [i, name] of ['one', 'two'].entries()) {
    const [here, there] = [nodes[i]!, nodes[1 - i]!]
    await renewed(t, other, here, { shown: false })
    await here.stop()
    other = await renewed(t, other, there)
    nodes[i] = await startServer({ ...options(name), rootKey })
    other = await renewed(t, other, nodes[i]!)
    again = await renewed(t, again, nodes[i]!)
    await assert.rejects(whoami(t, first, nodes[i]!), code('locked'))
  }
  const locks = await nodes[0]!.parts.store.db.selectFrom('locks').selectAll().execute()
  assert.equal(locks.length, 1)
})

test('a data directory that was set back to a backup locks no honest agent, and still finds a copy (peers R65)', { timeout: 180_000 }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-backup-'))
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
  const options = { ...LISTEN, dataDir: join(dir, 'data') }
  let server = await startServer(options)
  t.after(() => server.stop())
  const dana = await signedIn(t, server, dir)
  const stolen = await joined(dana, 'boris-ai', '10m')
  let held = await renewed(t, stolen, server)
  await server.stop()
  await cp(join(dir, 'data'), join(dir, 'backup'), { recursive: true })

  server = await startServer(options)
  for (let i = 0; i < 3; i++) held = await renewed(t, held, server)
  // What came after the backup is gone with it.
  const late = await joined({ ...dana, api: as(t, { ...held, ...dana.profile, profile: dana.profile }, server) }, 'boris-ai', '10m')
  await server.stop()
  await rm(join(dir, 'data'), { recursive: true })
  await cp(join(dir, 'backup'), join(dir, 'data'), { recursive: true })

  server = await startServer(options)
  for (let i = 0; i < 3; i++) held = await renewed(t, held, server)
  if (late)
    await assert.rejects(whoami(t, late, server), code('credential_invalid'), 'a session that the backup does not know is none, and locks nobody')
  assert.equal((await server.parts.store.db.selectFrom('locks').selectAll().execute()).length, 0)
  await assert.rejects(renewed(t, stolen, server))
  for (const one of [stolen, held]) await assert.rejects(whoami(t, one, server), code('locked'))
})
