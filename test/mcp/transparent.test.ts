import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { startFixture } from './fixture/fixture.ts'
import { MODERN_VERSION } from './fixture/rpc.ts'
import { EVERYTHING, openThrough } from './through.ts'

// With the fixture on the other side, which keeps what it received: nothing that is allowed is changed on the way.
async function start(t: TestContext) {
  const fixture = await startFixture()
  t.after(() => fixture.close())
  const through = await openThrough(`${EVERYTHING}---\nkind: mcp\nname: fixture\nspec: { url: ${JSON.stringify(fixture.url)} }\n`)
  t.after(() => through.close())
  return { fixture, url: (await through.open('fixture')).url }
}

const COMMON = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
const modernHeaders = (method: string, name?: string) => ({
  ...COMMON,
  'mcp-protocol-version': MODERN_VERSION,
  'mcp-method': method,
  ...(name === undefined ? {} : { 'mcp-name': name }),
})
const ENVELOPE = `"_meta":{"io.modelcontextprotocol/protocolVersion":"${MODERN_VERSION}","io.modelcontextprotocol/clientCapabilities":{ }}`

async function post(url: string, body: string, headers: Record<string, string>) {
  const answer = await fetch(url, { method: 'POST', headers, body })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

test('rule 10: a stateless call arrives to the byte, and its answer comes back to the byte', async (t) => {
  const { fixture, url } = await start(t)
  const call = ` { "params": {"name":"unknown_fields", "future": [1.0, 1e2, 12345678901234567890], ${ENVELOPE} ,"arguments":{"b":1,"a":"\\u00e9"}},\t"method":"tools/call", "id": "é-1", "jsonrpc":"2.0"} `
  const headers = { ...modernHeaders('tools/call', 'unknown_fields'), 'mcp-param-future': 'x', cookie: 'a=b', authorization: 'Bearer local' }
  const direct = await post(fixture.url, call, headers)
  const through = await post(url, call, headers)
  assert.deepEqual([through.status, through.text], [direct.status, direct.text])
  const received = fixture.world.received.filter(({ body }) => body.includes('unknown_fields')).at(-1)!
  assert.equal(received.body, call)
  assert.equal(received.headers!['mcp-param-future'], 'x')
  for (const name of ['cookie', 'authorization']) assert.equal(received.headers![name], undefined, name)
})

test('rule 10: a call in a session arrives to the byte, and its answer comes back to the byte', async (t) => {
  const { fixture, url } = await start(t)
  const session = async (at: string) => {
    const hello = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
    const opened = await post(at, hello, COMMON)
    assert.equal(opened.status, 200)
    return { ...COMMON, 'mcp-session-id': opened.headers.get('mcp-session-id')!, 'mcp-protocol-version': '2025-11-25' }
  }
  const [own, ours] = [await session(fixture.url), await session(url)]
  assert.notEqual(own['mcp-session-id'], ours['mcp-session-id'])
  const call = '{ "jsonrpc":"2.0", "method":"tools/call","id":7, "params":{"name":"unknown_fields","future":1.50,"arguments":{}} }'
  const data = (text: string) => text.match(/^data: .+$/gm)
  const direct = data((await post(fixture.url, call, own)).text)
  const through = data((await post(url, call, ours)).text)
  assert.deepEqual(through, direct)
  assert.equal(through?.length, 1)
  const received = fixture.world.received.filter(({ body }) => body.includes('unknown_fields')).at(-1)!
  assert.equal(received.body, call)
  // The upstream session is never shown: who has ours has nothing for the server itself.
  assert.notEqual(received.headers!['mcp-session-id'], ours['mcp-session-id'])
})

test('rule 10: fields of a tool that no schema knows are still in the list', async (t) => {
  const { fixture, url } = await start(t)
  const body = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{${ENVELOPE}}}`
  const tools = async (at: string) =>
    (JSON.parse((await post(at, body, modernHeaders('tools/list'))).text) as { result: { tools: unknown[] } }).result.tools
  assert.deepEqual(await tools(url), await tools(fixture.url))
})
