import assert from 'node:assert/strict'
import { createServer, type IncomingMessage } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node'
import { type EventStore, McpServer, UrlElicitationRequiredError } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { eventually, type Harness, harness, listen } from '../harness.fixture.ts'

/** A server of the legacy era, built with the SDK. */
function make(): McpServer {
  const server = new McpServer(
    { name: 'old', version: '1' },
    { capabilities: { logging: {}, resources: { subscribe: true, listChanged: true } }, instructions: 'be kind' },
  )
  server.server.setRequestHandler('resources/subscribe', () => ({}))
  server.server.setRequestHandler('resources/unsubscribe', () => ({}))
  const text = (value: unknown) => ({ content: [{ type: 'text' as const, text: typeof value === 'string' ? value : JSON.stringify(value) }] })
  const none = { inputSchema: z.object({}) }
  let visited = false
  server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, ({ text: said }) => text(said))
  server.registerTool('count', none, async (_, { mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken
    for (const progress of [1, 2, 3])
      if (progressToken !== undefined) await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress } })
    return text('counted')
  })
  server.registerTool(
    'hang',
    none,
    (_, { mcpReq }) => new Promise((resolve) => mcpReq.signal.addEventListener('abort', () => resolve(text(cancelled++)))),
  )
  server.registerTool('ask', none, async (_, { mcpReq }) => {
    const requestedSchema = { type: 'object' as const, properties: { name: { type: 'string' as const } } }
    const person = await mcpReq.elicitInput({ mode: 'form', message: 'who?', requestedSchema })
    const model = await mcpReq.requestSampling({ messages: [{ role: 'user', content: { type: 'text', text: 'hi' } }], maxTokens: 5 })
    return text({ person, model })
  })
  server.registerTool('aside', none, async () => text(await server.server.listRoots()))
  server.registerTool('page', none, async () => {
    if (visited) return text('visited')
    visited = true
    throw new UrlElicitationRequiredError([{ mode: 'url', message: 'go', url: 'https://x.example/', elicitationId: '1' }])
  })
  server.registerTool('poll', none, async (_, { http }) => {
    http?.closeSSE?.()
    await new Promise((resolve) => setTimeout(resolve, 30))
    return text('polled')
  })
  server.registerTool('change', none, async () => {
    await server.server.sendResourceUpdated({ uri: 'test://a' })
    await server.server.sendResourceUpdated({ uri: 'test://b' })
    server.sendToolListChanged()
    return text('changed')
  })
  server.registerTool('log', none, async (_, { mcpReq }) => {
    await mcpReq.log('debug', 'low')
    await mcpReq.log('error', 'high')
    return text('logged')
  })
  server.registerResource('a', 'test://a', {}, () => ({ contents: [{ uri: 'test://a', text: 'A' }] }))
  server.registerPrompt('greet', { argsSchema: z.object({ who: z.string() }) }, ({ who }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `hello ${who}` } }],
  }))
  return server
}
let cancelled = 0

/** Keeps every event, so that a stream which was closed can be taken up again. */
function eventStore(): EventStore {
  const events: { id: string; stream: string; message: Parameters<EventStore['storeEvent']>[1] }[] = []
  return {
    async storeEvent(stream, message) {
      const id = `${stream}_${events.length}`
      events.push({ id, stream, message })
      return id
    },
    async replayEventsAfter(last, { send }) {
      const at = events.findIndex(({ id }) => id === last)
      const stream = events[at]?.stream ?? ''
      for (const event of events.slice(at + 1))
        if (event.stream === stream && Object.keys(event.message).length > 0) await send(event.id, event.message)
      return stream
    },
  }
}

