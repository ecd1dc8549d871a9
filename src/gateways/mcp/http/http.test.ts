import assert from 'node:assert/strict'
import { createServer, type IncomingMessage } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { answerOf, eventually, type Harness, harness, initialize, listen, openSession, WHO } from '../harness.fixture.ts'

/** A server of both eras, built with the SDK. `seen` has what reached it. */
async function realServer() {
  const seen: { method: string; headers: IncomingMessage['headers']; body: string }[] = []
  const make = () => {
    const server = new McpServer({ name: 'fixture', version: '1' }, { capabilities: { logging: {} } })
    server.registerTool(
      'echo',
      { inputSchema: z.object({ text: z.string() }), annotations: { readOnlyHint: true, openWorldHint: false } },
      ({ text }) => ({ content: [{ type: 'text', text }] }),
    )
    server.registerTool('wipe', { inputSchema: z.object({}) }, () => ({ content: [{ type: 'text', text: 'wiped' }] }))
    server.registerTool('slow', { inputSchema: z.object({}) }, async (_args, context) => {
      const progressToken = context.mcpReq._meta?.progressToken
      for (const progress of [1, 2])
        if (progressToken !== undefined)
          await context.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 2 } })
      return { content: [{ type: 'text', text: 'done' }] }
    })
    server.registerTool(
      'hang',
      { inputSchema: z.object({}) },
      (_args, context) => new Promise((_, reject) => context.mcpReq.signal.addEventListener('abort', () => reject(new Error('cancelled')))),
    )
    server.registerTool('ask', { inputSchema: z.object({}) }, async (_args, context) => {
      const answer = await context.mcpReq
        .requestSampling({ messages: [{ role: 'user', content: { type: 'text', text: 'hi' } }], maxTokens: 5 })
        .catch((error: Error) => error.message)
      return { content: [{ type: 'text', text: String(answer) }] }
    })
    server.registerResource('report', 'test://reports/1', {}, () => ({ contents: [{ uri: 'test://reports/1', text: 'figures' }] }))
    server.registerResource('key', 'test://keys/1', {}, () => ({ contents: [{ uri: 'test://keys/1', text: 'key' }] }))
    server.registerPrompt('greet', {}, () => ({ messages: [{ role: 'user', content: { type: 'text', text: 'hello' } }] }))
    return server
  }
  const modern = toNodeHandler(createMcpHandler(make, { legacy: 'reject' }))
  const transports = new Map<string, NodeStreamableHTTPServerTransport>()
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks).toString('utf8')
    seen.push({ method: request.method ?? '', headers: request.headers, body })
    const parsed = body === '' ? undefined : JSON.parse(body)
    if (request.method === 'POST' && parsed?.params?._meta?.['io.modelcontextprotocol/protocolVersion'] !== undefined) {
      // The SDK's handler reads the request itself; it gets one with the body already at hand.
      return modern(
        Object.assign(Object.create(request), {
          [Symbol.asyncIterator]: async function* () {
            yield Buffer.from(body)
          },
        }),
        response as never,
        parsed,
      )
    }
    const id = request.headers['mcp-session-id']
    let transport = typeof id === 'string' ? transports.get(id) : undefined
    if (!transport && parsed?.method === 'initialize') {
      transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: () => `upstream-${transports.size}`,
        onsessioninitialized: (made) => void transports.set(made, transport!),
      })
      await make().connect(transport)
    }
    if (!transport)
      return void response
        .writeHead(id === undefined ? 400 : 404, { 'content-type': 'application/json' })
        .end('{"jsonrpc":"2.0","error":{"code":-32000,"message":"no session"},"id":null}')
    await transport.handleRequest(request, response, parsed)
  })
  const close = () => {
    server.closeAllConnections()
    server.close()
  }
  return { url: await listen(server), seen, transports, close }
}

const allowAll = {
  allow: [
    { mcp: 'any', tools: 'any' },
    { mcp: 'any', resources: 'any' },
    { mcp: 'any', prompts: 'any' },
  ],
}

