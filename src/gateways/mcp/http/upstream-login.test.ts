import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type FakeOAuth, fakeOAuth } from '../../../../test/fakes/oauth-server.ts'
import { mcpServerSpec } from '../../../catalog/mcp-server.ts'
import { type Clock, systemClock } from '../../../clock.ts'
import { openKeyring } from '../../../keys/keyring.ts'
import { loadRootKey } from '../../../keys/root-key.ts'
import { openStore } from '../../../store/open.ts'
import type { UpstreamLogins } from '../../../vault/logins.ts'
import { openLogins } from '../../../vault/oauth.ts'
import { answerOf, type Harness, harness, initialize, listen, openSession, WHO } from '../harness.fixture.ts'
import { MCP_LIMITS } from '../limits.ts'
import { UpstreamHttp } from './upstream.ts'

const call = (id: number) => ({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'look', arguments: {} } })

test('rule 11: a request is sent at most twice, however often another token turns up', async () => {
  let asked = 0
  const server = createServer((_, response) => {
    asked++
    response.writeHead(401).end()
  })
  const url = await listen(server)
  const http = new UpstreamHttp({
    name: 'x',
    url,
    ca: undefined,
    headers: async () => ({}),
    credential: false,
    clock: systemClock,
    limits: MCP_LIMITS,
    log() {},
  })
  const stop = new AbortController()
  const login = { token: async () => ({ value: `token-${asked}`, prover: undefined }), refused: async () => true }
  const response = await http.as(login).channel({ method: 'GET', headers: {}, stop: stop.signal })
  assert.deepEqual([response.statusCode, asked], [401, 2])
  response.destroy()
  http.close()
  server.closeAllConnections()
  server.close()
})

describe('a server that wants a login', () => {
  let given: Harness
  let fake: FakeOAuth
  let logins: UpstreamLogins
  let ahead = 0
  const end: (() => unknown)[] = []
  const clock: Clock = { now: () => systemClock.now() + ahead, at: (at, wake) => systemClock.at(at - ahead, wake) }
  const logIn = async (name: 'shared' | 'own', subject: string) => {
    const server = { id: `res_${name}`, name, spec: mcpServerSpec.parse(specs()[name]) }
    const by = { actor: { id: 'usr_1', name: 'dana' } }
    const { url } = await logins.begin(server, { subject, identity: 'usr_1', redirect: 'http://127.0.0.1:4711/callback', by })
    await logins.finish(server, Object.fromEntries(fake.approve(url)) as { state: string }, { identity: 'usr_1', by })
  }
  const specs = () => ({
    shared: { url: fake.url, auth: { oauth: {} }, headers: { 'x-key': 'k', authorization: 'Bearer of the catalog' } },
    own: { url: fake.url, auth: { oauth: { for: 'each' } } },
  })
  const posted = () => fake.of('/mcp').filter(({ text }) => text.includes('tools/call'))

  before(async () => {
    fake = await fakeOAuth()
    const dir = await mkdtemp(join(tmpdir(), 'chaperone-logins-'))
    const store = await openStore({ dataDir: dir }, { clock })
    const keyring = await openKeyring(store, await loadRootKey({ store, createAt: `${dir}.key` }), clock)
    const audit = { append: async () => ({ id: 'rec', seq: 1 }), addSecrets() {} }
    logins = openLogins({ store, keyring, clock, audit, reveal: async () => '' })
    given = await harness({ role: { allow: [{ mcp: 'any', tools: 'any' }] }, servers: specs(), logins, clock })
    end.push(
      () => given.close(),
      () => fake.close(),
      () => store.close(),
      () => rm(dir, { recursive: true, force: true }),
      () => rm(`${dir}.key`, { force: true }),
    )
  })
  after(async () => {
    for (const step of end) await step()
  })

  test('without a login the caller is told who must log in and how; no challenge of the server reaches him', async () => {
    const response = await given.post('shared', initialize())
    assert.equal(response.headers.get('www-authenticate'), null)
    const { error } = await answerOf(response)
    assert.equal(error.data.reason, 'upstream_login_required')
    assert.match(error.message, /shared wants a login, which an administrator must give/)
    assert.match(JSON.stringify(error), /chaperone mcp login shared/)
    assert.equal(given.of('action.outcome').at(-1)?.outcome?.status, 'failed', 'what was refused for its token was not done')
  })

  test("rule 5: after it every request carries the login's token, and nothing of the client's (peers R59)", async () => {
    await logIn('shared', '*')
    const session = await openSession(given, 'shared', { authorization: 'Bearer of the client', cookie: 'a=b' })
    assert.deepEqual((await answerOf(await given.post('shared', call(1), session))).result.content[0].text, 'done')
    const { headers } = posted().at(-1)!
    assert.equal(headers.authorization, `Bearer ${fake.tokens[0]!.access}`)
    assert.equal(headers['x-key'], 'k')
    assert.equal(headers.cookie, undefined)
  })

  test('a token that ended early is refreshed, and the request that it stopped is sent once more', async () => {
    const session = await openSession(given, 'shared')
    ahead += 10_000
    fake.endAccess()
    const before = posted().length
    assert.equal((await answerOf(await given.post('shared', call(2), session))).result.content[0].text, 'done')
    assert.equal(posted().at(-1)?.headers.authorization, `Bearer ${fake.tokens.at(-1)!.access}`)
    assert.ok(posted().length - before <= 2)
    assert.equal(given.of('action.outcome').at(-1)?.outcome?.status, 'ok')
  })

  test('a server that turns every token down is asked twice and no more', async () => {
    const session = await openSession(given, 'shared')
    ahead += 10_000
    const { tokens } = fake
    const before = [tokens.length, posted().length]
    fake.endAccess()
    // Whatever it gives from now on is worth nothing at the server.
    const push = tokens.push.bind(tokens)
    tokens.push = (...pairs) => {
      setImmediate(() => fake.endAccess())
      return push(...pairs)
    }
    const { error } = await answerOf(await given.post('shared', call(3), session))
    tokens.push = push
    assert.equal(error.data.reason, 'upstream_login_required')
    assert.equal(tokens.length - before[0]!, 1)
    assert.ok(posted().length - before[1]! <= 2)
    await logIn('shared', '*')
  })

  test('scopes that are missing are named, and a new login has them', async () => {
    const session = await openSession(given, 'shared')
    fake.knobs.needs = ['admin']
    const { error } = await answerOf(await given.post('shared', call(4), session))
    assert.equal(error.data.reason, 'upstream_login_required')
    assert.match(error.message, /for admin/)
    await logIn('shared', '*')
    assert.equal((await answerOf(await given.post('shared', call(5), session))).result.content[0].text, 'done')
    fake.knobs.needs = []
  })

  test('rule 5: a login of each serves nobody else, on the same connections', async () => {
    await logIn('own', `agt_${WHO}`)
    const mine = await openSession(given, 'own')
    assert.equal((await answerOf(await given.post('own', call(6), mine))).result.content[0].text, 'done')
    assert.equal(posted().at(-1)?.headers.authorization, `Bearer ${fake.tokens.at(-1)!.access}`)
    const { error } = await answerOf(await given.post('own', initialize(), { 'x-test-as': 'eve' }))
    assert.equal(error.data.reason, 'upstream_login_required')
    assert.match(error.message, /your own login/)
  })
})
