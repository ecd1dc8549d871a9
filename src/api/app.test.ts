import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { FACTOR_FRESH_MS, FACTOR_VERBS } from '../access/administration.ts'
import { makeCsr } from '../ca/make-csr.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity } from '../identity/directory.ts'
import type { LiveSession } from '../identity/types.ts'
import { addDevice } from '../signin/enrol.ts'
import { csr, openHouse } from './house.fixture.ts'
import type { Route } from './route.ts'

const at = (route: Route) => route.path.replace(':kind', 'mcp').replace(/:\w+/g, 'x')
const verbsOf = (route: Route) => (route.who.by === 'verbs' ? route.who : undefined)

test('every route says who may call it, and the anonymous ones are these', async (t) => {
  const { api } = await openHouse(t)
  assert.ok(api.routes.length >= 30)
  for (const route of api.routes) assert.ok(['proof', 'session', 'verbs'].includes(route.who.by), route.path)
  assert.deepEqual(
    api.routes.filter((route) => route.who.by === 'proof').map((route) => `${route.method} ${route.path}`),
    [
      'POST /v1/enrol/begin',
      'POST /v1/enrol/finish',
      'POST /v1/login',
      'POST /v1/device/begin',
      'POST /v1/device/poll',
      'POST /v1/join',
      'POST /v1/join/challenge',
    ],
  )
  assert.equal(new Set(api.routes.map((route) => `${route.method} ${route.path}`)).size, api.routes.length)
})

test('rule 1: without a session every route but those answers 401, whatever is sent', async (t) => {
  const { api, ask } = await openHouse(t)
  for (const route of api.routes.filter((one) => one.who.by !== 'proof')) {
    const { status, code } = await ask(undefined, route.method, at(route), route.method === 'GET' ? undefined : { any: 'thing' })
    assert.deepEqual([status, code], [401, 'unauthenticated'], `${route.method} ${route.path}`)
  }
})

test('a session by bearer token is not enough anywhere', async (t) => {
  const { api, ask, signIn } = await openHouse(t)
  const dana = await signIn('dana', { proof: 'bearer' })
  for (const route of api.routes.filter((one) => one.who.by !== 'proof'))
    assert.equal((await ask(dana, route.method, at(route))).status, 401, route.path)
})

test('without the verb every administration route answers 403, or that there is no such thing, and the refusal is recorded', async (t) => {
  const { api, ask, signIn, records } = await openHouse(t)
  const boris = await signIn('boris')
  for (const route of api.routes) {
    const who = verbsOf(route)
    if (!who || who.own?.when === 'otherwise') continue
    records.length = 0
    const { status, code } = await ask(boris, route.method, at(route), route.method === 'GET' ? undefined : {})
    // Of what he may not know of he hears that it is not there (rule 8); the record says what it was.
    assert.deepEqual([status, code], who.own?.unseen ? [404, 'not_found'] : [403, 'no_rule'], `${route.method} ${route.path}`)
    assert.deepEqual(
      records.map((record) => [record.type, record.action?.operation, record.decision?.verdict, record.bodies]),
      [['action.refused', who.anyOf[0], 'deny', undefined]],
    )
  }
})

test('a person who changes something needs a factor of the last five minutes; an agent with the verb needs none (peers R68)', async (t) => {
  const { api, ask, signIn, records, clock } = await openHouse(t)
  const stale = await signIn('dana', { factorGiven: false })
  const fresh = await signIn('dana')
  const ci = await signIn('ci', { factorGiven: false })
  const governed = api.routes.filter(
    (route) =>
      verbsOf(route)?.anyOf.some((verb) => FACTOR_VERBS.has(verb)) &&
      route.method !== 'GET' &&
      !verbsOf(route)?.own &&
      // It only looks, although with a body.
      route.path !== '/v1/policy/diff',
  )
  assert.ok(governed.length >= 10)
  // A body that fits no route stops after the verb and before the factor; these fit.
  const bodies: Record<string, unknown> = {
    '/v1/issue': { name: 'nobody', csr: csr() },
    '/v1/invitations': { name: 'nobody' },
    '/v1/apply': { files: [] },
    '/v1/identities/:name/state': { state: 'disabled' },
    '/v1/locks': { target: 'nobody', kind: 'identity', reason: 'test' },
    '/v1/ca/rotate': { purpose: 'nothing' },
    '/v1/secrets/:name': { value: 'v' },
    '/v1/mcp/scan': { name: 'files', spec: { command: ['server'] } },
    '/v1/databases/look': { name: 'orders', spec: { address: '127.0.0.1:1', databases: ['orders'] } },
    '/v1/databases/:name/check': { read: [], write: [] },
    '/v1/databases/:name/server-certificate': { csr: csr() },
    '/v1/pins/:server/look': {},
    '/v1/notifiers/:name/test': {},
    '/v1/pins/:server/approve': { pins: [{ kind: 'tool', name: 'x', sha256: '0'.repeat(64) }] },
    '/v1/pins/:server/keep': { kind: 'tool', name: 'x' },
  }
  const asked = async (session: LiveSession, route: Route) =>
    (await ask(session, route.method, at(route), route.method === 'DELETE' ? undefined : bodies[route.path])).code
  for (const route of governed) {
    records.length = 0
    assert.equal(await asked(stale, route), 'factor_required', route.path)
    assert.deepEqual(
      records.map((record) => [record.type, record.decision?.reason]),
      [['action.refused', 'factor_required']],
    )
    assert.notEqual(await asked(fresh, route), 'factor_required', route.path)
    assert.notEqual(await asked(ci, route), 'factor_required', route.path)
  }
  clock.advance(FACTOR_FRESH_MS + 1)
  for (const route of governed) assert.equal(await asked(fresh, route), 'factor_required', route.path)
})

