import assert from 'node:assert/strict'
import { createServer, type ServerResponse } from 'node:http'
import { test } from 'node:test'
import { answerOf, harness, listen, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { type Got, rawServer } from './raw-server.ts'

const ANYTHING = { allow: [{ mcp: 'any', can: 'any' }] }
const CALL = {
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'a', arguments: {}, _meta: { progressToken: 'p' } },
}
const META = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': {},
}
const modern = { 'mcp-protocol-version': '2026-07-28' }
const INIT = '{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}'
const LIST = '{"tools":[{"name":"a","inputSchema":{"type":"object"}}]}'
/** Readable by nobody in one way; the escape makes us look inside. */
const TWICE = '{"_meta":{},"_meta":{},"x":"\\u0041"}'
const BROKEN = '{"a" 1,"x":"\\u0041"}'
const NOTE = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","level":"info","data":1}}'

const CHILD = (result: string) => `
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line)
  if (id === undefined || method === undefined) return
  const say = (text) => process.stdout.write(text + '\\n')
  if (method === 'server/discover') return say('{"jsonrpc":"2.0","id":' + id + ',"error":{"code":-32601,"message":"no"}}')
  if (method === 'tools/call') say('{"jsonrpc":"2.0","method":"notifications/progress","params":{"_meta":{"a":1,"a":2},"progressToken":' + (params._meta?.progressToken ?? 0) + ',"x":"\\\\u0041"}}')
  if (method === 'tools/call') say(${JSON.stringify(NOTE)})
  say('{"jsonrpc":"2.0","id":' + id + ',"result":' + (method === 'initialize' ? ${JSON.stringify(INIT)} : method === 'tools/list' ? ${JSON.stringify(LIST)} : ${JSON.stringify(result)}) + '}')
})`

for (const [name, result] of Object.entries({ TWICE, BROKEN })) {
  // An exception in a stream's handler ends the whole process, which fails this file.
  test(`rule 11: a stdio server whose answer can be read in two ways ends its own request, not the gateway (${name})`, async () => {
    const given = await harness({
      role: ANYTHING,
      servers: {
        s: {
          command: [process.execPath, '-e', CHILD(result)],
          isolation: 'none',
        },
      },
    })
    try {
      for (const path of ['s', '']) {
        const session = await openSession(given, path)
        const params = { ...CALL.params, name: path === '' ? 's__a' : 'a' }
        assert.ok((await answerOf(await given.post(path, { ...CALL, params }, session))).error)
      }
    } finally {
      await given.close()
    }
  })

  test(`rule 11: a server of HTTP+SSE whose answer can be read in two ways ends its own request, not the gateway (${name})`, async () => {
    let events: ServerResponse | undefined
    const server = createServer(async (request, response) => {
      if (request.method === 'GET') {
        events = response.writeHead(200, {
          'content-type': 'text/event-stream',
        })
        events.write('event: endpoint\ndata: /post\n\n')
        return
      }
      let text = ''
      for await (const chunk of request) text += chunk
      if (request.url !== '/post') return void response.writeHead(405).end()
      response.writeHead(202).end()
      const { id, method } = JSON.parse(text)
      const say = (said: string) => events?.write(`event: message\ndata: ${said}\n\n`)
      if (method === 'tools/call') say(NOTE)
      if (id !== undefined) say(`{"jsonrpc":"2.0","id":${id},"result":${method === 'initialize' ? INIT : method === 'tools/list' ? LIST : result}}`)
    })
    const given = await harness({
      role: ANYTHING,
      servers: { s: { url: await listen(server) } },
    })
    try {
      for (const path of ['s', '']) {
        const session = await openSession(given, path, {}, '2025-03-26')
        const params = { ...CALL.params, name: path === '' ? 's__a' : 'a' }
        assert.ok((await answerOf(await given.post(path, { ...CALL, params }, session))).error)
      }
    } finally {
      await given.close()
      server.closeAllConnections()
      server.close()
    }
  })
}

test('a server that sends a question, a batch, or the answer to another request as its answer', async () => {
  const raw = await rawServer('legacy', ['a'])
  const given = await harness({
    role: { allow: [{ mcp: 'any', tools: 'any' }] },
    servers: { s: { url: raw.url } },
  })
  try {
    const session = await openSession(given, 's')
    const long = 'x'.repeat(600_000)
    for (const body of [
      '{"jsonrpc":"2.0","id":99,"method":"sampling/createMessage","params":{}}',
      '{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","result":{}}',
      '[{"jsonrpc":"2.0","id":99,"method":"sampling/createMessage","params":{}},{"jsonrpc":"2.0","id":1,"result":{}}]',
      '{"jsonrpc":"2.0","id":2,"result":{}}',
      `{"jsonrpc":"2.0","id":99,"method":"sampling/createMessage","params":{"x":"${long}"}}`,
      `{"jsonrpc":"2.0","id":1,"result":{"x":"${long}"},"\\u006dethod":"sampling/createMessage"}`,
      `{"jsonrpc":"2.0","result":{"x":"${long}"},"id":2}`,
    ]) {
      raw.behaviours.set('tools/call', ({ response }) => response.writeHead(200, { 'content-type': 'application/json' }).end(body))
      const answer = await given
        .post('s', CALL, session)
        .then(answerOf)
        .catch(() => 'broken off')
      if (answer !== 'broken off') assert.equal(answer.error?.data.reason, 'upstream_unavailable', body.slice(0, 100))
    }
  } finally {
    await given.close()
    raw.close()
  }
})

test('a server that hides a list, or a question, behind the status of an error', async () => {
  const raw = await rawServer('modern', ['a'])
  const given = await harness({
    role: { allow: [{ mcp: 'any', tools: ['a'] }] },
    servers: { s: { url: raw.url } },
  })
  const failing = (result: string) => (got: Got) =>
    got.response
      .writeHead(400, { 'content-type': 'application/json' })
      .end(`{"jsonrpc":"2.0","id":${JSON.stringify(got.message.id)},"result":${result}}`)
  const ask = (method: string, params: object, name: Record<string, string> = {}) =>
    given.post('s', { jsonrpc: '2.0', id: 1, method, params: { ...params, _meta: META } }, { ...modern, 'mcp-method': method, ...name })
  try {
    raw.behaviours.set('tools/list', failing('{"resultType":"complete","tools":[{"name":"hidden","inputSchema":{"type":"object"}}]}'))
    assert.doesNotMatch(await (await ask('tools/list', {})).text(), /hidden/)
    raw.behaviours.set(
      'tools/call',
      failing('{"resultType":"input_required","inputRequests":{"x":{"method":"elicitation/create","params":{"message":"hidden"}}}}'),
    )
    assert.doesNotMatch(await (await ask('tools/call', { name: 'a', arguments: {} }, { 'mcp-name': 'a' })).text(), /hidden/)
  } finally {
    await given.close()
    raw.close()
  }
})
