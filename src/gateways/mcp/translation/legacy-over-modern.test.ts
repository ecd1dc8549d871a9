import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../../../errors.ts'
import { ALL, inputRequired, settle, TestAnswer, textAt, world } from './legacy-world.fixture.ts'

const VERSION = 'io.modelcontextprotocol/protocolVersion'
const CAPABILITIES = 'io.modelcontextprotocol/clientCapabilities'
const done = (text: string) => ({ resultType: 'complete', content: [{ type: 'text', text }] })

test('initialize is answered from server/discover', async () => {
  const { open, server, errands } = world()
  const response = await open(ALL, '2025-06-18')
  assert.deepEqual(response, {
    jsonrpc: '2.0',
    id: 1,
    result: {
      protocolVersion: '2025-06-18',
      capabilities: {
        tools: { listChanged: true },
        prompts: { listChanged: true },
        resources: { listChanged: true, subscribe: true },
        completions: {},
        logging: {},
        extensions: { 'example.com/x': { y: 1 } },
      },
      serverInfo: { name: 'scripted', version: '7', big: 1 },
      instructions: 'Be kind.',
    },
  })
  assert.equal(errands.length, 1)
  const { headers, body } = server.received[0]!
  assert.deepEqual(headers, {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': 'server/discover',
  })
  assert.deepEqual(body.params._meta, {
    [VERSION]: '2026-07-28',
    [CAPABILITIES]: ALL,
    'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
  })
  assert.equal((await world().open({}, '1999-01-01')).result.protocolVersion, '2025-11-25')
})

test('a server without a version of ours, or without an answer, does not shake hands', async () => {
  for (const answer of [
    { supportedVersions: ['2030-01-01'], capabilities: {} },
    { supportedVersions: ['2026-07-28'] },
    { error: { code: -32022, message: 'no', data: { supported: ['2030-01-01'] } } },
    inputRequired({ a: { method: 'roots/list' } }),
    undefined,
  ]) {
    const { server, open } = world()
    server.script = () => answer
    const { error } = await open()
    assert.equal(error.data.origin, 'proxy', JSON.stringify(answer))
    assert.ok(error.code === 50201 || error.code === 50101)
  }
})

test('a request keeps its bytes and gets the envelope and the headers of the modern era', async () => {
  const { server, request } = world({ script: () => done('ok') })
  const offers = '{"sampling":{"deep":12345678901234567890},"tasks":{"list":{}},"extensions":{"io.modelcontextprotocol/tasks":{},"a":{}}}'
  await request('initialize', undefined, {
    text: `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":${offers},"clientInfo":{"name":"test"}}}`,
  })
  const text =
    '{ "id" : 7, "jsonrpc":"2.0","method":"tools/call","params":{"_meta":{"progressToken":"t","io.modelcontextprotocol/clientCapabilities":{"forged":{}}, "x":1.50},"name":"é tool","arguments":{"n":12345678901234567890,"u":{"b":1,"a":2}}, "future": [1e2]} }'
  const response = await request('tools/call', undefined, {
    text,
    headers: { traceparent: '00-1', 'mcp-protocol-version': '2025-11-25', 'last-event-id': '4' },
  }).response
  assert.deepEqual(response, { jsonrpc: '2.0', id: 7, result: done('ok') })
  const { text: sent, headers, body } = server.received.at(-1)!
  assert.equal(textAt(sent, 'params', 'arguments'), '{"n":12345678901234567890,"u":{"b":1,"a":2}}')
  assert.equal(textAt(sent, 'params', 'future'), '[1e2]')
  assert.equal(textAt(sent, 'params', '_meta', 'x'), '1.50')
  assert.equal(body.params._meta.progressToken, 't')
  assert.equal(body.params._meta[CAPABILITIES].forged, undefined)
  assert.equal(textAt(sent, 'params', '_meta', CAPABILITIES), '{"sampling":{"deep":12345678901234567890},"extensions":{"a":{}}}')
  assert.deepEqual(headers, {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    traceparent: '00-1',
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': 'tools/call',
    'mcp-name': `=?base64?${Buffer.from('é tool').toString('base64')}?=`,
  })
})

test('a request without params, with empty ones and with ones of another order all get the envelope', async () => {
  const { open, server, request } = world()
  await open()
  for (const text of [
    '{"jsonrpc":"2.0","id":"a","method":"tools/list"}',
    '{"jsonrpc":"2.0","method":"tools/list","params":{},"id":"b"}',
    ' {"params":{"_meta":{}},"jsonrpc":"2.0","id":"c","method":"tools/list"} ',
    '{"params":{"cursor":""},"jsonrpc":"2.0","id":"d","method":"tools/list"}\n',
  ]) {
    const { id } = await request('tools/list', undefined, { text }).response
    assert.equal(id, JSON.parse(text).id)
    assert.equal(server.received.at(-1)!.body.params._meta[VERSION], '2026-07-28')
  }
})