async function oldServer(store: boolean) {
  const transports = new Map<string, NodeStreamableHTTPServerTransport>()
  const seen: { headers: IncomingMessage['headers']; verb: string; body: string }[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks).toString('utf8')
    seen.push({ headers: request.headers, verb: request.method ?? '', body })
    const parsed = body === '' ? undefined : JSON.parse(body)
    const id = request.headers['mcp-session-id']
    let transport = typeof id === 'string' ? transports.get(id) : undefined
    if (!transport && parsed?.method === 'initialize') {
      transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: () => `upstream-${transports.size}-${Math.random()}`,
        onsessioninitialized: (made) => void transports.set(made, transport!),
        ...(store ? { eventStore: eventStore(), retryInterval: 20 } : {}),
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

/** A server of one session that speaks over its standard input and output, as a program of its own. */
const program = `
import { McpServer } from '${import.meta.resolve('@modelcontextprotocol/server')}'
import { StdioServerTransport } from '${import.meta.resolve('@modelcontextprotocol/server/stdio')}'
const server = new McpServer({ name: 'old', version: '1' })
const text = (value) => ({ content: [{ type: 'text', text: JSON.stringify(value) }] })
server.registerTool('ask', {}, async (context) => {
  const { progressToken } = context.mcpReq._meta ?? {}
  if (progressToken !== undefined) await context.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress: 1, message: 'asking' } })
  const person = await context.mcpReq.elicitInput({ mode: 'form', message: 'who?', requestedSchema: { type: 'object', properties: {} } })
  const roots = await server.server.listRoots()
  return text({ person, roots })
})
server.registerTool('change', {}, async () => {
  server.sendToolListChanged()
  return text('changed')
})
await server.connect(new StdioServerTransport())
`

describe('a client of 2026-07-28 at a real legacy server, through the gateway', () => {
  let given: Harness
  let old: Awaited<ReturnType<typeof oldServer>>
  const clients: Client[] = []
  before(async () => {
    old = await oldServer(true)
    given = await harness({
      role: { allow: [{ mcp: 'any', can: 'any' }] },
      servers: {
        old: { url: `${old.url}/mcp` },
        pipe: { command: [process.execPath, '--input-type=module', '-e', program], isolation: 'none' },
      },
    })
  })
  after(async () => {
    await Promise.all(clients.map((client) => client.close()))
    await given.close()
    old.close()
  })

  const connect = async (capabilities: object = { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} }, name = 'old') => {
    const client = new Client({ name: 'new', version: '1' }, { capabilities, versionNegotiation: { mode: { pin: '2026-07-28' } } })
    if (Object.keys(capabilities).length > 0) {
      client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: { name: 'Ada' } }))
      client.setRequestHandler('sampling/createMessage', () => ({ role: 'assistant', content: { type: 'text', text: 'hi' }, model: 'm' }))
      client.setRequestHandler('roots/list', () => ({ roots: [{ uri: 'file:///here' }] }))
    }
    clients.push(client)
    await client.connect(new StreamableHTTPClientTransport(new URL(`${given.base}${name}`)))
    return client
  }
  const called = async (client: Client, name: string, args = {}, options = {}) => {
    const { content } = await client.callTool({ name, arguments: args }, options)
    return (content as { text: string }[])[0]!.text
  }

  test('discovers, lists, calls, reads, completes', async () => {
    const client = await connect()
    assert.equal(client.getProtocolEra(), 'modern')
    assert.equal(client.getInstructions(), 'be kind')
    assert.ok((await client.listTools()).tools.some(({ name }) => name === 'echo'))
    assert.equal(await called(client, 'echo', { text: 'ä' }), 'ä')
    assert.deepEqual(
      (await client.listResources()).resources.map(({ uri }) => uri),
      ['test://a'],
    )
    assert.equal(((await client.readResource({ uri: 'test://a' })).contents[0] as { text: string }).text, 'A')
    const { messages } = await client.getPrompt({ name: 'greet', arguments: { who: 'you' } })
    assert.deepEqual(messages[0]!.content, { type: 'text', text: 'hello you' })
    await assert.rejects(client.readResource({ uri: 'test://none' }), { code: -32602 })
    assert.ok(old.seen.filter(({ body }) => !body.includes('server/discover')).every(({ headers }) => headers['mcp-method'] === undefined))
    assert.ok(old.seen.filter(({ headers }) => headers['mcp-session-id']).every(({ headers }) => headers['mcp-protocol-version'] === '2025-11-25'))
  })

  test('gets progress on its own stream, and its log at the level that it named', async () => {
    const client = await connect()
    const progress: number[] = []
    assert.equal(await called(client, 'count', {}, { onprogress: (one: { progress: number }) => void progress.push(one.progress) }), 'counted')
    assert.deepEqual(progress, [1, 2, 3])
    const logs: unknown[] = []
    client.setNotificationHandler('notifications/message', ({ params }) => void logs.push(params.data))
    await client.callTool({ name: 'log', arguments: {}, _meta: { 'io.modelcontextprotocol/logLevel': 'warning' } })
    await client.callTool({ name: 'log', arguments: {} })
    assert.deepEqual(logs, ['high'])
  })

  test('is asked for what the server asks, in two rounds, and every round is recorded', async () => {
    const client = await connect()
    const { person, model } = JSON.parse(await called(client, 'ask'))
    assert.deepEqual(person.content, { name: 'Ada' })
    assert.equal(model.content.text, 'hi')
    const operations = given.of('action.intent').map(({ action }) => action?.operation)
    assert.ok(operations.includes('elicitation/create') && operations.includes('sampling/createMessage'))
    await eventually(() => given.guard.open <= 2, 'permits are settled')
  })

  test('is asked for what the server asks outside of the call', async () => {
    assert.match(await called(await connect(), 'aside'), /file:\/\/\/here/)
  })

  test('is not asked for what it cannot answer', async () => {
    const { isError } = await (await connect({})).callTool({ name: 'ask', arguments: {} })
    assert.equal(isError, true)
  })

  test('opens a page first (-32042), then gets its result', async () => {
    assert.equal(await called(await connect(), 'page'), 'visited')
  })

  test('gets the answer of a server that closes the stream and has it taken up', async () => {
    assert.equal(await called(await connect(), 'poll'), 'polled')
    assert.ok(old.seen.some(({ verb, headers }) => verb === 'GET' && headers['last-event-id'] !== undefined))
  })

  test('rule 6: has its call cancelled at the server when it leaves', async () => {
    const client = await connect()
    const stop = new AbortController()
    const before = cancelled
    const call = called(client, 'hang', {}, { signal: stop.signal })
    await eventually(() => old.seen.some(({ body }) => body.includes('"hang"')), 'the call is there')
    stop.abort()
    await assert.rejects(call)
    await eventually(() => cancelled === before + 1, 'the server was told')
  })

  test('listens to changes, and only to those that it asked for', async () => {
    const client = await connect()
    const heard: string[] = []
    client.setNotificationHandler('notifications/tools/list_changed', () => void heard.push('tools'))
    client.setNotificationHandler('notifications/resources/updated', ({ params }) => void heard.push(params.uri))
    const listening = await client.listen({ toolsListChanged: true, resourceSubscriptions: ['test://a'] })
    assert.deepEqual(listening.honoredFilter, { toolsListChanged: true, resourceSubscriptions: ['test://a'] })
    await called(client, 'change')
    await eventually(() => heard.length === 2, 'both changes were heard')
    assert.deepEqual(heard.sort(), ['test://a', 'tools'])
    await listening.close()
    await eventually(() => old.seen.some(({ body }) => body.includes('resources/unsubscribe')), 'it is unsubscribed')
  })

  test('is asked, sees progress and hears of changes over stdio as well', async () => {
    const client = await connect(undefined, 'pipe')
    const heard: unknown[] = []
    client.setNotificationHandler('notifications/tools/list_changed', () => void heard.push('tools'))
    const listening = await client.listen({ toolsListChanged: true })
    // The SDK's client reports its own rounds as progress too; those have another message.
    const onprogress = ({ message }: { message?: string }) => void (message === 'asking' && heard.push(message))
    const { person, roots } = JSON.parse(await called(client, 'ask', {}, { onprogress }))
    assert.deepEqual([person.content, roots.roots.length], [{ name: 'Ada' }, 1])
    await called(client, 'change')
    await eventually(() => heard.length === 2, 'progress and change were heard')
    assert.deepEqual(heard, ['asking', 'tools'])
    await listening.close()
  })

  test('does not notice that the server has lost its sessions', async () => {
    const client = await connect()
    assert.equal(await called(client, 'echo', { text: 'one' }), 'one')
    old.transports.clear()
    assert.equal(await called(client, 'echo', { text: 'two' }), 'two')
  })
})