describe('a real Streamable HTTP server behind the gateway', () => {
  let given: Harness
  let upstream: Awaited<ReturnType<typeof realServer>>
  before(async () => {
    upstream = await realServer()
    given = await harness({
      role: {
        allow: [
          { mcp: 'any', can: 'read' },
          { mcp: 'any', tools: ['slow', 'hang', 'ask'] },
        ],
        deny: [{ mcp: 'any', resources: ['test://keys/*'] }],
      },
      servers: { web: { url: `${upstream.url}/mcp`, trusted: true, headers: { authorization: { secret: 'token' } } } },
      secrets: { token: 'Bearer upstream-secret' },
    })
  })
  after(async () => {
    await given.close()
    upstream.close()
  })

  const connect = async (mode: 'legacy' | 'auto', as = WHO) => {
    const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode: mode === 'auto' ? { pin: '2026-07-28' } : 'legacy' } })
    await client.connect(new StreamableHTTPClientTransport(new URL(`${given.base}web`), { requestInit: { headers: { 'x-test-as': as } } }))
    return client
  }

  for (const mode of ['legacy', 'auto'] as const) {
    const era = mode === 'auto' ? 'modern' : 'legacy'

    test(`rule 10: a ${era} client lists what it may use, calls, reads`, async () => {
      const client = await connect(mode)
      assert.equal(client.getProtocolEra(), era)
      assert.deepEqual(
        (await client.listTools()).tools.map((tool) => tool.name),
        ['echo', 'slow', 'hang', 'ask'],
      )
      assert.deepEqual(
        (await client.listResources()).resources.map((resource) => resource.uri),
        ['test://reports/1'],
      )
      assert.deepEqual(
        (await client.listPrompts()).prompts.map((prompt) => prompt.name),
        ['greet'],
      )
      assert.deepEqual((await client.callTool({ name: 'echo', arguments: { text: 'ä' } })).content, [{ type: 'text', text: 'ä' }])
      assert.equal((await client.readResource({ uri: 'test://reports/1' })).contents.length, 1)
      await assert.rejects(
        client.readResource({ uri: 'test://keys/1' }),
        (error: { code?: number; data?: { reason?: string } }) => error.code === 40301 && error.data?.reason === 'denied_by_rule',
      )
      await client.close()
    })

    test(`a ${era} call reports its progress on its own stream`, async () => {
      const client = await connect(mode)
      const progress: number[] = []
      const result = await client.callTool({ name: 'slow', arguments: {} }, { onprogress: (step) => progress.push(step.progress) })
      assert.deepEqual(result.content, [{ type: 'text', text: 'done' }])
      assert.deepEqual(progress, [1, 2])
      await client.close()
    })

    test(`rule 8: a ${era} client reads why a call was refused`, async () => {
      const client = await connect(mode)
      const result = await client.callTool({ name: 'wipe', arguments: {} })
      assert.equal(result.isError, true)
      assert.match(JSON.stringify(result.content), /Chaperone refused the call of wipe on web/)
      await client.close()
    })

    test(`rule 6: a ${era} call that is under way ends when its session is locked, upstream too, and its outcome is unknown`, async () => {
      const client = await connect(mode, `locked-${era}`)
      const start = given.records.length
      const call = client.callTool({ name: 'hang', arguments: {} })
      call.catch(() => {})
      await eventually(() => upstream.seen.some(({ body }) => body.includes('"hang"')), 'the call reached the server')
      upstream.seen.length = 0
      given.cut(`locked-${era}`)
      await assert.rejects(call, /A lock stops this/)
      const outcome = given.records.slice(start).find((draft) => draft.type === 'action.outcome' && draft.outcome?.error === 'locked')
      assert.equal(outcome?.outcome?.status, 'unknown')
      if (mode === 'legacy') await eventually(() => upstream.seen.some(({ body }) => body.includes('notifications/cancelled')), 'the server was told')
      await eventually(() => given.guard.open === 0, 'every permit is settled')
    })
  }

  test('rule 2: the bytes that were judged are the bytes that arrive', async () => {
    const session = await openSession(given, 'web')
    const text = `{ "id" : 7, "params":{"name":"echo","arguments":{"text":"\\u00e4 1","n":12345678901234567890.10},\n"unknown":1.0},"method":"tools/call", "jsonrpc":"2.0" }`
    await answerOf(await given.post('web', text, session))
    assert.ok(upstream.seen.some(({ body }) => body === text))
  })

  test('rule 9: what a server asks by itself is judged, recorded, and answered (peers R15)', async () => {
    const session = await openSession(given, 'web')
    const stop = new AbortController()
    const stream = await fetch(`${given.base}web`, { headers: { ...session, accept: 'text/event-stream' }, signal: stop.signal })
    assert.equal(stream.status, 200)
    const answer = await answerOf(
      await given.post('web', { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'ask', arguments: {} } }, session),
    )
    assert.match(JSON.stringify(answer.result), /Chaperone does not allow this request of a server/)
    const refused = given.of('action.refused').at(-1)
    assert.equal(refused?.action?.operation, 'sampling/createMessage')
    assert.deepEqual(refused?.action?.effects, ['egress'])
    stop.abort()
    await eventually(() => given.guard.open === 0, 'the stream is settled')
  })

  test("rule 5: the server gets the catalog's headers, and nothing that the client proved itself with", async () => {
    const world = await harness({
      role: allowAll,
      servers: { web: { url: `${upstream.url}/mcp`, headers: { authorization: { secret: 'token' } } } },
      secrets: { token: 'Bearer upstream-secret' },
    })
    const before = upstream.seen.length
    await openSession(world, 'web', { authorization: 'Bearer mine', cookie: 'a=b', 'x-forwarded-for': '10.0.0.1', 'mcp-param-region': 'eu' })
    const { headers } = upstream.seen.slice(before).find(({ body }) => body.includes('"initialize"'))!
    assert.equal(headers.authorization, 'Bearer upstream-secret')
    assert.equal(headers.cookie, undefined)
    assert.equal(headers['x-forwarded-for'], undefined)
    assert.equal(headers['mcp-param-region'], 'eu')
    assert.equal(JSON.stringify(world.records).includes('upstream-secret'), false)
    await world.close()
  })

  test('an MCP session id is ours, and the server never sees it (peers R57)', async () => {
    const before = upstream.seen.length
    const session = await openSession(given, 'web')
    assert.match(session['mcp-session-id']!, /^local\.[A-Za-z0-9_-]{32}$/)
    const told = upstream.seen.slice(before).find(({ body }) => body.includes('notifications/initialized'))
    assert.match(String(told?.headers['mcp-session-id']), /^upstream-/)
  })

  test("rule 7: another identity's MCP session id is unknown to everybody else, and trying it is recorded (peers R52)", async () => {
    const session = await openSession(given, 'web')
    const before = upstream.seen.length
    for (const method of ['POST', 'GET', 'DELETE']) {
      const response = await fetch(`${given.base}web`, {
        method,
        headers: { ...session, 'x-test-as': 'mallory', 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
        ...(method === 'POST' ? { body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }) } : {}),
      })
      assert.equal(response.status, 404, method)
      assert.equal((await answerOf(response)).error.code, -32001)
    }
    assert.equal(upstream.seen.length, before)
    assert.equal(given.of('message.refused').filter((draft) => draft.actor?.name === 'mallory').length, 3)
  })

  test('a session that was ended is unknown, here and at the server', async () => {
    const session = await openSession(given, 'web')
    const ended = await fetch(`${given.base}web`, { method: 'DELETE', headers: session })
    assert.equal(ended.status, 204)
    assert.ok(upstream.seen.some(({ method }) => method === 'DELETE'))
    assert.equal((await given.post('web', { jsonrpc: '2.0', id: 1, method: 'ping' }, session)).status, 404)
  })

  test('rule 8: a server that may not be seen answers like one that does not exist', async () => {
    const ask = async (name: string, message: unknown) => {
      const response = await given.post(name, message, { 'x-test-as': 'nobody', 'mcp-protocol-version': '2025-11-25' })
      return { status: response.status, body: (await response.text()).replaceAll(name, 'NAME') }
    }
    for (const message of [initialize(), { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'echo' } }, '{']) {
      assert.deepEqual(await ask('web', message), await ask('nosuch', message))
    }
    assert.equal((await ask('web', initialize())).status, 404)
    assert.ok(given.of('action.refused').some((draft) => draft.actor?.name === 'nobody'))
  })

  test('200 lists at once are all filtered (peers R13)', async () => {
    const session = await openSession(given, 'web')
    const lists = await Promise.all(
      Array.from({ length: 200 }, (_, id) => given.post('web', { jsonrpc: '2.0', id, method: 'tools/list' }, session).then(answerOf)),
    )
    for (const [id, list] of lists.entries()) {
      assert.equal(list.id, id)
      assert.equal(
        list.result.tools.some((tool: { name: string }) => tool.name === 'wipe'),
        false,
      )
    }
  })
})