test("the answer is the server's own text under the client's id", async () => {
  const { open, request } = world({
    script: () =>
      '{"jsonrpc": "2.0", "result": {"content":[{"type":"hologram","n":12345678901234567890}],"resultType":"complete","ttlMs":5}, "id": $ID}',
  })
  await open()
  const answer = new TestAnswer()
  let raw = ''
  answer.send = (status, body) => {
    raw = String(body)
    TestAnswer.prototype.send.call(answer, status, body)
  }
  await request('tools/call', { name: 'a' }, { id: 'mine', answer })
  assert.equal(
    raw,
    '{"jsonrpc": "2.0", "result": {"content":[{"type":"hologram","n":12345678901234567890}],"resultType":"complete","ttlMs":5}, "id": "mine"}',
  )
})

test('what is no answer to the request is an error, not an answer', async () => {
  const replies = [
    '{"error":"Not found"}',
    'not json',
    '{"jsonrpc":"2.0","id":"other","result":{}}',
    '{"jsonrpc":"2.0","id":$ID,"result":{},"error":{"code":1,"message":"x"}}',
    '{"jsonrpc":"2.0","id":$ID,"result":{"a":1,"a":2}, "result": {}}',
    '[]',
    undefined,
  ]
  for (const reply of replies) {
    const { open, request } = world({ script: () => reply })
    await open()
    const response = await request('tools/call', { name: 'a' }, { id: 5 }).response
    assert.equal(response.id, 5)
    assert.equal(response.error?.data.origin, 'proxy', String(reply))
  }
  const { open, request } = world({ script: () => '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}' })
  await open()
  assert.deepEqual(await request('tools/call', { name: 'a' }, { id: 5 }).response, { jsonrpc: '2.0', id: 5, error: { code: -32700, message: '?' } })
})

test('errors pass, but those about our own hop are told in words about the client', async () => {
  let code = -32602
  const { open, request } = world({
    script: () => ({ error: { code, message: 'server says', data: { requiredCapabilities: { sampling: {}, extensions: { 'a/b': {} } } } } }),
  })
  await open()
  assert.equal((await request('resources/read', { uri: 'a:b' }).response).error.message, 'server says')
  code = -32021
  const call = await request('tools/call', { name: 'a' }).response
  assert.equal(call.result.isError, true)
  assert.match(call.result.content[0].text, /needs sampling and the extension a\/b from the client/)
  const get = await request('prompts/get', { name: 'a' }).response
  assert.match(get.error.message, /needs sampling/)
  assert.equal(get.error.data.reason, 'unsupported')
  code = -32022
  assert.equal((await request('tools/call', { name: 'a' }).response).error.data.reason, 'upstream_unavailable')
})

test('ping, logging levels and notifications are answered here', async () => {
  const { open, request, notify, server } = world()
  await open()
  assert.deepEqual((await request('ping').response).result, {})
  await request('tools/list')
  assert.equal(server.received.at(-1)!.body.params._meta['io.modelcontextprotocol/logLevel'], 'info')
  assert.equal((await request('logging/setLevel', { level: 'loud' }).response).error.code, -32602)
  assert.deepEqual((await request('logging/setLevel', { level: 'warning' }).response).result, {})
  assert.equal((await notify('notifications/initialized')).facts?.sent, false)
  assert.equal((await notify('notifications/roots/list_changed')).status, 'ok')
  assert.equal((await notify('notifications/progress', { progressToken: 1, progress: 1 })).status, 'ok')
  assert.equal(server.received.length, 2)
  await request('tools/list')
  assert.equal(server.received.at(-1)!.body.params._meta['io.modelcontextprotocol/logLevel'], 'warning')
  const silent = world()
  silent.server.script = () => ({ supportedVersions: ['2026-07-28'], capabilities: {} })
  await silent.open()
  assert.equal((await silent.request('logging/setLevel', { level: 'info' }).response).error.code, -32601)
  for (const method of ['server/discover', 'subscriptions/listen']) assert.equal((await request(method).response).error.code, -32601)
})

