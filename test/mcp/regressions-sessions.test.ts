import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { manualClock } from '../../src/clock.ts'
import { answerOf, eventually, type Harness, harness, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { type RawServer, rawServer } from './raw-server.ts'
import { byCertificate, byToken, legacy, modern, shakeHands, whole } from './whole.ts'

// An MCP session id names a session; it proves nothing. Numbers are of the peers' bugs.

const call = legacy('tools/call', { name: 'ok', arguments: {} })
const ANY = { allow: [{ mcp: 'any', can: 'any' }] }

describe('an MCP session', () => {
  let raw: RawServer
  let given: Harness
  const clock = manualClock(Date.UTC(2026, 10, 22))
  before(async () => {
    raw = await rawServer('legacy', ['ok', 'never'])
    raw.behaviours.set('tools/call never', () => {})
    given = await harness({ role: ANY, servers: { s: { url: raw.url } }, clock, limits: { idleMs: 60_000, lanesPerSession: 8 } })
  })
  after(async () => {
    await given.close()
    raw.close()
  })
  const as = (name: string, session: Record<string, string>) => ({ ...session, 'x-test-as': name })
  const request = (method: string, headers: Record<string, string>, path = 's') =>
    fetch(`${given.base}${path}`, {
      method,
      headers: {
        'content-type': 'application/json',
        accept: method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
        ...headers,
      },
      ...(method === 'POST' ? { body: call } : {}),
    })

  for (const path of ['s', '']) {
    test(`rule 7: nobody attaches to, calls in, or ends the session of another (${path || 'all servers'}; R52, R54)`, async () => {
      const session = await openSession(given, path, { 'x-test-as': 'ada' })
      for (const thief of ['mallory', 'ADA', 'nobody']) {
        const since = given.records.length
        const got = raw.got.length
        for (const method of ['POST', 'GET', 'DELETE']) {
          const answer = await request(method, as(thief, session), path)
          assert.equal(answer.status, 404, `${thief} ${method}`)
          await answer.text()
        }
        assert.equal(raw.got.length, got, 'nothing reached the server')
        const refused = given.records.slice(since).filter(({ type }) => type === 'message.refused')
        assert.equal(refused.length, 3, 'each attempt is on record')
        for (const { actor } of refused) assert.equal(actor?.name, thief)
      }
      const own = await given.post(path, legacy('ping'), session)
      assert.equal(own.status, 200, 'and the owner goes on')
      await own.text()
      assert.equal((await request('DELETE', session, path)).status, 204)
    })
  }

  test('the owner comes back on another connection; ids that are missing, made up, doubled or of another node are unknown (R54, R62)', async () => {
    const session = await openSession(given, 's')
    const id = session['mcp-session-id']!
    assert.equal((await answerOf(await given.post('s', call, { ...session, connection: 'close' }))).result.content[0].text, 'done')
    const [node, secret] = id.split('.')
    assert.equal(node, 'local', 'the id says whose it is')
    const got = raw.got.length
    for (const other of [
      `other.${secret}`,
      secret!,
      `${id}x`,
      id.slice(0, -1),
      id.toUpperCase(),
      `${id}, ${id}`,
      `${id}.${id}`,
      `modern ses_${'boris/claude-code'}`,
      'upstream-1',
    ])
      assert.equal((await given.post('s', call, { ...session, 'mcp-session-id': other })).status, 404, other)
    assert.equal((await given.post('s', call, { 'mcp-protocol-version': '2025-11-25' })).status, 400)
    assert.equal((await given.post('', call, session)).status, 404, 'nor is it one of another endpoint')
    assert.equal(raw.got.length, got)
    await request('DELETE', session)
  })

  test('the session id of a stateful server goes with every message, and each client has its own (R57)', async () => {
    const sessions = [await openSession(given, 's'), await openSession(given, ''), await openSession(given, 's', { 'x-test-as': 'ada' })]
    const ids = new Set<unknown>()
    for (const [i, session] of sessions.entries()) {
      const { result } = await answerOf(await given.post(i === 1 ? '' : 's', legacy('tools/call', { name: i === 1 ? 's__ok' : 'ok' }), session))
      assert.equal(result.content[0].text, 'done')
      const { headers } = raw.got.findLast(({ message }) => message.method === 'tools/call')!
      assert.match(String(headers['mcp-session-id']), /^upstream-\d+$/)
      assert.equal(headers['mcp-protocol-version'], '2025-11-25')
      ids.add(headers['mcp-session-id'])
    }
    assert.equal(ids.size, 3)
    for (const [i, session] of sessions.entries()) await request('DELETE', session, i === 1 ? '' : 's')
  })

  test('a server that lost the session gives one clear answer, once, and the way on (R58)', async () => {
    const session = await openSession(given, 's')
    raw.behaviours.set('tools/call ok', ({ response }) => response.writeHead(404).end())
    const lost = await given.post('s', call, session)
    assert.deepEqual([lost.status, (await answerOf(lost)).error.code], [404, -32001])
    raw.behaviours.delete('tools/call ok')
    const got = raw.got.length
    const again = await given.post('s', call, session)
    assert.deepEqual([again.status, (await answerOf(again)).error.code], [404, -32001])
    assert.equal(raw.got.length, got, 'nothing is tried with the old one')
    const next = await openSession(given, 's')
    assert.equal((await answerOf(await given.post('s', call, next))).result.content[0].text, 'done')
    await request('DELETE', next)
  })

  test('rule 4: an expired credential cuts what is open and does not come back (R46, R58)', async () => {
    const session = await openSession(given, 's', { 'x-test-as': 'eve' })
    raw.behaviours.set('GET', ({ response }) => response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders())
    const stream = await request('GET', session)
    assert.equal(stream.status, 200)
    const under = given.post('s', legacy('tools/call', { name: 'never', arguments: {} }), session)
    await eventually(() => raw.calls('never') === 1, 'a call is under way')
    given.cut('eve', 'credential_expired')
    assert.equal((await answerOf(await under)).error.data.reason, 'credential_expired')
    await stream.text().catch(() => '') // ends, one way or the other
    await eventually(() => given.guard.open === 0, 'nothing of it is open')
    const calls = raw.calls('ok')
    for (const [path, headers] of [
      ['s', session],
      ['s', { 'x-test-as': 'eve' }],
      ['', { 'x-test-as': 'eve' }],
    ] as const) {
      const request = modern('tools/call', { name: path === '' ? 's__ok' : 'ok', arguments: {} })
      const again = await ('mcp-session-id' in headers
        ? given.post(path, call, headers)
        : given.post(path, request.body, { ...request.headers, ...headers }))
      assert.notEqual(again.status, 200)
      assert.match(await again.text(), /credential_expired|does not exist|Unknown tool/)
    }
    assert.equal(raw.calls('ok'), calls)
    raw.behaviours.delete('GET')
  })

  test('each session that ends is on record, with its reason: ended, idle, cut (R76)', async () => {
    const ended = (who: string) => given.of('connection.closed').filter(({ actor }) => actor?.name === who)
    const told = await openSession(given, 's', { 'x-test-as': 'polite' })
    await request('DELETE', told)
    await openSession(given, 's', { 'x-test-as': 'vanished' })
    await openSession(given, '', { 'x-test-as': 'vanished' })
    await openSession(given, 's', { 'x-test-as': 'stopped' })
    given.cut('stopped')
    clock.advance(61_000)
    await eventually(() => ended('vanished').length === 2, 'the idle ones are on record', 1_000)
    for (const [who, reason] of [
      ['polite', 'not_found'],
      ['vanished', 'not_found'],
      ['stopped', 'locked'],
    ] as const) {
      for (const one of ended(who)) {
        assert.deepEqual([one.data?.protocol, one.data?.reason, one.session], ['mcp', reason, `ses_${who}`])
        assert.match(String(one.data?.message), who === 'vanished' ? /idle/ : /ended|lock/)
      }
      assert.ok(ended(who).length > 0, who)
    }
  })

  test('rule 11: sessions end when nobody uses them or nobody may, and one caller has only so many (R54, R56)', async () => {
    const before = given.gateway.sessions
    const sessions = await Promise.all(Array.from({ length: 8 }, () => openSession(given, 's', { 'x-test-as': 'hoarder' })))
    const more = await given.post('s', legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {} }), { 'x-test-as': 'hoarder' })
    assert.equal((await answerOf(more)).error.data.reason, 'too_many')
    assert.equal(given.gateway.sessions, before + 8)
    raw.got.length = 0
    clock.advance(61_000)
    await eventually(() => given.gateway.sessions === 0, 'idle ones are gone')
    await eventually(() => raw.got.filter(({ verb }) => verb === 'DELETE').length >= 8, 'and the server was told')
    for (const session of sessions) assert.equal((await given.post('s', call, session)).status, 404)

    await openSession(given, 's', { 'x-test-as': 'revoked' })
    given.setRole({ allow: [{ mcp: 'other', can: 'any' }] })
    clock.advance(31_000)
    await eventually(() => given.gateway.sessions === 0, 'nobody keeps one that may not use it')
    given.setRole(ANY)
  })
})

