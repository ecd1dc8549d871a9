import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { answerOf, eventually, type Harness, harness, listen, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { type Fixture, startFixture } from './fixture/fixture.ts'

const EVERYTHING = { allow: [{ mcp: 'any', can: 'any' }] }

/** A server that takes requests and answers them only when told. */
async function slowServer() {
  const waiting: (() => void)[] = []
  let slow = true
  const server: Server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const message = JSON.parse(Buffer.concat(chunks).toString('utf8') || '{}')
    const answer = (result: unknown) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }))
    if (message.id === undefined) return void response.writeHead(202).end()
    if (message.method === 'initialize')
      return void answer({ protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } })
    if (message.method !== 'tools/list')
      return void response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ jsonrpc: '2.0', id: message.id, error: { code: -32601, message: 'no' } }))
    if (slow) await new Promise<void>((go) => waiting.push(go))
    answer({ tools: [{ name: 'late', inputSchema: { type: 'object' } }] })
  })
  return {
    url: await listen(server),
    get waiting() {
      return waiting.length
    },
    go() {
      slow = false
      for (const one of waiting.splice(0)) one()
    },
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

for (const era of ['legacy', 'modern'] as const) {
  describe(`the endpoint of all servers, for a ${era} client`, () => {
    let old: Fixture
    let both: Fixture
    let fresh: Fixture
    let given: Harness
    let client: Client
    const mode = era === 'legacy' ? ('legacy' as const) : ({ pin: '2026-07-28' } as const)

    const connect = async () => {
      const capabilities = { elicitation: { form: {} }, sampling: {}, roots: {} }
      const made = new Client({ name: 'many', version: '1' }, { versionNegotiation: { mode }, capabilities } as never)
      await made.connect(new StreamableHTTPClientTransport(new URL(given.base.slice(0, -1))))
      return made
    }

    before(async () => {
      old = await startFixture({ era: 'legacy' })
      both = await startFixture({ era: 'both' })
      fresh = await startFixture({ era: 'modern' })
      given = await harness({
        role: { allow: EVERYTHING.allow, deny: [{ mcp: 'hidden' }, { mcp: 'both', tools: 'test_image_content' }] },
        servers: {
          old: { url: old.url },
          both: { url: both.url },
          fresh: { url: fresh.url },
          hidden: { url: old.url },
          'with_under.score': { url: both.url },
        },
      })
      client = await connect()
    })
    after(async () => {
      await client?.close()
      await given?.close()
      for (const one of [old, both, fresh]) await one?.close()
    })

    test('lists the tools of every server that may be used, each once, under a name that models accept', async () => {
      const { tools } = await client.listTools()
      const names = tools.map((tool) => tool.name)
      assert.equal(new Set(names).size, names.length)
      for (const name of names) assert.match(name, /^[a-zA-Z0-9_-]{1,128}$/)
      for (const prefix of ['old__', 'both__', 'fresh__', 'with-under-score-'])
        assert.ok(
          names.some((name) => name.startsWith(prefix)),
          prefix,
        )
      assert.ok(!names.some((name) => name.startsWith('hidden')))
      assert.ok(!names.includes('both__test_image_content') && names.includes('old__test_image_content'), 'R91: one server’s rule is not another’s')
      assert.deepEqual(
        names,
        (await client.listTools()).tools.map((tool) => tool.name),
      )
    })

    test('a call goes to the server that its name says, and only there', async () => {
      for (const name of ['old', 'both', 'fresh']) {
        const { content } = await client.callTool({ name: `${name}__test_simple_text`, arguments: {} })
        assert.equal((content as { type: string }[])[0]?.type, 'text')
        const record = given.of('action.intent').at(-1)!
        assert.equal(record.action?.resource.name, name)
        assert.match(record.action?.summary ?? '', /test_simple_text/)
      }
    })

    test('rule 9: what its own endpoint refuses is refused here', async () => {
      const refused = await client.callTool({ name: 'both__test_image_content', arguments: {} })
      assert.equal(refused.isError, true)
      await assert.rejects(client.callTool({ name: 'hidden__test_simple_text', arguments: {} }), /Unknown tool|-32602/)
      await assert.rejects(client.callTool({ name: 'nowhere__x', arguments: {} }), /Unknown tool|-32602/)
    })

    test('resources and prompts are read by what the lists say', async () => {
      const { resources } = await client.listResources()
      const text = resources.find((one) => one.uri === 'old+test://static-text')
      assert.ok(text, resources.map((one) => one.uri).join(' '))
      const { contents } = await client.readResource({ uri: text.uri })
      assert.equal(contents[0]?.uri, text.uri)
      const { resourceTemplates } = await client.listResourceTemplates()
      assert.ok(resourceTemplates.some((one) => one.uriTemplate === 'fresh+test://template/{id}/data'))
      const { prompts } = await client.listPrompts()
      const name = prompts.find((one) => one.name === 'both__test_simple_prompt')!.name
      assert.equal((await client.getPrompt({ name })).messages.length, 1)
    })

    test('a server that is down is named, and holds nobody up', async () => {
      const { port } = new URL(given.base)
      given.setServer('down', { url: `http://127.0.0.1:${port === '1' ? 2 : 1}/mcp` })
      try {
        const again = await connect() // the other one still believes its list
        const { tools, _meta } = await again.listTools()
        await again.close()
        assert.ok(tools.length > 10)
        assert.deepEqual(Object.keys((_meta as Record<string, object>)['dev.chaperone/partial'] ?? {}), ['down'])
      } finally {
        given.dropServer('down')
      }
    })
  })
}

test('rule 3: a list that is shown again without asking anybody is recorded as well', async () => {
  const fixture = await startFixture({ era: 'both' })
  const given = await harness({ role: EVERYTHING, servers: { a: { url: fixture.url } }, mayKeepLists: true })
  try {
    const session = await openSession(given, '')
    const list = () => given.post('', { jsonrpc: '2.0', id: 1, method: 'tools/list' }, session).then(answerOf)
    const first = await list()
    const asked = given.of('action.intent').length
    assert.deepEqual((await list()).result, first.result)
    assert.equal(given.of('action.intent').length, asked, 'the server was not asked again')
    assert.deepEqual(given.of('server.listed').at(-1)?.data, { list: 'tools/list', again: true, servers: ['a'] })
    given.setRole({ allow: EVERYTHING.allow, deny: [{ mcp: 'a', tools: 'test_simple_text' }] })
    const names = (await list()).result.tools.map((tool: { name: string }) => tool.name)
    assert.ok(names.length > 0 && !names.includes('a__test_simple_text'), 'rule 6: not what it was before the rights changed')
  } finally {
    await given.close()
    await fixture.close()
  }
})

test('a slow server is left out, said to be, and announced when it has come', async () => {
  const quick = await startFixture({ era: 'both' })
  const slow = await slowServer()
  const given = await harness({ role: EVERYTHING, servers: { quick: { url: quick.url }, slow: { url: slow.url } }, limits: { partMs: 5_000 } })
  try {
    const session = await openSession(given, '')
    const stream = await fetch(given.base, { headers: { ...session, accept: 'text/event-stream' } })
    const list = async () => (await answerOf(await given.post('', { jsonrpc: '2.0', id: 1, method: 'tools/list' }, session))).result
    const first = await list()
    assert.ok(first.tools.some((tool: { name: string }) => tool.name === 'quick__test_simple_text'))
    assert.deepEqual(first._meta, { 'dev.chaperone/partial': { slow: 'no answer yet' } })
    await eventually(() => slow.waiting > 0, 'the slow server was asked')
    const before = performance.now()
    assert.deepEqual((await list())._meta, { 'dev.chaperone/partial': { slow: 'no answer yet' } })
    assert.ok(performance.now() - before < 4_500, 'it is waited for once, not each time')
    assert.equal(slow.waiting, 1, 'and not asked a second time')
    slow.go()
    const reader = stream.body!.getReader()
    let heard = ''
    while (!heard.includes('tools/list_changed')) heard += Buffer.from((await reader.read()).value ?? []).toString('utf8')
    const second = await list()
    assert.ok(second.tools.some((tool: { name: string }) => tool.name === 'slow__late'))
    assert.equal(second._meta, undefined)
    await reader.cancel()
  } finally {
    slow.close()
    await given.close()
    await quick.close()
  }
})

test('a modern client that listens hears that a slow server has come, under its own subscription', async () => {
  const slow = await slowServer()
  const given = await harness({ role: EVERYTHING, servers: { slow: { url: slow.url } }, limits: { partMs: 200 } })
  const _meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} }
  const ask = (id: number, method: string, params: object) =>
    given.post('', { jsonrpc: '2.0', id, method, params: { ...params, _meta } }, { 'mcp-protocol-version': '2026-07-28', 'mcp-method': method })
  try {
    const stream = await ask(7, 'subscriptions/listen', { notifications: { toolsListChanged: true } })
    const first = (await answerOf(await ask(8, 'tools/list', {}))).result
    assert.deepEqual(first._meta, { 'dev.chaperone/partial': { slow: 'no answer yet' } })
    await eventually(() => slow.waiting > 0, 'the slow server was asked')
    slow.go()
    const reader = stream.body!.getReader()
    let heard = ''
    while (!heard.includes('tools/list_changed')) heard += Buffer.from((await reader.read()).value ?? []).toString('utf8')
    const line = heard.split('\n').find((one) => one.includes('tools/list_changed'))!
    assert.deepEqual(JSON.parse(line.slice('data: '.length)).params._meta, { 'io.modelcontextprotocol/subscriptionId': 7 })
    await reader.cancel()
  } finally {
    slow.close()
    await given.close()
  }
})