test('arguments that a tool wants in headers are mirrored, and its list is read again when the server misses one', async () => {
  let listed = 0
  let header = 'Region'
  const { open, request, server } = world({
    script: ({ body, headers }) => {
      if (body.method === 'tools/list') {
        listed++
        if (body.params.cursor === undefined) return { resultType: 'complete', tools: [], nextCursor: 'two' }
        return { resultType: 'complete', tools: [{ name: 'a', inputSchema: { properties: { region: { 'x-mcp-header': header } } } }] }
      }
      const want = headers[`mcp-param-${header.toLowerCase()}`]
      return want === 'eu' ? done('ok') : { error: { code: -32020, message: 'HeaderMismatch' } }
    },
  })
  await open()
  const call = () => request('tools/call', { name: 'a', arguments: { region: 'eu' } }).response
  assert.equal((await call()).result.content[0].text, 'ok')
  assert.equal(listed, 2)
  await call()
  assert.equal(listed, 2)
  header = 'Zone'
  assert.equal((await call()).result.content[0].text, 'ok')
  assert.equal(listed, 4)
  header = ''
  assert.equal((await call()).error.data.reason, 'upstream_unavailable')
  assert.equal(server.received.filter(({ body }) => body.method === 'tools/call').length, 7)
})

test('progress reaches the client only for its own token, and nothing after the answer', async () => {
  let late: (() => Promise<void>) | undefined
  const { open, request } = world({
    script: async ({ tell }) => {
      await tell('notifications/progress', { progressToken: 'mine', progress: 1 })
      await tell('notifications/progress', { progressToken: 'other', progress: 1 })
      await tell('notifications/message', { level: 'info', data: 'x' })
      await tell('notifications/cancelled', { requestId: 1 })
      late = () => tell('notifications/progress', { progressToken: 'mine', progress: 2 })
      return done('ok')
    },
  })
  await open()
  const { answer, response } = request('tools/call', { name: 'a', _meta: { progressToken: 'mine' } })
  await response
  await late!()
  assert.deepEqual(
    answer.messages.map((message) => message.method ?? 'response'),
    ['notifications/progress', 'notifications/message', 'response'],
  )
  assert.deepEqual(answer.wrong, [])
  const bare = request('tools/call', { name: 'a' })
  await bare
  assert.equal(bare.answer.messages.length, 2)
})

test('a cancelled request is cancelled upstream and answered once; leaving does not cancel before drainMs', async () => {
  let cancelled = 0
  const { open, request, notify, clock, limits } = world({
    script: async (asked) => {
      await asked.cancelled
      cancelled++
      return new Promise(() => {})
    },
  })
  await open()
  const one = request('tools/call', { name: 'a' }, { id: 'x' })
  await settle()
  assert.equal((await notify('notifications/cancelled', { requestId: 'y' })).facts?.sent, false)
  await notify('notifications/cancelled', { requestId: 'x' })
  assert.match((await one.response).error.message, /cancelled/)
  assert.equal(cancelled, 1)

  const two = request('tools/call', { name: 'a' }, { id: 'x' })
  await settle()
  two.answer.leave()
  clock.advance(limits.drainMs - 1)
  await settle()
  assert.equal(cancelled, 1)
  clock.advance(1)
  assert.match(String((await two).facts?.error), /went away/)
  assert.equal(cancelled, 2)
})

test('the end of the permit and of the session end what runs', async () => {
  const { open, request, upstream, server } = world({ script: () => new Promise(() => {}) })
  await open()
  const permit = new AbortController()
  const cut = request('tools/call', { name: 'a' }, { permit: { signal: permit.signal } as never })
  const ends = request('tools/call', { name: 'b' })
  await settle()
  permit.abort(new ChaperoneError('locked', 'A lock stops this.'))
  assert.equal((await cut.response).error.data.reason, 'locked')
  await upstream.end(new ChaperoneError('draining', 'Chaperone is shutting down.'))
  assert.equal((await ends.response).error.data.reason, 'draining')
  assert.equal((await request('tools/list').response).error.data.reason, 'draining')
  assert.equal(server.ends, 1)
})

test('an id that is in use is refused, and a client cannot answer what nobody asked', async () => {
  const { open, request } = world({ script: ({ body }) => (body.params.name === 'wait' ? new Promise(() => {}) : done('ok')) })
  await open()
  request('tools/call', { name: 'wait' }, { id: 1 })
  assert.equal((await request('tools/call', { name: 'a' }, { id: 1 }).response).error.data.reason, 'malformed')
  assert.equal((await request('tools/call', { name: 'a' }, { id: '1' }).response).result.content[0].text, 'ok')
  const forged = await request('tools/call', { name: 'a', inputResponses: { a: { action: 'accept' } } }).response
  assert.equal(forged.error.code, -32602)
})

test('a result of a kind that this era does not know is said, not passed as an empty one', async () => {
  const { open, request } = world({ script: () => ({ resultType: 'task', taskId: 't' }) })
  await open()
  const { result } = await request('tools/call', { name: 'a' }).response
  assert.equal(result.isError, true)
  assert.match(result.content[0].text, /"task"/)
})