describe('credentials and MCP sessions', () => {
  test('renewed, by another credential of another session, after a rotation: only the owner goes on (R54)', async (t) => {
    const all = await whole(
      t,
      (url) => `
kind: user
name: boris
spec: { roles: [] }
---
kind: agent
name: bot
spec: { owner: boris, roles: [work] }
---
kind: agent
name: other
spec: { owner: boris, roles: [work] }
---
kind: role
name: work
spec: { allow: [{ mcp: files, can: any }] }
---
kind: mcp
name: files
spec: { url: ${JSON.stringify(url)} }
`,
    )
    const { addresses, parts } = all.home.server
    const doors = {
      owner: byCertificate(addresses.data, await all.credential('bot')),
      again: byCertificate(addresses.data, await all.credential('bot')),
      other: byCertificate(addresses.data, await all.credential('other')),
      bearer: byToken(addresses.web, await all.token('bot')),
    }
    const session = await shakeHands(doors.owner, '/mcp/files')
    assert.ok(session['mcp-session-id']!.startsWith(`${parts.nodeId}.`), 'R62: the id carries the node')
    const echo = { headers: session, body: legacy('tools/call', { name: 'echo', arguments: { mark: 'mine' } }) }
    const status = async (door: keyof typeof doors) => (await doors[door]('/mcp/files', echo)).status
    assert.equal(await status('owner'), 200)
    // The same identity in another session of Chaperone is another run of it: its credential does not open this one.
    for (const door of ['again', 'other', 'bearer'] as const) assert.equal(await status(door), 404, door)
    await all.home.dana.api.call('POST', '/v1/ca/rotate', { purpose: 'identity' })
    assert.equal(await status('owner'), 200, 'the authority has another key, and the owner is the owner')
    const fresh = byCertificate(addresses.data, await all.credential('other'))
    assert.equal((await fresh('/mcp/files', echo)).status, 404)
    await all.home.dana.api.call('POST', '/v1/locks', { kind: 'identity', target: 'bot', reason: 'a test' })
    const locked = await doors.owner('/mcp/files', echo)
    assert.notEqual(locked.status, 200)
    const code = (JSON.parse(locked.text) as { error: { code: string; message: string } }).error.code
    assert.equal(code, 'locked', 'R58: one answer that a machine can read')
    assert.equal((await doors.owner('/mcp/files', modern('tools/call', { name: 'echo', arguments: {} }))).status, locked.status)
  })
})
