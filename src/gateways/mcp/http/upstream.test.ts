import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { after, before, beforeEach, describe, test } from 'node:test'
import { manualClock, systemClock } from '../../../clock.ts'
import { heldPort } from '../../../network/held-port.fixture.ts'
import { openOutbound } from '../../../vault/outbound.ts'
import { answerOf, eventually, type Harness, harness, initialize, type Json, listen, openSession } from '../harness.fixture.ts'
import { MCP_LIMITS } from '../limits.ts'
import { UpstreamHttp } from './upstream.ts'

type Script = (request: IncomingMessage, response: ServerResponse, body: Json) => void

const json = (response: ServerResponse, status: number, value: unknown, headers: Record<string, string> = {}) =>
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(typeof value === 'string' ? value : JSON.stringify(value))
const handshake = { protocolVersion: '2025-11-25', capabilities: {}, serverInfo: { name: 'scripted', version: '1' } }
const call = (id: number | string, name = 'tool', more = {}) => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name, arguments: {}, ...more },
})
const modernHeaders = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'tool' }
const modernCall = (id: number) =>
  call(id, 'tool', { _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} } })

describe('an HTTP server that misbehaves', () => {
  let given: Harness
  let script: Script
  const seen: { verb: string; body: Json }[] = []
  // Nothing is too late because this machine is slow: time passes where a test says so.
  const clock = manualClock(1_000_000)
  const nobodyThere = heldPort()
  after(async () => (await nobodyThere).release())
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks).toString('utf8')) : {}
    seen.push({ verb: request.method ?? '', body })
    if (body.method === 'initialize') return json(response, 200, { jsonrpc: '2.0', id: body.id, result: handshake }, { 'mcp-session-id': 'theirs' })
    if (body.method?.startsWith('notifications/')) return void response.writeHead(202).end()
    if (request.method === 'DELETE') return void response.writeHead(200).end()
    script(request, response, body)
  })
  let session: Record<string, string>

  before(async () => {
    const url = await listen(server)
    given = await harness({
      role: {
        allow: [
          { mcp: 'any', tools: 'any' },
          { mcp: 'any', resources: ['test://ok'] },
        ],
      },
      servers: {
        web: { url },
        gone: { url: `http://127.0.0.1:${(await nobodyThere).port}/` },
        unset: { url, headers: { authorization: { secret: 'missing' } } },
      },
      clock,
      limits: { lineBytes: 256 * 1024, silenceMs: 300, drainMs: 100 },
    })
  })
  beforeEach(async () => {
    session = await openSession(given, 'web')
    // Else a call is preceded by a list, which would get what the test has in store for the call.
    script = (_, response, { id }) => json(response, 200, { jsonrpc: '2.0', id, result: { tools: [] } })
    await (await given.post('web', { jsonrpc: '2.0', id: 0, method: 'tools/list' }, session)).text()
    seen.length = 0
  })
  after(async () => {
    await given.close()
    server.closeAllConnections()
    server.close()
  })
  const lastOutcome = () => given.of('action.outcome').at(-1)?.outcome

  test('an unreachable server is named, and the call surely did nothing', async () => {
    const response = await given.post('gone', initialize())
    const { error } = await answerOf(response)
    assert.equal(error.code, 50201)
    assert.equal(error.data.origin, 'proxy')
    assert.equal(response.headers.get('x-chaperone-origin'), 'proxy')
    assert.equal(lastOutcome()?.status, 'failed')
  })

  test('a secret that is not set stops the call before anything is sent', async () => {
    const { error } = await answerOf(await given.post('unset', initialize()))
    assert.equal(error.code, 50201)
    assert.equal(seen.length, 0)
  })

  for (const [what, status, headers] of [
    ['a failure without a message', 503, {}],
    ['a redirect', 302, { location: 'http://169.254.169.254/' }],
    ['a challenge', 401, { 'www-authenticate': 'Bearer resource_metadata="https://evil.example"' }],
    ['an answer that is no JSON', 200, { 'content-type': 'text/html' }],
    ['a compressed answer', 200, { 'content-type': 'application/json', 'content-encoding': 'gzip' }],
  ] as const) {
    test(`${what} of the server (${status}) is told in words of ours, and not passed on`, async () => {
      script = (_, response) => void response.writeHead(status, headers).end('<html>')
      const response = await given.post('web', call(1), session)
      assert.equal(response.status, 200)
      assert.equal(response.headers.get('www-authenticate'), null)
      assert.equal(response.headers.get('location'), null)
      const { error, id } = await answerOf(response)
      assert.equal(id, 1)
      assert.equal(error.data.reason, status === 401 ? 'upstream_login_required' : 'upstream_unavailable')
    })
  }

  test("a JSON-RPC error of the server arrives as it is, marked as the server's", async () => {
    const text = '{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"x","data":{"n":12345678901234567890}}}'
    script = (_, response) => void json(response, 400, text, { 'set-cookie': 'a=b', 'mcp-session-id': 'theirs' })
    const response = await given.post('web', call(1), session)
    assert.equal(response.status, 400)
    assert.equal(await response.text(), text)
    assert.equal(response.headers.get('x-chaperone-origin'), 'upstream')
    assert.equal(response.headers.get('set-cookie'), null)
    assert.equal(response.headers.get('mcp-session-id'), null)
    assert.equal(lastOutcome()?.status, 'failed')
  })

  test('rule 11: a silent server is given up, and the outcome is unknown', async () => {
    script = () => {}
    const silent = given.post('web', call(1), session)
    await eventually(() => seen.length === 1, 'the call arrived')
    clock.advance(300)
    const { error } = await answerOf(await silent)
    assert.equal(error.data.reason, 'upstream_timeout')
    assert.equal(lastOutcome()?.status, 'unknown')
    await eventually(() => seen.some(({ body }) => body.method === 'notifications/cancelled' && body.params.requestId === 1), 'the server was told')
  })

  test('progress keeps a long call alive (peers R95)', async () => {
    const open = Promise.withResolvers<ServerResponse>()
    script = (_, response) => open.resolve(response.writeHead(200, { 'content-type': 'text/event-stream' }))
    const answered = given.post('web', call(1), session).then((response) => response.body!.getReader())
    const server = await open.promise
    let heard = ''
    for (let step = 1; step <= 5; step++) {
      server.write(`data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":${step}}}\n\n`)
      const reader = await answered
      while (!heard.includes(`"progress":${step}`)) heard += Buffer.from((await reader.read()).value!)
      clock.advance(200)
    }
    server.end('data: {"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n\n')
    const reader = await answered
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) heard += Buffer.from(piece.value)
    assert.match(heard, /\{"jsonrpc":"2.0","id":1,"result":\{"content":\[\]\}\}/)
    assert.equal(lastOutcome()?.status, 'ok')
  })

  test('rule 11: an answer without end is cut at its limit', async () => {
    script = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(`data: ${'x'.repeat(300 * 1024)}`)
    }
    const { error } = await answerOf(await given.post('web', call(1), session))
    assert.equal(error.data.reason, 'too_large')
  })

  test('an answer that breaks off is never taken for whole', async () => {
    script = (_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.write('{"jsonrpc":"2.0","id":1,"result":{"content":[')
      setTimeout(() => response.destroy(), 20)
    }
    const { error } = await answerOf(await given.post('web', call(1), session))
    assert.equal(error.data.reason, 'upstream_unavailable')
    await eventually(() => lastOutcome()?.status === 'unknown', 'the outcome is recorded')
  })

  test('rule 10: events, ids, comments and retry arrive byte for byte', async () => {
    const text =
      ': hi\r\n\r\nid: 7\nretry: 50\ndata:\n\nevent: message\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1.0}}\n\nid: 8\ndata: {"jsonrpc":"2.0",\ndata: "id":1,"result":{"x":1e2}}\n\n'
    script = (_, response) => void response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' }).end(text)
    assert.equal(await (await given.post('web', call(1), session)).text(), text)
  })

  test('what could be read in two ways does not reach the client', async () => {
    script = (_, response) =>
      void response
        .writeHead(200, { 'content-type': 'text/event-stream' })
        .end(
          'data: {"jsonrpc":"2.0","method":"notifications/message","params":{},"method":"sampling/createMessage"}\n\ndata: {"jsonrpc":"2.0","id":99,"result":{}}\n\nodd: 1\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\ndata: {"jsonrpc":"2.0","id":1,"result":{"ok":true}}\n\n',
        )
    assert.equal(await (await given.post('web', call(1), session)).text(), 'data: {"jsonrpc":"2.0","id":1,"result":{"ok":true}}\n\n')
  })

  test('an update of a resource that may not be read is not told', async () => {
    const update = (uri: string) => `data: {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"${uri}"}}\n\n`
    const end = 'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
    script = (_, response) =>
      void response.writeHead(200, { 'content-type': 'text/event-stream' }).end(update('test://ok') + update('test://hidden') + end)
    assert.equal(await (await given.post('web', call(1), session)).text(), update('test://ok') + end)
  })

  test('a legacy client that goes away cancels nothing; its call ends by itself or at a limit', async () => {
    script = () => {}
    const stop = new AbortController()
    const gone = fetch(`${given.base}web`, {
      method: 'POST',
      headers: { ...session, 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      body: JSON.stringify(call(5)),
      signal: stop.signal,
    })
    gone.catch(() => {})
    await eventually(() => seen.length === 1, 'the call arrived')
    stop.abort()
    await eventually(() => {
      clock.advance(300)
      return lastOutcome()?.status === 'unknown' && given.guard.open === 0
    }, 'the call is given up')
  })

  test('a modern client that goes away cancels: the connection to the server is closed at once', async () => {
    let closed = false
    script = (_, response, { id, method }) => {
      const about = { supportedVersions: ['2026-07-28'], capabilities: { tools: {} } }
      if (method !== 'tools/call') return json(response, 200, { jsonrpc: '2.0', id, result: method === 'server/discover' ? about : { tools: [] } })
      response.once('close', () => {
        closed = true
      })
    }
    const stop = new AbortController()
    const gone = fetch(`${given.base}web`, {
      method: 'POST',
      headers: { ...modernHeaders, 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      body: JSON.stringify(modernCall(1)),
      signal: stop.signal,
    })
    gone.catch(() => {})
    await eventually(() => seen.some(({ body }) => body.method === 'tools/call'), 'the call arrived')
    stop.abort()
    await eventually(() => closed && given.guard.open === 0, 'the server sees it')
  })

  test('an answer that comes on a resumed stream settles its request, and a list is filtered there too', async () => {
    given.setRole({ allow: [{ mcp: 'any', tools: ['seen'] }] })
    script = (request, response, body) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      if (request.method === 'POST') return void response.end('id: 1\nretry: 1\ndata:\n\n')
      assert.equal(request.headers['last-event-id'], '1')
      response.end('id: 2\ndata: {"jsonrpc":"2.0","id":"L","result":{"tools":[{"name":"seen"},{"name":"hidden"}]}}\n\n')
      void body
    }
    await (await given.post('web', { jsonrpc: '2.0', id: 'L', method: 'tools/list' }, session)).text()
    const stream = await fetch(`${given.base}web`, { headers: { ...session, accept: 'text/event-stream', 'last-event-id': '1' } })
    assert.equal(await stream.text(), 'id: 2\nevent: message\ndata: {"jsonrpc":"2.0","id":"L","result":{"tools":[{"name":"seen"}]}}\n\n')
    await eventually(() => given.guard.open === 0, 'both are settled')
    given.setRole({
      allow: [
        { mcp: 'any', tools: 'any' },
        { mcp: 'any', resources: ['test://ok'] },
      ],
    })
  })

  test('a request id that is in use is not taken twice', async () => {
    script = () => {}
    const first = given.post('web', call(3), session)
    await eventually(() => seen.length === 1, 'the call arrived')
    const { error } = await answerOf(await given.post('web', call(3), session))
    assert.equal(error.data.reason, 'malformed')
    clock.advance(300)
    await (await first).text()
  })

  test('when the server forgets the session, the client is told to open a new one (peers R58)', async () => {
    script = (_, response) => void json(response, 404, { jsonrpc: '2.0', error: { code: -32001, message: 'Session not found' } })
    assert.equal((await given.post('web', call(1), session)).status, 404)
    assert.equal((await given.post('web', call(2), session)).status, 404)
  })

  test('rule 6: a permit that the role no longer gives is cut while its answer streams, and the client is told in the stream', async () => {
    let closed = false
    script = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': begun\n\n')
      response.once('close', () => {
        closed = true
      })
    }
    const response = await given.post('web', call(1), session)
    given.setRole({ allow: [{ mcp: 'any', tools: ['other'] }] })
    const { error } = await answerOf(response)
    assert.equal(error.data.reason, 'no_rule')
    assert.equal(lastOutcome()?.status, 'unknown')
    await eventually(() => closed && seen.some(({ body }) => body.method === 'notifications/cancelled'), 'the server is told and left')
    given.setRole({ allow: [{ mcp: 'any', tools: 'any' }] })
  })

  test('rule 11: a slow client slows the server down, and nothing piles up in between', async () => {
    const chunk = Buffer.alloc(256 * 1024, 'x')
    const all = 256
    let sent = 0
    script = async (_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.write('{"jsonrpc":"2.0","id":1,"result":{"x":"')
      for (; sent < all; sent++) if (!response.write(chunk)) await new Promise((resolve) => response.once('drain', resolve))
      response.end('"}}')
    }
    const body = (await given.post('web', call(1), session)).body!.getReader()
    let size = (await body.read()).value!.length
    let same = 0
    let last = -1
    await eventually(() => {
      same = sent === last ? same + 1 : 0
      last = sent
      return same > 20
    }, 'the server waits')
    assert.ok(sent < all / 2, `${sent} of ${all} pieces were taken from the server while the client read one`)
    for (let piece = await body.read(); !piece.done; piece = await body.read()) size += piece.value.length
    assert.ok(size > all * chunk.length)
  })
})

test('a connection that is closed without an answer and without an error ends the request at once', async () => {
  const server = createServer()
  server.on('connection', (socket) =>
    socket.once('data', () => socket.end('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n')),
  )
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
  try {
    await assert.rejects(http.channel({ method: 'GET', headers: {}, stop: new AbortController().signal }), /without an answer/)
    const { fetch } = openOutbound({ server: new URL(url), name: 'x', clock: systemClock })
    await assert.rejects(fetch(url), /cannot be reached/)
  } finally {
    http.close()
    server.closeAllConnections()
    server.close()
  }
})