test('rule 1: what a trusted server said of its tools does not speak for the server that its document names now', async (t) => {
  const tools = (annotations: object) =>
    createServer(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      const { id, method } = JSON.parse(Buffer.concat(chunks).toString())
      const about = { supportedVersions: ['2026-07-28'], capabilities: { tools: {} } }
      const result =
        method === 'server/discover'
          ? about
          : method === 'tools/list'
            ? { tools: [{ name: 'tidy', inputSchema: { type: 'object' }, annotations }] }
            : { content: [] }
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id, result }))
    })
  const [harmless, harmful] = [tools({ readOnlyHint: true, openWorldHint: false }), tools({})]
  const given = await harness({
    role: { allow: [{ mcp: 'any', can: 'read' }] },
    servers: { s: { url: await listen(harmless), trusted: true } },
  })
  t.after(async () => {
    await given.close()
    for (const server of [harmless, harmful]) {
      server.closeAllConnections()
      server.close()
    }
  })
  const call = async () => {
    const _meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} }
    const message = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'tidy', arguments: {}, _meta } }
    const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'tidy' }
    return (await answerOf(await given.post('s', message, headers))).result.isError === true
  }
  assert.equal(await call(), false)
  given.setServer('s', { url: await listen(harmful), trusted: true })
  assert.equal(await call(), true)
})
