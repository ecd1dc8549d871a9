import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { after, before, beforeEach, describe, test } from 'node:test'
import { manualClock } from '../../../clock.ts'
import { answerOf, eventually, type Harness, harness, initialize, type Json, listen, openSession } from '../harness.fixture.ts'
import { looksLikeOldSse } from './old-sse.ts'

const call = (id: number | string, more: object = {}) => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name: 'tool', arguments: {}, ...more },
})

describe('a server of HTTP+SSE (2024-11-05)', () => {
  let given: Harness
  /** What the first event says. */
  let endpoint = (): string => `event: endpoint\ndata: /messages?session=1\n\n`
  let onPost: (body: Json, say: (text: string) => void) => number | undefined = () => undefined
  let stream: ServerResponse | undefined
  let streams = 0
  // Nothing is too late because this machine is slow: time passes where a test says so.
  const clock = manualClock(1_000_000)
  const seen: { path: string; body: Json; headers: IncomingMessage['headers'] }[] = []
  const say = (message: Json) => void stream?.write(`event: message\ndata: ${JSON.stringify(message)}\n\n`)
  const server = createServer(async (request, response) => {
    if (request.method === 'GET' && request.url === '/sse') {
      stream = response
      streams++
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(endpoint())
      return
    }
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    if (request.method !== 'POST' || !request.url?.startsWith('/messages')) return void response.writeHead(405).end()
    const body = JSON.parse(Buffer.concat(chunks).toString('utf8'))
    seen.push({ path: request.url, body, headers: request.headers })
    const status = body.method === 'tools/call' ? onPost(body, (text) => void stream?.write(text)) : undefined
    response.writeHead(status ?? 202).end('Accepted')
    if (body.method === 'tools/list') say({ jsonrpc: '2.0', id: body.id, result: { tools: [{ name: 'tool', inputSchema: { type: 'object' } }] } })
    if (body.method === 'initialize') {
      say({
        jsonrpc: '2.0',
        id: body.id,
        result: { protocolVersion: '2024-11-05', capabilities: { tools: {} }, serverInfo: { name: 'old', version: '1' } },
      })
    }
  })
  let url = ''
  let session: Record<string, string>
  const posts = () => seen.filter(({ body }) => body.method === 'tools/call')

  before(async () => {
    url = `${await listen(server)}/sse`
    given = await harness({
      role: {
        allow: [
          { mcp: 'any', tools: 'any' },
          { mcp: 'any', resources: ['test://ok'] },
        ],
      },
      servers: { old: { url } },
      clock,
      limits: { silenceMs: 400, startMs: 400, drainMs: 100, lineBytes: 64 * 1024, inFlight: 4 },
    })
  })
  beforeEach(async () => {
    endpoint = () => 'event: endpoint\ndata: /messages?session=1\n\n'
    onPost = () => undefined
    session = await openSession(given, 'old')
    seen.length = 0
  })
  after(async () => {
    await given.close()
    server.closeAllConnections()
    server.close()
  })
  const lastOutcome = () => given.of('action.outcome').at(-1)?.outcome

  test('is found when the handshake is answered 405, and answers what is posted on its stream', async () => {
    onPost = (body, write) =>
      void write(`event: message\ndata: {"jsonrpc":"2.0",\ndata: "result":{"n":1.0,"x":12345678901234567890},"id":${body.id}}\n\n`)
    const response = await given.post('old', call('mine'), session)
    assert.equal(
      await response.text(),
      '{"jsonrpc":"2.0", "result":{"n":1.0,"x":12345678901234567890},"id":"mine"}',
      'rule 10: all but the id keeps its bytes',
    )
    assert.equal(posts()[0]?.path, '/messages?session=1')
    assert.equal(lastOutcome()?.status, 'ok')
  })

  test('serves a client of the modern era too: the handshake is made for it', async () => {
    onPost = (body) => void say({ jsonrpc: '2.0', id: body.id, result: { content: [{ type: 'text', text: 'done' }] } })
    const _meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} }
    const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'tool' }
    const { result } = await answerOf(await given.post('old', call(1, { _meta }), headers))
    assert.equal(result?.content[0].text, 'done')
  })

  test('answers in any order reach the request that they belong to, and progress its own token', async () => {
    const bodies: Json[] = []
    onPost = (body) => {
      bodies.push(body)
      if (bodies.length < 2) return undefined
      for (const one of bodies)
        say({ jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: one.params._meta.progressToken, progress: 1 } })
      for (const one of [...bodies].reverse()) say({ jsonrpc: '2.0', id: one.id, result: { name: one.params.arguments.who } })
      return undefined
    }
    const one = (id: number) => given.post('old', call(id, { arguments: { who: id }, _meta: { progressToken: 'same' } }), session)
    const [first, second] = await Promise.all([one(1), one(2)])
    for (const [response, id] of [
      [first, 1],
      [second, 2],
    ] as const) {
      const text = await response!.text()
      assert.match(text, /"progressToken":"same"/)
      assert.equal(text.match(/"progressToken"/g)?.length, 1)
      assert.match(text, new RegExp(`"id":${id},"result":\\{"name":${id}\\}`))
    }
    assert.equal(new Set(posts().map(({ body }) => body.id)).size, 2)
  })

  test('a second answer, and one to what nobody asked, reach nobody', async () => {
    onPost = (body) => {
      say({ jsonrpc: '2.0', id: 999, result: { stray: true } })
      say({ jsonrpc: '2.0', id: body.id, result: { first: true } })
      say({ jsonrpc: '2.0', id: body.id, result: { second: true } })
      return undefined
    }
    assert.deepEqual((await answerOf(await given.post('old', call(1), session))).result, { first: true })
    assert.deepEqual((await answerOf(await given.post('old', call(1), session))).result, { first: true })
  })

  test('a client that cancels, cancels its own request', async () => {
    const waiting = given.post('old', call('w'), session)
    await eventually(() => posts().length === 1, 'the call arrived')
    await (await given.post('old', { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'w' } }, session)).text()
    assert.deepEqual(seen.at(-1)?.body, { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: posts()[0]!.body.id } })
    say({ jsonrpc: '2.0', id: posts()[0]!.body.id, error: { code: -32800, message: 'cancelled' } })
    assert.equal((await answerOf(await waiting)).error.code, -32800)
  })

  test('rule 6: a permit that the role no longer gives is cut, and the server is told', async () => {
    const waiting = given.post('old', call(1), session)
    await eventually(() => posts().length === 1, 'the call arrived')
    given.setRole({ allow: [{ mcp: 'any', tools: ['other'] }] })
    assert.equal((await answerOf(await waiting)).error.data.reason, 'no_rule')
    await eventually(() => seen.at(-1)?.body.method === 'notifications/cancelled', 'the server was told')
    assert.equal(lastOutcome()?.status, 'unknown')
    given.setRole({
      allow: [
        { mcp: 'any', tools: 'any' },
        { mcp: 'any', resources: ['test://ok'] },
      ],
    })
  })

  test('what belongs to no request goes to the standalone stream, judged, also when it came before the stream', async () => {
    say({ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri: 'test://hidden' } })
    say({ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri: 'test://ok' } })
    say({ jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: 77, progress: 1 } })
    // Its answer comes after them on the same stream, so they have been seen.
    onPost = (body) => void say({ jsonrpc: '2.0', id: body.id, result: {} })
    await (await given.post('old', call(1), session)).text()
    const response = await fetch(`${given.base}old`, { headers: { ...session, accept: 'text/event-stream' } })
    const reader = response.body!.getReader()
    const text = Buffer.from((await reader.read()).value!).toString('utf8')
    assert.match(text, /test:\/\/ok/)
    assert.doesNotMatch(text, /hidden|progress/)
    await reader.cancel()
  })

  test('a ping of the server is answered', async () => {
    say({ jsonrpc: '2.0', id: 'p', method: 'ping' })
    await eventually(() => seen.some(({ body }) => body.id === 'p' && body.result !== undefined), 'the answer arrived')
  })

  test('when the stream closes, everybody who waits is told at once, and the session is over', async () => {
    const waiting = given.post('old', call(1), session)
    await eventually(() => posts().length === 1, 'the call arrived')
    stream?.end()
    assert.equal((await answerOf(await waiting)).error.data.reason, 'upstream_unavailable')
    assert.equal(lastOutcome()?.status, 'unknown')
    assert.equal((await given.post('old', call(2), session)).status, 404)
  })

  test('when a message is turned down with 404 the session is over', async () => {
    onPost = () => 404
    assert.equal((await given.post('old', call(1), session)).status, 404)
    assert.equal((await given.post('old', call(2), session)).status, 404)
  })

  test('rule 11: a silent server is given up and told; an event without end closes the stream', async () => {
    const silent = given.post('old', call(1), session)
    await eventually(() => posts().length === 1, 'the call arrived')
    clock.advance(400)
    assert.equal((await answerOf(await silent)).error.data.reason, 'upstream_timeout')
    await eventually(() => seen.at(-1)?.body.method === 'notifications/cancelled', 'the server was told')
    const many = Array.from({ length: 5 }, (_, i) => given.post('old', call(i + 10), session))
    await eventually(() => posts().length === 1 + 4, 'as many arrived as may')
    clock.advance(400)
    const reasons = await Promise.all(many.map(async (one) => (await answerOf(await one)).error.data.reason))
    assert.equal(reasons.filter((reason) => reason === 'too_many').length, 1)
    onPost = (_, write) => void write(`data: ${'x'.repeat(80 * 1024)}`)
    assert.equal((await answerOf(await given.post('old', call(2), session))).error.data.reason, 'too_large')
  })

  test('rule 2: an answer that could be read in two ways is passed on to nobody', async () => {
    onPost = (body, write) => void write(`data: {"jsonrpc":"2.0","id":${body.id},"id":${body.id},"result":{}}\n\n`)
    assert.match((await answerOf(await given.post('old', call(1), session))).error.message, /two ways/)
  })

  test('an endpoint at another origin gets nothing, nor one that is none', async () => {
    const before = seen.length
    for (const data of [
      'https://evil.example/messages',
      '//evil.example/messages',
      url.replace('127.0.0.1', 'localhost').replace('/sse', '/messages'),
      url.replace('http://', 'http://user:pw@').replace('/sse', '/messages'),
      'http://[',
      '/messages\nodd: 1',
      `/${'x'.repeat(5000)}`,
    ]) {
      endpoint = () => `event: endpoint\ndata: ${data}\n\n`
      assert.equal((await answerOf(await given.post('old', initialize()))).error.code, 50201, data)
    }
    for (const first of ['data: /messages\n\n', 'event: message\ndata: /messages\n\n']) {
      endpoint = () => first
      assert.equal((await answerOf(await given.post('old', initialize()))).error.code, 50201, first)
    }
    endpoint = () => ': nothing\n\n'
    const opened = streams
    const late = given.post('old', initialize())
    await eventually(() => streams === opened + 1, 'the stream is open')
    clock.advance(400)
    assert.equal((await answerOf(await late)).error.data.reason, 'upstream_timeout')
    assert.equal(seen.length, before)
  })

  test('the statuses that lead here are those of a server that does not know the handshake by POST', () => {
    assert.deepEqual([200, 400, 401, 403, 404, 405, 500].filter(looksLikeOldSse), [400, 404, 405])
  })
})
