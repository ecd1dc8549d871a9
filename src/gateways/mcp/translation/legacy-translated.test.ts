import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { modernHandler } from '../../../../test/mcp/modern-sdk.ts'
import { eventually, type Harness, harness, listen } from '../harness.fixture.ts'

const program = fileURLToPath(new URL('../../../../test/mcp/modern-sdk.ts', import.meta.url))
/** What is admitted beside calls. */
const BACKGROUND = ['stream', 'subscriptions/listen', 'notifications/initialized', 'tools/list']
const ASKS = ['sampling/createMessage', 'elicitation/create', 'roots/list']

/** The SDK's client as it is by default: it opens a session, and knows nothing of the modern era. */
async function legacyClient(url: string, capabilities: object = { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} }) {
  const client = new Client({ name: 'old', version: '1' }, { capabilities })
  const asked: { method: string; params: Record<string, unknown> | undefined }[] = []
  const told: string[] = []
  const on = (method: string, answer: unknown) => {
    if ((capabilities as Record<string, unknown>)[method.split('/')[0]!] === undefined) return
    client.setRequestHandler(
      method as 'ping',
      ((request: { params?: Record<string, unknown> }) => {
        asked.push({ method, params: request.params })
        return answer
      }) as never,
    )
  }
  on('elicitation/create', { action: 'accept', content: { sure: true } })
  on('sampling/createMessage', { model: 'm', role: 'assistant', content: { type: 'text', text: 'Paris' } })
  on('roots/list', { roots: [{ uri: 'file:///work' }] })
  for (const method of ['notifications/tools/list_changed', 'notifications/resources/updated', 'notifications/message'] as const)
    client.setNotificationHandler(method, () => void told.push(method))
  await client.connect(new StreamableHTTPClientTransport(new URL(url)))
  return { client, asked, told }
}

/** What was admitted since, by method. */
const intents = (given: Harness, from: number): string[] =>
  given.records
    .slice(from)
    .filter(({ type }) => type === 'action.intent')
    .map((record) => (record as unknown as { action: { operation: string } }).action.operation)

