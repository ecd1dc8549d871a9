import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { call, INITIALIZE, INITIALIZED, json, legacy, methodOf, modern, result, start } from './shim.fixture.ts'

test('the era with sessions: the session id and version that initialize brought go with every message, and DELETE ends it', async (t) => {
  const shim = await start(t)
  legacy(shim.server, (seen, response) => (seen.method === 'GET' ? void response.writeHead(405).end() : json(response, result(seen))))
  shim.send(INITIALIZE, INITIALIZED, { jsonrpc: '2.0', id: 1, method: 'tools/list' })
  await shim.next()
  assert.equal(JSON.parse(await shim.next()).id, 1)
  shim.input.end()
  assert.equal(await shim.exit, 0)
  const posts = shim.server.seen.filter((seen) => seen.method === 'POST')
  assert.deepEqual(posts.map(methodOf), ['initialize', 'notifications/initialized', 'tools/list'])
  assert.equal(posts[0]!.headers['mcp-session-id'], undefined)
  for (const post of posts.slice(1))
    assert.deepEqual([post.headers['mcp-session-id'], post.headers['mcp-protocol-version']], ['session-1', '2025-11-25'])
  // The stream is asked for on a connection of its own, and may come late.
  assert.equal(shim.server.seen.filter(({ method }) => method !== 'GET').at(-1)!.method, 'DELETE')
  assert.ok(shim.server.seen.every((seen) => seen.path === '/mcp/files' && seen.certificate !== ''))
  assert.deepEqual(shim.labels, ['claude-code'])
})

test('rule 10: messages go through as the bytes they are, in both directions', async (t) => {
  const shim = await start(t)
  const odd =
    '{"jsonrpc":"2.0", "id":7,"method":"tools/call","params":{"name":"x","arguments":{"n":12345678901234567890,"dup":1.0}},"unknown":[1e400]}'
  const reply = '{ "jsonrpc":"2.0","id":7,\n  "result":{"content":[{"type":"new kind"}],"n":98765432109876543210}}'
  shim.server.answer = (_, response) => json(response, reply)
  shim.send(odd)
  assert.equal(await shim.next(), reply.replace('\n', ' '))
  assert.equal(shim.server.seen[0]!.body, odd)
})

test('the stateless era: headers repeat the body, no session, and closing the stream is the cancellation', async (t) => {
  const shim = await start(t)
  let cut!: () => void
  const closed = new Promise<void>((resolve) => {
    cut = resolve
  })
  shim.server.answer = (seen, response) => {
    if (methodOf(seen) === 'server/discover') return json(response, result(seen))
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(': open\n\n')
    response.once('close', cut)
    shim.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 2 } })
  }
  shim.send(modern(1, 'server/discover'))
  await shim.next()
  shim.send(modern(2, 'tools/call', { name: 'slow' }))
  await closed
  shim.input.end()
  assert.equal(await shim.exit, 0)
  const [discover, slow, ...others] = shim.server.seen
  assert.equal(discover!.headers['mcp-method'], 'server/discover')
  assert.deepEqual([slow!.headers['mcp-protocol-version'], slow!.headers['mcp-name']], ['2026-07-28', 'slow'])
  assert.deepEqual(others, [])
  assert.deepEqual(shim.lines.length, 1)
})

test('answers come in any order, and a stream brings what belongs to it before its answer', async (t) => {
  const shim = await start(t)
  const held: (() => void)[] = []
  legacy(shim.server, (seen, response) => {
    if (seen.method === 'GET') return void response.writeHead(405).end()
    const { id } = JSON.parse(seen.body)
    if (id === 1) held.push(() => json(response, result(seen)))
    else {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n')
      response.end(`data: ${JSON.stringify(result(seen))}\n\n`)
    }
  })
  shim.send(INITIALIZE, INITIALIZED, call(1), call(2))
  await shim.next()
  assert.equal(JSON.parse(await shim.next()).method, 'notifications/progress')
  assert.equal(JSON.parse(await shim.next()).id, 2)
  held[0]!()
  assert.equal(JSON.parse(await shim.next()).id, 1)
})

test("the server's own requests arrive by the GET stream, and the client's answers go back", async (t) => {
  const shim = await start(t)
  legacy(shim.server, (seen, response) => {
    if (seen.method === 'GET') {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('id: 9\ndata: {"jsonrpc":"2.0","id":"s1","method":"roots/list"}\n\n')
    } else response.writeHead(202).end()
  })
  shim.send(INITIALIZE, INITIALIZED)
  await shim.next()
  assert.equal(JSON.parse(await shim.next()).method, 'roots/list')
  shim.send({ jsonrpc: '2.0', id: 's1', result: { roots: [] } })
  while (!shim.server.seen.some((seen) => seen.body.includes('"roots":[]'))) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(shim.lines.length, 2)
})

test('a stream that the server closes early is resumed where it stopped', async (t) => {
  const shim = await start(t)
  legacy(shim.server, (seen, response) => {
    if (seen.method === 'GET' && seen.headers['last-event-id'] === undefined) return void response.writeHead(405).end()
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    if (seen.method === 'POST') response.end('id: 5\nretry: 1\ndata:\n\n')
    else response.end(`data: {"jsonrpc":"2.0","id":1,"result":{"after":"${seen.headers['last-event-id']}"}}\n\n`)
  })
  shim.send(INITIALIZE, INITIALIZED, call(1))
  await shim.next()
  assert.deepEqual(JSON.parse(await shim.next()), { jsonrpc: '2.0', id: 1, result: { after: '5' } })
})