test('rule 7: a client of an administrator administers nothing, with or without a factor', async (t) => {
  const { ask, signIn, records } = await openHouse(t)
  const dana = await signIn('dana')
  const { value } = await ask<{ session: string; identity: { id: string } }>(dana, 'POST', '/v1/clients', { client: 'claude-code', csr: csr() })
  const started = records.find((record) => record.type === 'session.started' && record.session === value.session)
  const chain = started!.chain!.map(({ id, delegation }) => ({ identity: id, ...(delegation === undefined ? {} : { delegation }) }))
  for (const factorGiven of [false, true]) {
    const agent = await signIn('dana/claude-code', { chain, factorGiven, how: 'client' })
    assert.equal((await ask(agent, 'POST', '/v1/apply', { files: [] })).status, 403)
    assert.equal((await ask(agent, 'GET', '/v1/audit')).status, 403)
  }
})

test('rule 3: an allowed change is recorded before it is made and settled after; a body goes with it', async (t) => {
  const { ask, signIn, records, audit } = await openHouse(t)
  const dana = await signIn('dana')
  records.length = 0
  await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: 'kind: user\nname: eve\nspec: {}\n' }] })
  assert.deepEqual(
    records.map((record) => record.type),
    ['action.intent', 'documents.applied', 'action.outcome'],
  )
  assert.equal(records[0]?.action?.summary, 'apply 1 file')
  assert.match(String(records[0]?.bodies?.[0]?.bytes), /kind: user/)
  assert.deepEqual(records[2]?.outcome, { status: 'ok' })
  audit.fail = new ChaperoneError('audit_unavailable', 'The record cannot be written.')
  const { status, code } = await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a.yaml', text: 'kind: user\nname: mallory\nspec: {}\n' }] })
  assert.deepEqual([status, code], [503, 'audit_unavailable'])
  audit.fail = undefined
  assert.equal((await ask(dana, 'GET', '/v1/documents/user/mallory')).status, 404)
})

test('rule 5: a secret is in no record, and no route shows it', async (t) => {
  const { ask, signIn, records, parts } = await openHouse(t)
  const dana = await signIn('dana')
  assert.equal((await ask(dana, 'PUT', '/v1/secrets/git-token', { value: 'hunter2hunter2' })).status, 200)
  assert.equal(await parts.vault.reveal('git-token'), 'hunter2hunter2')
  assert.match(JSON.stringify((await ask(dana, 'GET', '/v1/secrets')).value), /git-token/)
  assert.doesNotMatch(JSON.stringify([records, (await ask(dana, 'GET', '/v1/secrets')).value]), /hunter2/)
})

test('rule 2: a body with a duplicate key, of another type, too large, compressed or unexpected is refused', async (t) => {
  const { ask, call, signIn } = await openHouse(t)
  const dana = await signIn('dana')
  assert.equal((await ask(dana, 'POST', '/v1/locks', '{"kind":"identity","target":"boris","target":"dana","reason":"x"}')).code, 'ambiguous')
  assert.equal((await ask(dana, 'POST', '/v1/locks', '{"kind":')).code, 'malformed')
  assert.equal((await ask(dana, 'POST', '/v1/locks', { kind: 'identity', target: 'boris', reason: 'x', Reason: 'y' })).code, 'usage')
  assert.equal((await call(dana, 'POST', '/v1/locks', '{}', { 'content-type': 'text/plain' })).status, 400)
  assert.equal((await call(dana, 'POST', '/v1/locks', '{}', { 'content-encoding': 'gzip' })).status, 501)
  assert.equal((await ask(dana, 'POST', '/v1/locks', { reason: 'x'.repeat(1024 * 1024) })).code, 'too_large')
  assert.equal((await ask(dana, 'DELETE', '/v1/locks/x', { a: 1 })).code, 'usage')
  assert.equal((await ask(dana, 'POST', '/v1/apply', { files: [{ path: 'a', text: 'x'.repeat(4 * 1024 * 1024) }] })).code, 'too_large')
})