describe('a real client with a handshake and a real server without one', () => {
  const handler = modernHandler()
  const http = createServer(toNodeHandler(handler))
  let given: Harness
  before(async () => {
    given = await harness({
      role: {
        allow: [
          { mcp: 'any', tools: ['*'] },
          { mcp: 'any', resources: ['*'] },
          { mcp: 'any', prompts: ['*'] },
          { mcp: 'any', operations: ASKS },
        ],
        deny: [{ mcp: 'strict', operations: ['elicitation/create'] }],
      },
      servers: {
        http: { url: await listen(http) },
        strict: { url: await listen(createServer(toNodeHandler(modernHandler())).unref()) },
        stdio: { command: [process.execPath, program], isolation: 'none' },
      },
    })
  })
  after(async () => {
    await given.close()
    await handler.close()
    http.closeAllConnections()
    http.close()
  })

  for (const name of ['http', 'stdio']) {
    test(`${name}: handshake, lists, calls, prompts, resources, completion, progress and logging`, async () => {
      const { client, told } = await legacyClient(`${given.base}${name}`)
      assert.deepEqual(client.getServerVersion(), { name: 'modern-only', version: '3' })
      assert.equal(client.getInstructions(), 'Only the new way.')
      assert.equal(client.getServerCapabilities()?.resources?.subscribe, true)
      const { tools } = await client.listTools()
      assert.deepEqual(tools.map((tool) => tool.name).sort(), ['ask_all', 'crash', 'deploy', 'echo', 'hang', 'slow'])
      assert.deepEqual((await client.callTool({ name: 'echo', arguments: { value: [1, 'é'] } })).content, [{ type: 'text', text: '[1,"é"]' }])
      assert.equal((await client.readResource({ uri: 'test://report' })).contents.length, 1)
      assert.equal((await client.getPrompt({ name: 'greet', arguments: { name: 'Dana' } })).messages.length, 1)
      const completed = await client.complete({ ref: { type: 'ref/prompt', name: 'greet' }, argument: { name: 'name', value: 'Bo' } })
      assert.deepEqual(completed.completion.values, ['Bo!'])
      await client.ping()
      const progress: number[] = []
      const slow = () => client.callTool({ name: 'slow', arguments: {} }, { onprogress: (one) => void progress.push(one.progress) })
      assert.deepEqual((await slow()).content, [{ type: 'text', text: 'done' }])
      assert.deepEqual(progress, [1, 2])
      assert.deepEqual(told, ['notifications/message'])
      await client.setLoggingLevel('error')
      await slow()
      assert.deepEqual(told, ['notifications/message'])
      await assert.rejects(client.readResource({ uri: 'test://nothing' }), /-32602|not found/i)
      await client.close()
    })

    test(`${name}: what the server requires is asked on the stream of the call, and each round is recorded`, async () => {
      const { client, asked } = await legacyClient(`${given.base}${name}`)
      const from = given.records.length
      const deployed = await client.callTool({ name: 'deploy', arguments: { to: 'prod' } })
      assert.deepEqual(deployed.content, [{ type: 'text', text: 'prod: true, state opaque prod' }])
      assert.equal(asked[0]?.params?.message, 'Deploy to prod?')
      assert.deepEqual(
        intents(given, from).filter((operation) => !BACKGROUND.includes(operation)),
        ['tools/call', 'elicitation/create', 'tools/call'],
      )
      const all = await client.callTool({ name: 'ask_all', arguments: {} })
      assert.deepEqual(JSON.parse((all.content as { text: string }[])[0]!.text), {
        page: { action: 'accept', content: { sure: true } },
        model: { model: 'm', role: 'assistant', content: { type: 'text', text: 'Paris' } },
        folders: { roots: [{ uri: 'file:///work' }] },
      })
      assert.equal(typeof asked.find(({ params }) => params?.mode === 'url')?.params?.elicitationId, 'string')
      await client.close()
    })

    test(`${name}: a client that cannot be asked is told so, and a cancelled call ends`, async () => {
      const { client } = await legacyClient(`${given.base}${name}`, {})
      const { isError, content } = await client.callTool({ name: 'deploy', arguments: { to: 'prod' } })
      assert.equal(isError, true)
      assert.match(JSON.stringify(content), /elicitation/)
      const from = given.records.length
      const stop = new AbortController()
      const hanging = client.callTool({ name: 'hang', arguments: {} }, { signal: stop.signal })
      await eventually(() => intents(given, from).includes('tools/call'), 'the call')
      stop.abort()
      await assert.rejects(hanging)
      await client.close()
    })
  }

  test('stdio: the session outlives the process, which has nothing of it', async () => {
    const { client, told } = await legacyClient(`${given.base}stdio`)
    await assert.rejects(client.callTool({ name: 'crash', arguments: {} }))
    assert.deepEqual((await client.callTool({ name: 'echo', arguments: { value: 'again' } })).content, [{ type: 'text', text: 'again' }])
    assert.deepEqual(told, [])
    await client.close()
  })

  test('a call that is cancelled while a person is asked takes the question back', async () => {
    const { client } = await legacyClient(`${given.base}http`)
    const { promise: shown, resolve: show } = Promise.withResolvers<AbortSignal>()
    client.setRequestHandler('elicitation/create', (_, { mcpReq }) => {
      show(mcpReq.signal)
      return new Promise(() => {})
    })
    const from = given.records.length
    const stop = new AbortController()
    const deploying = client.callTool({ name: 'deploy', arguments: { to: 'prod' } }, { signal: stop.signal })
    const question = await shown
    stop.abort()
    await assert.rejects(deploying)
    await eventually(() => question.aborted, 'the client is told that nobody waits for the answer')
    assert.deepEqual(
      intents(given, from).filter((operation) => !BACKGROUND.includes(operation)),
      ['tools/call', 'elicitation/create', 'notifications/cancelled'],
    )
    await client.close()
  })

  test('changes are reported on the standalone stream, over one subscription upstream', async () => {
    const { client, told } = await legacyClient(`${given.base}http`)
    await client.subscribeResource({ uri: 'test://report' })
    handler.notify.resourceUpdated('test://other')
    handler.notify.resourceUpdated('test://report')
    await eventually(() => told.length > 0, 'the update')
    assert.deepEqual(told, ['notifications/resources/updated'])
    await client.unsubscribeResource({ uri: 'test://report' })
    handler.notify.resourceUpdated('test://report')
    handler.notify.toolsChanged()
    await eventually(() => told.length > 1, 'the change')
    assert.deepEqual(told, ['notifications/resources/updated', 'notifications/tools/list_changed'])
    await client.close()
  })

  test('rule 9: a question that policy forbids does not reach the person', async () => {
    const { client, asked } = await legacyClient(`${given.base}strict`)
    const { content } = await client.callTool({ name: 'deploy', arguments: { to: 'prod' } })
    assert.deepEqual(content, [{ type: 'text', text: 'not deployed' }])
    assert.deepEqual(asked, [])
    await client.close()
  })
})