test('a call that was cut is never sent twice: the client is told that nobody knows', async (t) => {
  const shim = await start(t)
  shim.server.answer = (seen, response) => {
    if (JSON.parse(seen.body).id === 1) response.socket!.destroy()
    else json(response, result(seen))
  }
  shim.send(call(1))
  const answer = JSON.parse(await shim.next())
  assert.equal(answer.id, 1)
  assert.equal(answer.error.data.code, 'upstream_unavailable')
  shim.send(call(2))
  assert.equal(JSON.parse(await shim.next()).id, 2)
  assert.deepEqual(
    shim.server.seen.map((seen) => JSON.parse(seen.body).id),
    [1, 2],
  )
})

test("a lost MCP session is begun again with the client's own words, and the client never notices", async (t) => {
  const shim = await start(t)
  legacy(shim.server, (seen, response) => {
    if (seen.method === 'GET') return void response.writeHead(405).end()
    if (seen.headers['mcp-session-id'] === 'session-1' && JSON.parse(seen.body).id === 1)
      return json(response, { jsonrpc: '2.0', id: null, error: { code: -32001, message: 'gone' } }, 404)
    json(response, result(seen, { session: seen.headers['mcp-session-id'] }))
  })
  shim.send(INITIALIZE, INITIALIZED, call(1), call(2))
  await shim.next()
  const answers = [JSON.parse(await shim.next()), JSON.parse(await shim.next())].sort((a, b) => a.id - b.id)
  assert.deepEqual(answers[0].result, { session: 'session-2' })
  assert.equal(shim.server.seen.filter((seen) => methodOf(seen) === 'initialize').length, 2)
  assert.equal(shim.lines.length, 3)
})

test('rule 8: a refusal reaches the client as a JSON-RPC error that says what to do', async (t) => {
  const shim = await start(t)
  const error = { code: 'denied_by_rule', message: 'Refused by role analyst.', fix: 'Ask dana.' }
  shim.server.answer = (seen, response) => {
    const { id } = JSON.parse(seen.body)
    if (id === 1) json(response, { error }, 403)
    else if (id === 2) json(response, { jsonrpc: '2.0', id: null, error: { code: -32600, message: 'no' } }, 400)
    else response.writeHead(503, { 'content-type': 'text/html' }).end('<html>')
  }
  shim.send(call(1))
  assert.deepEqual(JSON.parse(await shim.next()).error, {
    code: 40301,
    message: 'Refused by role analyst. Ask dana.',
    data: { code: 'denied_by_rule' },
  })
  shim.send(call(2))
  assert.deepEqual(JSON.parse(await shim.next()), { jsonrpc: '2.0', id: 2, error: { code: -32600, message: 'no' } })
  shim.send(call(3))
  assert.match(JSON.parse(await shim.next()).error.message, /503/)
})

test('what is no message is answered or skipped, and the next one is served', async (t) => {
  const shim = await start(t)
  shim.server.answer = (seen, response) => json(response, result(seen))
  shim.send('', '  ', 'not json', '"text"')
  assert.equal(JSON.parse(await shim.next()).error.code, -32700)
  assert.equal(JSON.parse(await shim.next()).error.code, -32700)
  shim.send(`{"jsonrpc":"2.0","id":1,"method":"x","params":{"p":"${'a'.repeat(17 * 1024 * 1024)}"}}`)
  assert.equal(JSON.parse(await shim.next()).error.data.code, 'too_large')
  shim.send(call(5))
  assert.equal(JSON.parse(await shim.next()).id, 5)
  assert.equal(shim.server.seen.length, 1)
})

test('rule 11: requests beyond the limit are refused at once, the others go on', async (t) => {
  const shim = await start(t)
  const held: ServerResponse[] = []
  shim.server.answer = (_, response) => void held.push(response)
  for (let id = 1; id <= 257; id++) shim.send(call(id))
  const refused = JSON.parse(await shim.next())
  assert.deepEqual([refused.id, refused.error.data.code], [257, 'too_many'])
})

test('rule 11: a client that does not read stops us from reading from the server', async (t) => {
  const output = new PassThrough({ highWaterMark: 1024 })
  const shim = await start(t, { output })
  let written = 0
  shim.server.answer = (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const event = `data: {"jsonrpc":"2.0","method":"notifications/message","params":"${'x'.repeat(64 * 1024)}"}\n\n`
    const push = () => {
      if (++written >= 1000) return
      if (response.write(event)) setImmediate(push)
      else response.once('drain', push)
    }
    push()
  }
  shim.send(call(1))
  await once(output, 'readable')
  // Nobody reads: what is on the way fills the buffers between and stops.
  for (let [before, still] = [-1, 0]; still < 10; await new Promise((resolve) => setTimeout(resolve, 50))) {
    still = before === written ? still + 1 : 0
    before = written
  }
  assert.ok(written < 500, `${written} events of 64 KiB were taken for a client that reads none`)
})

test('the server is waited for while it starts, and given up with words when it does not', async (t) => {
  const shim = await start(t)
  await shim.server.close()
  shim.send(call(1))
  const answer = JSON.parse(await shim.next())
  assert.equal(answer.error.data.code, 'upstream_unavailable')
  assert.match(answer.error.message, /cannot be reached/)
})

test('SIGTERM ends it at once, with requests in flight', async (t) => {
  const stop = new AbortController()
  const shim = await start(t, { signal: stop.signal })
  shim.server.answer = () => stop.abort()
  shim.send(call(1))
  assert.equal(await shim.exit, 0)
  assert.deepEqual(shim.lines, [])
})
