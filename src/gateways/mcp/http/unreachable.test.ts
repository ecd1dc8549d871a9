import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { fakeAuthority } from '../../../../test/fakes/authority.ts'
import { systemClock } from '../../../clock.ts'
import type { ChaperoneError } from '../../../errors.ts'
import { heldPort } from '../../../network/held-port.fixture.ts'
import { answerOf, harness, initialize, listen } from '../harness.fixture.ts'
import { MCP_LIMITS } from '../limits.ts'
import { NotSent } from '../types.ts'
import { failedToReach } from './unreachable.ts'
import { UpstreamHttp } from './upstream.ts'

/** What a client is told of a server at this URL, and what is logged of it. */
async function reach(t: TestContext, url: string, ca?: string) {
  const logs: { what: string; facts: Record<string, unknown> }[] = []
  const log = (what: string, facts: Record<string, unknown>) => void logs.push({ what, facts })
  const way = { name: 'wiki', url, ca, headers: async () => ({}), credential: false, clock: systemClock, limits: MCP_LIMITS, log }
  const http = new UpstreamHttp(way)
  t.after(() => http.close())
  const sent = http.channel({ method: 'GET', headers: {}, stop: new AbortController().signal })
  const error = await sent.then(
    () => assert.fail('it was reached'),
    (error: ChaperoneError) => error,
  )
  assert.ok(error instanceof NotSent)
  assert.equal(error.code, 'upstream_unavailable')
  assert.doesNotMatch(`${error.message} ${error.fix}`, /127\.0\.0\.1|\.invalid|:\d/, 'rule 5: no address reaches a client')
  return { error, logs }
}

async function secure(t: TestContext, names: readonly string[]) {
  const authority = await fakeAuthority()
  const { key, chain } = await authority.issue(names)
  const server = createSecureServer({ key, cert: chain }, (_, response) => response.end())
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, ca: authority.certificate }
}

test('a server that refuses connections, one whose name is unknown, and one whose certificate is wrong can be told apart', async (t) => {
  const nobody = await heldPort()
  t.after(() => nobody.release())
  const url = `http://127.0.0.1:${nobody.port}`
  const refused = await reach(t, url)
  assert.match(refused.error.message, /^The MCP server wiki cannot be reached: it refuses connections\.$/)
  assert.match(refused.error.fix!, /Start it/)
  const [line] = refused.logs
  assert.equal(refused.logs.length, 1)
  assert.equal(line!.what, 'mcp.upstream.unreachable')
  assert.equal(line!.facts.server, 'wiki')
  assert.equal(line!.facts.code, 'ECONNREFUSED')
  assert.match(String(line!.facts.detail), new RegExp(new URL(url).port))

  const unknown = await reach(t, 'http://nobody.invalid/mcp')
  assert.match(unknown.error.message, /its name cannot be resolved/)
  assert.match(String(unknown.logs[0]!.facts.detail), /nobody\.invalid/)

  const other = await secure(t, ['other.test'])
  const untrusted = await reach(t, `https://localhost:${other.port}/`)
  assert.match(untrusted.error.message, /its certificate is not trusted/)
  assert.match(untrusted.error.fix!, /`ca`/)
  const misnamed = await reach(t, `https://localhost:${other.port}/`, other.ca)
  assert.match(misnamed.error.message, /its certificate is not for its name/)
})

test('of several addresses each error is in the log', () => {
  const errors = [new Error('connect ECONNREFUSED ::1:9'), new Error('connect ECONNREFUSED 127.0.0.1:9')]
  const error = failedToReach('wiki', Object.assign(new AggregateError(errors), { code: 'ECONNREFUSED' }))
  assert.match(error.detail!, /::1:9.*127\.0\.0\.1:9/)
})

test('what may have been sent is not said to be unsent', () => {
  const after = failedToReach('wiki', Object.assign(new Error('read ETIMEDOUT'), { code: 'ETIMEDOUT', syscall: 'read' }))
  assert.ok(!(after instanceof NotSent))
  assert.match(after.message, /does not answer/)
  assert.ok(failedToReach('wiki', Object.assign(new Error(), { code: 'ETIMEDOUT', syscall: 'connect' })) instanceof NotSent)
  assert.ok(!(failedToReach('wiki', new Error('odd')) instanceof NotSent))
})

/** A server that lets nobody in; `old` has HTTP+SSE alone. */
async function closedServer(t: TestContext, old: boolean, status: number) {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.method!)
    request.resume()
    response.writeHead(old && request.method === 'POST' ? 405 : status, { 'www-authenticate': 'Bearer' }).end()
  })
  const url = await listen(server)
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url, asked }
}

const discover = {
  jsonrpc: '2.0',
  id: 1,
  method: 'server/discover',
  params: { _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} } },
}

for (const [what, old] of [
  ['Streamable HTTP', false],
  ['HTTP+SSE', true],
] as const) {
  test(`${what}: who showed no credential and is not let in is told to log in, and no other era is tried`, async (t) => {
    const { url, asked } = await closedServer(t, old, 401)
    const headers = { authorization: 'Bearer wrong' }
    const given = await harness({
      role: { allow: [{ mcp: 'any', tools: 'any' }] },
      servers: { open: { url }, known: { url, headers }, sealed: { url, headers: { 'x-odd': { secret: 's' } } } },
      secrets: { s: 'sealed-value' },
    })
    t.after(() => given.close())
    const { error } = await answerOf(await given.post('open', initialize()))
    assert.equal(error.data.reason, 'upstream_login_required')
    assert.match(error.message, /`auth: \{ oauth: \{\} \}`.*`chaperone mcp login open`/)
    assert.deepEqual(asked, old ? ['POST', 'GET'] : ['POST'])
    assert.equal(given.of('action.outcome').at(-1)?.outcome?.status, 'failed', 'what was refused surely did nothing')
    const modern = await answerOf(await given.post('open', discover, { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'server/discover' }))
    assert.equal(modern.error.data.reason, 'upstream_login_required')
    for (const name of ['known', 'sealed']) {
      const { error } = await answerOf(await given.post(name, initialize()))
      assert.equal(error.data.reason, 'upstream_unavailable')
      assert.match(error.message, /does not accept Chaperone's credential/)
    }
  })
}

test('403 without a credential is no call to log in', async (t) => {
  const { url } = await closedServer(t, false, 403)
  const given = await harness({ role: { allow: [{ mcp: 'any', tools: 'any' }] }, servers: { open: { url } } })
  t.after(() => given.close())
  const { error } = await answerOf(await given.post('open', initialize()))
  assert.equal(error.data.reason, 'upstream_unavailable')
  assert.match(error.message, /does not let Chaperone in/)
})
