import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { after, before, describe, test } from 'node:test'
import type { Draft } from '../../src/audit/record.ts'
import { eventually, type Harness, harness, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { type RawServer, rawServer } from './raw-server.ts'
import { legacy, modern } from './whole.ts'

// Whatever becomes of a call, the record of it is one, and whole. Numbers are of the peers' bugs.

const ARGUMENTS = { path: '/reports/1', n: 7 }
const TOOLS = ['ok', 'fails', 'refuses', 'never', 'breaks', 'half', 'http500', 'http401', 'html', 'denied', 'asked']

describe('every end of a call is one whole record (R73)', () => {
  let raw: RawServer
  let given: Harness
  let nobody: number
  before(async () => {
    raw = await rawServer('legacy', TOOLS)
    const json = { 'content-type': 'application/json' }
    raw.behaviours.set('tools/call fails', ({ message, response }) =>
      response.writeHead(200, json).end(`{"jsonrpc":"2.0","id":${JSON.stringify(message.id)},"error":{"code":-32603,"message":"no"}}`),
    )
    raw.results.set('tools/call refuses', '{"content":[],"isError":true}')
    raw.behaviours.set('tools/call never', () => {})
    raw.behaviours.set('tools/call breaks', ({ response }) => response.destroy())
    raw.behaviours.set('tools/call half', ({ response }) => {
      response.writeHead(200, { ...json, 'content-length': 1000 }).write('{"jsonrpc":"2.0"')
      setImmediate(() => response.destroy())
    })
    raw.behaviours.set('tools/call http500', ({ response }) => response.writeHead(500).end())
    raw.behaviours.set('tools/call http401', ({ response }) => response.writeHead(401, { 'www-authenticate': 'Bearer' }).end())
    raw.behaviours.set('tools/call html', ({ response }) => response.writeHead(200, { 'content-type': 'text/html' }).end('<p>hello'))
    const closed = createServer().listen(0, '127.0.0.1')
    await once(closed, 'listening')
    nobody = (closed.address() as { port: number }).port
    closed.close()
    given = await harness({
      role: { allow: [{ mcp: 'any', can: 'any' }], deny: [{ mcp: 'any', tools: ['denied'] }], ask: [{ mcp: 'any', tools: ['asked'] }] },
      servers: { s: { url: raw.url }, gone: { url: `http://127.0.0.1:${nobody}/mcp` }, other: { url: raw.url } },
      limits: { silenceMs: 300, drainMs: 50, approvalMs: 0 },
    })
  })
  after(async () => {
    await given.close()
    raw.close()
  })

  const request = (era: 'legacy' | 'modern', name: string) =>
    era === 'modern'
      ? modern('tools/call', { name, arguments: ARGUMENTS })
      : { headers: {}, body: legacy('tools/call', { name, arguments: ARGUMENTS }) }

  /** The records about this call, and that they are whole. */
  const whole = async (since: number, as: string, name: string): Promise<readonly Draft[]> => {
    await eventually(() => given.guard.open === 0, `${name}: settled`)
    const mine = given.records.slice(since).filter(({ actor, action }) => actor?.name === as && action?.operation === 'tools/call')
    for (const one of mine) {
      assert.equal(one.session, `ses_${as}`, name)
      assert.ok(one.action?.resource.id && one.action.effects.length > 0 && one.action.summary.includes(name), name)
    }
    const [first] = mine
    assert.ok(first, `${name}: nothing on record`)
    assert.ok(first.id && first.connection && first.decision?.reason && first.decision.link, name)
    assert.deepEqual(
      first.bodies?.map((body) => [body.name, String(body.bytes)]),
      [['arguments', JSON.stringify(ARGUMENTS)]],
      name,
    )
    const [, last] = mine
    if (first.type === 'action.intent') assert.equal(last?.permit, first.id, name)
    return mine
  }
  const told = (records: readonly Draft[]) => records.map(({ type, outcome }) => (outcome ? `${type} ${outcome.status}` : type))

  const ends: Readonly<Record<string, string>> = {
    ok: 'ok',
    fails: 'failed',
    refuses: 'failed',
    never: 'unknown',
    breaks: 'unknown',
    half: 'unknown',
    http500: 'unknown',
    // No credential was shown: what is refused for that is not done (RFC 9110, 15.5.2).
    http401: 'failed',
    html: 'unknown',
  }
  for (const era of ['legacy', 'modern'] as const) {
    for (const [name, status] of Object.entries(ends)) {
      test(`${era}: ${name} is ${status}`, async () => {
        const as = `${era}-${name}`
        const session = era === 'legacy' ? await openSession(given, 's', { 'x-test-as': as }) : { 'x-test-as': as }
        const since = given.records.length
        const { headers, body } = request(era, name)
        await (await given.post('s', body, { ...headers, ...session })).text().catch(() => '')
        const records = await whole(since, as, name)
        assert.deepEqual(told(records), ['action.intent', `action.outcome ${status}`])
        if (status !== 'ok') assert.ok(Object.keys(records[1]!.outcome!).length > 1, 'the outcome says why')
      })
    }

    test(`${era}: denied is refused, as a signal and not as "not found" (R74)`, async () => {
      const as = `${era}-denied`
      const session = era === 'legacy' ? await openSession(given, 's', { 'x-test-as': as }) : { 'x-test-as': as }
      const since = given.records.length
      const { headers, body } = request(era, 'denied')
      const { result } = JSON.parse(await (await given.post('s', body, { ...headers, ...session })).text())
      assert.equal(result.isError, true)
      assert.equal(result._meta['dev.chaperone/refusal'].reason, 'denied_by_rule')
      const records = await whole(since, as, 'denied')
      assert.deepEqual(told(records), ['action.refused'])
      assert.equal(records[0]!.id, result._meta['dev.chaperone/refusal'].decision, 'the client can name the record')
    })

    test(`${era}: asked is on record with its request, and nothing says that it ran (R74)`, async () => {
      const as = `${era}-asked`
      const session = era === 'legacy' ? await openSession(given, 's', { 'x-test-as': as }) : { 'x-test-as': as }
      const since = given.records.length
      const { headers, body } = request(era, 'asked')
      const { result } = JSON.parse(await (await given.post('s', body, { ...headers, ...session })).text())
      const parked = era === 'legacy' ? result._meta['dev.chaperone/refusal'].parked : result._meta['dev.chaperone/parked']
      const records = await whole(since, as, 'asked')
      assert.deepEqual(told(records), ['action.asked'])
      assert.equal(records[0]!.request, parked.request, 'the client can name the request')
    })

    test(`${era}: a call that is cut is unknown, with the reason`, async () => {
      const as = `${era}-cut`
      const session = era === 'legacy' ? await openSession(given, 's', { 'x-test-as': as }) : { 'x-test-as': as }
      const since = given.records.length
      const { headers, body } = request(era, 'never')
      const before = raw.calls('never')
      const answer = given.post('s', body, { ...headers, ...session }).then((response) => response.text())
      await eventually(() => raw.calls('never') > before, 'it is under way')
      given.cut(as)
      assert.match(await answer, /A lock stops this/)
      const records = await whole(since, as, 'never')
      assert.deepEqual(told(records), ['action.intent', 'action.outcome unknown'])
      assert.equal(records[1]!.outcome?.error, 'locked')
    })

    test(`${era}: a client that goes away leaves an outcome behind (R76)`, async () => {
      const as = `${era}-left`
      const session = era === 'legacy' ? await openSession(given, 's', { 'x-test-as': as }) : { 'x-test-as': as }
      const since = given.records.length
      const { headers, body } = request(era, 'never')
      const before = raw.calls('never')
      const stop = new AbortController()
      const answer = fetch(`${given.base}s`, {
        method: 'POST',
        signal: stop.signal,
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers, ...session },
        body,
      }).catch(() => undefined)
      await eventually(() => raw.calls('never') > before, 'it is under way')
      stop.abort()
      await answer
      const records = await whole(since, as, 'never')
      assert.deepEqual(told(records), ['action.intent', 'action.outcome unknown'])
      assert.ok(records[1]!.outcome?.error, 'with a reason')
    })
  }

  test('a call to a server that is not there has failed, and is no less on record', async () => {
    const since = given.records.length
    const { headers, body } = request('modern', 'ok')
    await (await given.post('gone', body, { ...headers, 'x-test-as': 'lost' })).text()
    const records = await whole(since, 'lost', 'ok')
    assert.deepEqual(told(records), ['action.intent', 'action.outcome failed'])
  })

  test('a call that the client cancels has one outcome', async () => {
    const session = await openSession(given, 's', { 'x-test-as': 'canceller' })
    const since = given.records.length
    const before = raw.calls('never')
    const answer = given.post('s', request('legacy', 'never').body, session).then((response) => response.text())
    await eventually(() => raw.calls('never') > before, 'it is under way')
    await given.post('s', { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1, reason: 'enough' } }, session)
    await answer
    assert.deepEqual(told(await whole(since, 'canceller', 'never')), ['action.intent', 'action.outcome unknown'])
    const cancelled = given.records.slice(since).filter(({ action }) => action?.operation === 'notifications/cancelled')
    assert.deepEqual(told(cancelled), ['action.intent', 'action.outcome ok'])
  })

  test('what is no call yet is on record with its size, digest and beginning', async () => {
    const bad = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok","Name":"denied","pad":"${'x'.repeat(10_000)}"}}`
    const since = given.records.length
    await (await given.post('s', bad, { 'x-test-as': 'garbler' })).text()
    const [refused, ...more] = given.records.slice(since)
    assert.equal(more.length, 0)
    assert.equal(refused?.type, 'message.refused')
    assert.deepEqual(
      [refused?.actor?.name, refused?.session, refused?.data?.server, refused?.data?.reason],
      ['garbler', 'ses_garbler', 's', 'ambiguous'],
    )
    assert.deepEqual([refused?.data?.size, refused?.data?.sha256], [bad.length, createHash('sha256').update(bad).digest('hex')])
    assert.equal(String(refused?.bodies?.[0]?.bytes), bad.slice(0, 4096))
  })

  test('rule 8: what is hidden is refused as unknown, and who looked for it is on record, at the endpoint of all servers too (R74)', async () => {
    given.setRole({ allow: [{ mcp: 's', can: 'any' }] })
    try {
      for (const [path, name] of [
        ['other', 'ok'],
        ['', 'other__ok'],
        ['', 'nowhere__ok'],
      ] as const) {
        const since = given.records.length
        const { headers, body } = request('modern', name)
        const text = await (await given.post(path, body, { ...headers, 'x-test-as': 'prober' })).text()
        assert.match(text, /Unknown tool|There is no MCP server/)
        const found = given.records.slice(since).filter(({ type, actor }) => actor?.name === 'prober' && /refused/.test(type))
        assert.equal(found.length, 1, `${path}: ${name}`)
      }
    } finally {
      given.setRole({ allow: [{ mcp: 'any', can: 'any' }] })
    }
  })
})
