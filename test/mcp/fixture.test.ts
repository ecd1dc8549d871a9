import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { called, connect, toolNames } from './clients.ts'
import { type FixtureEra, startFixture } from './fixture/fixture.ts'
import { type Json, META, MODERN_VERSION, TASKS } from './fixture/rpc.ts'
import { UNKNOWN_FIELDS } from './fixture/tools.ts'

// The fixture is what the gateway is measured against; the conformance suite proves the whole of it, these tests that it runs.
const program = fileURLToPath(new URL('./fixture/main.ts', import.meta.url))
const stdio = (era: FixtureEra) => ({ command: [process.execPath, program, '--stdio', '--era', era] })

async function start(t: TestContext, era: FixtureEra = 'both', transport: 'http' | 'sse' = 'http') {
  const fixture = await startFixture({ era, transport })
  t.after(() => fixture.close())
  return fixture
}

/** One modern request by hand. */
async function ask(url: string, method: string, params: Json = {}, capabilities: Json = {}, headers: Record<string, string> = {}) {
  const name = params.name ?? params.uri ?? params.taskId
  const answer = await fetch(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': MODERN_VERSION,
      'mcp-method': method,
      ...(typeof name === 'string' ? { 'mcp-name': name } : {}),
      ...headers,
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method,
      params: { ...params, _meta: { [META.version]: MODERN_VERSION, [META.capabilities]: capabilities } },
    }),
  })
  const { result, error } = (await answer.json()) as { result?: Json; error?: { code: number; data?: Json } }
  return { status: answer.status, result: result ?? {}, error }
}

for (const era of ['legacy', 'modern'] as const) {
  test(`a client of the ${era} era lists, calls, is asked and sees progress, over HTTP and stdio`, async (t) => {
    const fixture = await start(t)
    for (const place of [fixture, stdio('both'), stdio(era)]) {
      const client = await connect(t, era, place)
      assert.equal((await toolNames(client))[0], 'test_simple_text')
      assert.equal(await called(client, 'test_simple_text'), 'This is a simple text response for testing.')
      assert.equal(await called(client, 'test_input_required_result_elicitation'), 'Hello, Ada!')
      assert.equal(await called(client, 'test_input_required_result_multi_round'), 'Ada likes blue')
      assert.match(await called(client, 'test_sampling', { prompt: 'capital?' }), /Paris/)
      assert.match(await called(client, 'test_input_required_result_list_roots'), /somewhere/)
      const seen: number[] = []
      await client.callTool({ name: 'test_tool_with_progress', arguments: {} }, { onprogress: ({ progress }) => void seen.push(progress) })
      assert.deepEqual(seen, [0, 50, 100])
      await client.close()
    }
    assert.ok(fixture.world.counts.get('tools/call')! >= 6)
  })

  test(`a fixture of the other era only refuses a client of the ${era} era`, async (t) => {
    const other = era === 'legacy' ? 'modern' : 'legacy'
    const fixture = await start(t, other)
    await assert.rejects(connect(t, era, fixture))
    await assert.rejects(connect(t, era, stdio(other)))
  })
}

test('HTTP+SSE of 2024-11-05 answers on its one stream', async (t) => {
  const fixture = await start(t, 'legacy', 'sse')
  const client = await connect(t, 'legacy', { url: fixture.url, sse: true })
  assert.equal(await called(client, 'test_input_required_result_elicitation'), 'Hello, Ada!')
})

test('what it received is kept to the byte', async (t) => {
  const fixture = await start(t)
  const body = '{ "jsonrpc":"2.0","id":1, "method":"ping", "unknown": 1e2 }'
  await fetch(fixture.url, { method: 'POST', headers: { 'content-type': 'application/json', 'x-probe': 'a' }, body })
  const last = fixture.world.received.at(-1)!
  assert.deepEqual([last.body, last.headers?.['x-probe'], fixture.world.counts.get('ping')], [body, 'a', 1])
})

test('fields and content that no schema knows are sent', async (t) => {
  const fixture = await start(t)
  const { result } = await ask(fixture.url, 'tools/call', { name: 'unknown_fields' })
  assert.deepEqual([result.content, result.futureField], [UNKNOWN_FIELDS.content, UNKNOWN_FIELDS.futureField])
})

test('a task is made, asks, and ends', async (t) => {
  const fixture = await start(t)
  const able = { extensions: { [TASKS]: {} }, elicitation: {} }
  const made = (await ask(fixture.url, 'tools/call', { name: 'confirm_delete', arguments: { filename: 'a' } }, able)).result
  assert.equal(made.resultType, 'task')
  const { taskId } = made
  assert.equal((await ask(fixture.url, 'tasks/get', { taskId }, able)).result.status, 'input_required')
  await ask(fixture.url, 'tasks/update', { taskId, inputResponses: { confirm: { action: 'accept', content: { confirm: true } } } }, able)
  const { result } = await ask(fixture.url, 'tasks/get', { taskId }, able)
  assert.equal(result.status, 'completed')
  assert.deepEqual((await ask(fixture.url, 'tasks/get', { taskId })).error?.code, -32021)
})

test('a header that differs from the body is refused', async (t) => {
  const fixture = await start(t)
  const call = (headers: Record<string, string>) =>
    ask(fixture.url, 'tools/call', { name: 'test_x_mcp_header', arguments: { region: 'eu' } }, {}, headers)
  assert.equal((await call({ 'mcp-param-region': 'eu' })).status, 200)
  const wrong: readonly Record<string, string>[] = [
    {},
    { 'mcp-param-region': 'us' },
    { 'mcp-param-region': '=?base64?!!?=' },
    { 'mcp-param-region': 'eu', 'mcp-name': 'other' },
  ]
  for (const headers of wrong) {
    const { status, error } = await call(headers)
    assert.deepEqual([status, error?.code], [400, -32020], JSON.stringify(headers))
  }
})