test('whatever is decided by role stands in the record in words', async (t) => {
  const { api } = await openHouse(t)
  const wordless = api.routes.filter((route) => route.who.by === 'verbs' && route.summary === undefined)
  assert.deepEqual(
    wordless.map(({ method, path }) => `${method} ${path}`),
    [],
  )
})

test('rule 11: the routes without a certificate are limited by address', async (t) => {
  const { ask } = await openHouse(t)
  const codes = new Set<string | undefined>()
  for (let i = 0; i < 62; i++) codes.add((await ask(undefined, 'POST', '/v1/enrol/begin', { secret: 'x' })).code)
  assert.deepEqual([...codes], ['invitation_invalid', 'too_many'])
})

test('a stranger behind the same address shuts out nobody who is known by his key, or waits at a terminal', async (t) => {
  const { ask, clock, parts, signIn } = await openHouse(t)
  await signIn('boris')
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const own = makeCsr(pair.privateKey, pair.publicKey)
  const boris = (await findIdentity(parts.store.db, { name: 'boris' }))!
  await parts.store.write((trx) => addDevice(trx, boris.id, pair.publicKey.export({ type: 'spki', format: 'der' }), clock.now()))
  const { device } = await parts.devices.begin({ csr: own, host: 'laptop', cameFrom: '127.0.0.1' })
  const login = { name: 'boris', csr: own, code: '000000' }
  // Each door has its own count.
  for (const [path, body] of [
    ['/v1/enrol/begin', { secret: 'x' }],
    ['/v1/login', { ...login, name: 'dana' }],
    ['/v1/device/poll', { device: 'guessed' }],
  ] as const) {
    const strangers = new Set<string | undefined>()
    for (let i = 0; i < 100; i++) strangers.add((await ask(undefined, 'POST', path, body)).code)
    assert.ok(strangers.has('too_many'), path)
  }

  assert.equal((await ask(undefined, 'POST', '/v1/login', login)).code, 'factor_invalid', 'his device is known: the code is looked at')
  assert.equal((await ask(undefined, 'POST', '/v1/login', { ...login, name: 'dana' })).code, 'too_many', 'a device of nobody')
  assert.equal((await ask(undefined, 'POST', '/v1/login', { ...login, csr: 'none' })).code, 'too_many')
  assert.equal((await ask(undefined, 'POST', '/v1/device/poll', { device: 'guessed' })).code, 'too_many')
  for (let i = 0; i < 50; i++) assert.equal((await ask(undefined, 'POST', '/v1/device/poll', { device })).code, undefined)
  const codes = new Set<string | undefined>()
  for (let i = 0; i < 70; i++) codes.add((await ask(undefined, 'POST', '/v1/login', login)).code)
  assert.deepEqual([...codes], ['factor_invalid', 'too_many'], 'nor is a known device without a bound')
})

test('a fault of ours says nothing to the client and everything to the log', async (t) => {
  const { ask, signIn, parts, logged } = await openHouse(t)
  const dana = await signIn('dana')
  Object.assign(parts.ca, {
    bundle: async () => {
      throw new Error('password=hunter2 in /secret/path')
    },
  })
  const { status, value } = await ask(dana, 'GET', '/v1/bundle')
  assert.equal(status, 500)
  assert.deepEqual(value, { error: { code: 'internal', message: 'Something went wrong inside Chaperone.' } })
  assert.match(logged[0]?.detail ?? '', /hunter2/)
})

test('unknown paths and methods are refused in the same form', async (t) => {
  const { ask, call, signIn } = await openHouse(t)
  const dana = await signIn('dana')
  assert.deepEqual(await ask(dana, 'GET', '/v1/nothing').then(({ status, code }) => [status, code]), [404, 'not_found'])
  assert.equal((await call(dana, 'HEAD', '/v1/whoami')).status, 501)
  assert.equal((await call(dana, 'PATCH', '/v1/locks')).status, 404)
})

test('a session that ended, or whose identity is gone, gets nothing more', async (t) => {
  const { ask, signIn, sessions } = await openHouse(t)
  const dana = await signIn('dana')
  await sessions.end(dana.id, 'killed')
  assert.equal((await ask(dana, 'GET', '/v1/whoami')).code, 'session_ended')
})
