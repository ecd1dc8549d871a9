import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import type { LiveSession } from '../identity/types.ts'
import type { DatabaseChecked, DatabaseSetupSteps, DatabaseSigned } from './databases-contract.ts'
import { csr, openHouse } from './house.fixture.ts'

const DOCUMENTS = `kind: postgres
name: orders
labels: { env: prod }
spec: { address: "127.0.0.1:1", databases: [orders] }
---
kind: role
name: applier
spec: { allow: [{ chaperone: any, verbs: [apply] }] }
---
kind: role
name: analyst
spec:
  allow:
    - { postgres: { labels: { env: prod } }, databases: any, as: analyst_ro, can: read }
    - { postgres: orders, databases: any, as: [order_app, "tmp_*", "{{identity.name}}"], can: [read, write] }
    - { postgres: elsewhere-*, databases: any, as: other, can: read }
  ask:
    - { postgres: orders, databases: any, as: dba, statements: [ddl] }
---
kind: user
name: carla
spec: { roles: [applier] }
---
kind: user
name: boris
spec: { roles: [watcher] }
---
kind: role
name: watcher
spec: { allow: [{ chaperone: any, verbs: [audit.read] }] }
`

async function house(t: TestContext) {
  const made = await openHouse(t)
  const dana = await made.signIn('dana')
  const { status, value } = await made.ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: DOCUMENTS }] })
  assert.equal(status, 200, JSON.stringify(value))
  return { ...made, dana, carla: await made.signIn('carla'), boris: await made.signIn('boris') }
}

const wish = (spec: object) => ({ name: 'shop', spec: { address: '127.0.0.1:1', databases: ['shop'], ...spec } })

test('rule 9: each of these ways takes its verb, and looking at a server what applying its document would take', async (t) => {
  const { ask, boris, carla, dana, records } = await house(t)
  const code = async (who: LiveSession, method: string, path: string, body?: unknown) => (await ask(who, method, path, body)).code
  for (const [method, path, body] of [
    ['POST', '/v1/databases/look', wish({})],
    ['GET', '/v1/databases/orders/setup', undefined],
    ['POST', '/v1/databases/orders/check', { read: [], write: [] }],
    ['POST', '/v1/databases/orders/server-certificate', { csr: csr() }],
  ] as const)
    assert.equal(await code(boris, method, path, body), 'no_rule', path)
  assert.equal(await code(carla, 'POST', '/v1/databases/orders/server-certificate', { csr: csr() }), 'no_rule')
  const sealed = wish({ auth: { password: { app: { secret: 'shop/app' } } } })
  const refused = await ask<{ error: { problems: { message: string }[] } }>(carla, 'POST', '/v1/databases/look', sealed)
  assert.match(JSON.stringify(refused.value), /`secrets`/)
  // Allowed, and nobody is there.
  for (const who of [carla, dana]) assert.equal(await code(who, 'POST', '/v1/databases/look', wish({})), 'upstream_unavailable')
  assert.ok(records.some(({ type, action }) => type === 'action.intent' && action?.summary === 'look at the database server shop'))
})

test('the users are those that were named, else those of the roles, else one to read with', async (t) => {
  const { ask, carla } = await house(t)
  const users = async (query: string) => (await ask<DatabaseSetupSteps>(carla, 'GET', `/v1/databases/orders/setup${query}`)).value.users
  assert.deepEqual(await users(''), [
    { name: 'analyst_ro', reads: true },
    { name: 'dba', reads: false },
    { name: 'order_app', reads: false },
  ])
  assert.deepEqual(await users('?read=a&read=b&write=b'), [
    { name: 'a', reads: true },
    { name: 'b', reads: false },
  ])
  assert.equal((await ask(carla, 'GET', `/v1/databases/orders/setup?read=${'x'.repeat(64)}`)).status, 400)
  assert.equal((await ask(carla, 'GET', '/v1/databases/nowhere/setup')).code, 'not_found')
})

test('a check of a server that nobody answers for says so, and makes nothing up', async (t) => {
  const { ask, carla } = await house(t)
  const { status, value } = await ask<DatabaseChecked>(carla, 'POST', '/v1/databases/orders/check', { read: [], write: [] })
  assert.equal(status, 200)
  assert.deepEqual(
    value.parts.map(({ user, findings }) => [user, findings.map(({ level }) => level)]),
    [[undefined, ['missing']]],
  )
})

test('rule 5: of a certificate request only the key is taken; who may be named is what the administrator says, and it is on record', async (t) => {
  const { ask, dana, parts, records, state } = await house(t)
  const sign = async (body: object) => ask<DatabaseSigned>(dana, 'POST', '/v1/databases/orders/server-certificate', { csr: csr(), ...body })
  const { value } = await sign({})
  const certificate = new X509Certificate(value.certificate)
  assert.equal(certificate.subjectAltName, 'IP Address:127.0.0.1')
  const id = state.current().find('postgres', 'orders')!.resource.id
  assert.ok(certificate.verify(new X509Certificate(await parts.ca.bundle(`database:${id}`)).publicKey))
  assert.equal((await sign({ names: ['db.internal', '10.1.0.7'] })).value.names.join(), 'db.internal,10.1.0.7')
  assert.deepEqual(
    records.filter(({ type, data }) => type === 'credential.issued' && data?.use === 'server').map(({ data }) => data?.names),
    [['127.0.0.1'], ['db.internal', '10.1.0.7']],
  )
  assert.equal((await sign({ ttl: '400d' })).code, 'usage')
  assert.equal((await sign({ names: [] })).status, 400)
  assert.equal((await sign({ names: ['*.internal; x'] })).code, 'issue_refused')
})
