import assert from 'node:assert/strict'
import { createServer, request as open } from 'node:http'
import { after, before, beforeEach, describe, test } from 'node:test'
import { answerOf, eventually, type Harness, harness, initialize, listen, openSession } from './harness.fixture.ts'

const ping = { jsonrpc: '2.0', id: 1, method: 'ping' }

describe('bad JSON-RPC over HTTP', () => {
  let given: Harness
  let arrived = 0
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const message = body === '' ? {} : JSON.parse(body)
    if (message.method === 'initialize') {
      return response.writeHead(200, { 'content-type': 'application/json', 'mcp-session-id': 's' }).end(
        JSON.stringify({
          jsonrpc: '2.0',
          id: message.id,
          result: { protocolVersion: message.params.protocolVersion, capabilities: {}, serverInfo: {} },
        }),
      )
    }
    if (message.method === undefined || message.method === 'notifications/initialized') return response.writeHead(202).end()
    arrived++
    response
      .writeHead(message.id === undefined ? 202 : 200, { 'content-type': 'application/json' })
      .end(message.id === undefined ? undefined : JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { got: message.method } }))
  })
  before(async () => {
    const url = await listen(server)
    given = await harness({
      role: { allow: [{ mcp: 'any', tools: ['read'] }] },
      servers: { web: { url } },
      limits: { bodyBytes: 64 * 1024, bodyMs: 2_000, lanesPerSession: 40 },
    })
  })
  beforeEach(() => {
    arrived = 0
  })
  after(async () => {
    await given.close()
    server.closeAllConnections()
    server.close()
  })

  const refused = async (response: Response, status: number, code: number, reason: string) => {
    const { error } = await answerOf(response)
    assert.deepEqual({ status: response.status, code: error.code, reason: error.data.reason }, { status, code, reason })
    assert.equal(error.data.origin, 'proxy')
    assert.equal(response.headers.get('x-chaperone-origin'), 'proxy')
    assert.equal(arrived, 0, 'the server saw it')
    const record = given.of('message.refused').at(-1)!
    assert.equal(record.data?.reason, reason)
    assert.equal(record.actor?.name, 'boris/claude-code')
  }

  for (const [what, body, status, code, reason] of [
    ['malformed', '{"jsonrpc":', 400, -32700, 'malformed'],
    ['written with a duplicate key', '{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', 400, 40002, 'ambiguous'],
    ['written with case variants', '{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}', 400, -32600, 'ambiguous'],
    ['deep', `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":${'['.repeat(200)}${']'.repeat(200)}}}`, 413, 41301, 'too_large'],
    ['an empty batch', '[]', 400, -32600, 'malformed'],
    ['a response to nothing', '{"jsonrpc":"2.0","id":1,"result":{}}', 400, -32000, 'malformed'],
  ] as const) {
    test(`rule 2: a message that is ${what} is refused, recorded, and never sent on`, async () =>
      refused(await given.post('web', body), status, code, reason))
  }

  test('rule 11: a huge message is refused while it is read', async () => {
    await refused(await given.post('web', JSON.stringify({ ...ping, params: { x: 'x'.repeat(70 * 1024) } })), 413, 41301, 'too_large')
    // Without a length, the limit holds while reading; nothing after it is read.
    const target = new URL(`${given.base}web`)
    let sent = 0
    const status = await new Promise<number>((resolve, reject) => {
      const request = open(target, { method: 'POST', headers: { 'content-type': 'application/json', 'transfer-encoding': 'chunked' } }, (response) =>
        resolve(response.statusCode ?? 0),
      )
      request.on('error', reject)
      const more = () => {
        while (!request.destroyed && sent < 2 ** 30 && request.write('x'.repeat(16 * 1024))) sent += 16 * 1024
      }
      request.on('drain', more)
      more()
    })
    assert.equal(status, 413)
    assert.ok(sent < 64 * 1024 * 1024, `${sent} bytes were taken`)
  })

  test('rule 11: a slow message is refused when its time is over', async () => {
    const status = await new Promise<number>((resolve, reject) => {
      const request = open(new URL(`${given.base}web`), { method: 'POST', headers: { 'content-type': 'application/json' } }, (response) =>
        resolve(response.statusCode ?? 0),
      )
      request.on('error', reject)
      request.write('{')
    })
    assert.equal(status, 408)
  })

  test('a message that breaks off leaves nothing behind', async () => {
    const before = given.of('message.refused').length
    const request = open(new URL(`${given.base}web`), { method: 'POST', headers: { 'content-type': 'application/json', 'content-length': '100' } })
    request.on('error', () => {})
    request.write('{"jsonrpc"')
    await eventually(() => request.socket !== null && !request.socket.connecting, 'it is sent')
    setTimeout(() => request.destroy(), 20)
    await eventually(() => given.of('message.refused').length === before + 1, 'it is recorded')
  })

  for (const type of [
    'text/plain',
    'application/json-seq',
    'application/x-www-form-urlencoded',
    '',
    'multipart/form-data; boundary=application/json',
  ]) {
    test(`a message under the name ${JSON.stringify(type)} is refused (peers R08)`, async () => {
      await refused(await given.post('web', ping, { 'content-type': type }), 415, -32600, 'malformed')
    })
  }

  test('a media type is read without case (peers R07)', async () => {
    const session = await openSession(given, 'web')
    const response = await given.post('web', ping, { ...session, 'content-type': 'Application/JSON; charset=utf-8' })
    assert.equal(response.status, 200)
  })

  test('rule 2: a modern header that lies is refused with -32020 (peers R10)', async () => {
    const _meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} }
    const call = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'denied', _meta } }
    await refused(
      await given.post('web', call, { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'read' }),
      400,
      -32020,
      'ambiguous',
    )
  })

  test('rule 9: a notification that is a call in disguise is judged, and refused (peers R04)', async () => {
    const session = await openSession(given, 'web')
    const response = await given.post('web', { jsonrpc: '2.0', method: 'tools/call', params: { name: 'denied' } }, session)
    assert.equal(response.status, 403)
    assert.equal(arrived, 0)
    assert.equal(given.of('action.refused').at(-1)?.action?.summary, 'tools/call denied')
  })

  test('a batch is refused, but for the one version that had them; there each message is judged', async () => {
    const call = (id: number, name: string) => ({ jsonrpc: '2.0', id, method: 'tools/call', params: { name } })
    await refused(await given.post('web', [ping], await openSession(given, 'web')), 400, -32600, 'malformed')
    const session = await openSession(given, 'web', {}, '2025-03-26')
    const answers = await (
      await given.post('web', [call(1, 'read'), call(2, 'denied'), { jsonrpc: '2.0', method: 'notifications/x' }], session)
    ).json()
    assert.deepEqual(
      (answers as { id: number; result: { isError?: boolean } }[]).map(({ id, result }) => [id, result.isError ?? false]),
      [
        [1, false],
        [2, true],
      ],
    )
    assert.equal(arrived, 3) // the list that tells whether the tool is the approved one, the call, the notification
  })

  test('a session that is missing, unknown, or badly named', async () => {
    assert.equal((await given.post('web', ping)).status, 400)
    assert.equal((await given.post('web', ping, { 'mcp-session-id': 'nope' })).status, 404)
    assert.equal((await fetch(`${given.base}web`)).status, 400)
    assert.equal((await fetch(`${given.base}web`, { headers: { 'mcp-protocol-version': '2026-07-28' } })).status, 405)
    assert.equal((await fetch(`${given.base}web`, { method: 'PUT', body: '' })).status, 405)
    assert.equal((await given.post('web', initialize(), { 'mcp-session-id': 'x' })).status, 400)
  })

  test('rule 11: one caller cannot open sessions without end (peers R56)', async () => {
    const statuses: number[] = []
    for (let i = 0; i < 45; i++) statuses.push((await given.post('web', initialize(), { 'x-test-as': 'greedy' })).status)
    assert.equal(statuses.filter((status) => status === 200).length, 40)
    assert.equal(statuses.at(-1), 429)
    assert.equal((await given.post('web', initialize(), { 'x-test-as': 'modest' })).status, 200)
  })

  test('rule 1: when the record cannot be written, nothing is sent (peers R70)', async () => {
    const session = await openSession(given, 'web')
    arrived = 0
    const push = given.records.push
    given.records.push = () => {
      throw new Error('disk full')
    }
    const response = await given.post('web', { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'read' } }, session)
    given.records.push = push
    assert.equal((await answerOf(response)).error.data.origin, 'proxy')
    assert.equal(arrived, 0)
  })
})
