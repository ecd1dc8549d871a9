import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ChaperoneError } from '../../../errors.ts'
import { sessionGone } from '../wire.ts'
import { call } from './modern-asked.fixture.ts'
import { ENVELOPE, GREETING, type Json, locked, stage } from './modern-client.fixture.ts'

describe('a modern client of a legacy server', () => {
  test('gets server/discover from the handshake, with what can be bridged', async () => {
    const { request, got } = stage()
    const { paper, outcome } = request('server/discover', {}, { id: 'd' })
    assert.equal((await outcome).status, 'ok')
    const { id, result } = paper.answer
    assert.equal(id, 'd')
    const { tasks: _, ...capabilities } = GREETING.capabilities
    assert.deepEqual(result.capabilities, capabilities)
    assert.deepEqual(result.supportedVersions, ['2026-07-28'])
    assert.equal(result.instructions, 'be kind')
    assert.deepEqual([result.resultType, result.ttlMs, result.cacheScope], ['complete', 0, 'private'])
    assert.equal(result._meta[`${ENVELOPE}serverInfo`].name, 'old')
    assert.equal('protocolVersion' in result, false)
    assert.equal(got[0]!.message.params.protocolVersion, '2025-11-25')
    assert.deepEqual(got[0]!.message.params.capabilities, { sampling: { tools: {} }, elicitation: { form: {}, url: {} }, roots: {} })
    assert.deepEqual(got[0]!.message.params.clientInfo, { name: 'new', version: '1' })
    assert.equal(got[1]!.message.method, 'notifications/initialized')
  })

  test('rule 10: sends its request as it wrote it, without the envelope, and never a header of the modern era', async () => {
    const seen: Json[] = []
    const { request, got } = stage({
      on(one) {
        seen.push(one)
        one.result(
          `{"jsonrpc":"2.0","id":${one.message.id},"result":{"content":[{"type":"new","big":12345678901234567890}],"other":1.0,"_meta":{"x":1}},"extra":1}`,
        )
      },
    })
    const text = `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"_meta":{"${ENVELOPE}protocolVersion":"2026-07-28","progressToken":"tok","${ENVELOPE}clientCapabilities":{},"traceparent":"00-1"},"arguments":{"z":12345678901234567890,"a":1.0},"name":"tool","unknown":{"k":1},"task":{"ttl":1}}}`
    const { paper, outcome } = request('tools/call', {}, { text })
    await outcome
    const { headers, text: sent } = seen[0]
    const id = got.at(-1)!.message.id
    assert.equal(
      sent,
      `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"_meta":{"progressToken":${id},"traceparent":"00-1"},"arguments":{"z":12345678901234567890,"a":1.0},"name":"tool","unknown":{"k":1}}}`,
    )
    assert.deepEqual(
      Object.keys(headers).filter((name) => name.startsWith('mcp-')),
      ['mcp-protocol-version'],
    )
    assert.equal(headers['mcp-protocol-version'], '2025-11-25')
    assert.equal(headers.traceparent, '00-1-2-03')
    assert.equal(paper.answer.id, 'x')
    assert.equal(paper.answer.result.resultType, 'complete')
    assert.equal(paper.answer.result._meta.x, 1)
    assert.equal(paper.answer.extra, 1)
  })

  test('gets lists and resources that nobody else may cache', async () => {
    const { request } = stage({ on: (one) => one.result({ tools: [{ name: 'a' }], nextCursor: '' }) })
    const { paper, outcome } = request('tools/list')
    await outcome
    assert.deepEqual([paper.answer.result.ttlMs, paper.answer.result.cacheScope, paper.answer.result.nextCursor], [0, 'private', ''])
    const call = request('tools/call', { name: 'tool' })
    await call.outcome
    assert.equal('ttlMs' in call.paper.answer.result, false)
  })

  for (const [what, method, params, code, expected] of [
    ['a resource that is not there', 'resources/read', { uri: 'test://x' }, -32002, { status: 200, code: -32602, data: { uri: 'test://x' } }],
    ['a method that is not there', 'vendor/thing', {}, -32601, { status: 404, code: -32601 }],
    ['a tool that can only be called as a task', 'tools/call', { name: 'tool' }, -32601, { status: 200, code: -32602 }],
    ['a code that only the modern era has', 'tools/call', { name: 'tool' }, -32021, { status: 200, code: -32603 }],
    ['a code of its own', 'tools/call', { name: 'tool' }, 7, { status: 200, code: 7 }],
  ] as const) {
    test(`gets ${what} as the modern era says it`, async () => {
      const { request } = stage({ on: (one) => one.error(code, 'the server said so') })
      const { paper, outcome } = request(method, params)
      assert.equal((await outcome).status, 'failed')
      assert.equal(paper.status, expected.status)
      assert.equal(paper.answer.error.code, expected.code)
      assert.equal(paper.answer.error.message, 'the server said so')
      if ('data' in expected) assert.deepEqual(paper.answer.error.data, expected.data)
    })
  }

  test('finds no tasks: neither those of its own era nor those of the other', async () => {
    const { request, got } = stage()
    const { outcome } = request('tasks/get', { taskId: 't' })
    await assert.rejects(outcome, { jsonrpc: -32601, http: 404 })
    assert.equal(got.length, 0)
  })

  test('gets nothing when the server answers another request', async () => {
    const { request } = stage({ on: (one) => one.result('{"jsonrpc":"2.0","id":99,"result":{}}') })
    const { paper, outcome } = request('tools/call', call())
    await assert.rejects(outcome, { code: 'upstream_unavailable' })
    assert.equal(paper.messages.length, 0)
  })

  test('shares one session with others that declare the same, and only with those', async () => {
    const { request, open, settle, got } = stage()
    await Promise.all([request('tools/call', call()).outcome, request('tools/list').outcome, request('tools/call', call()).outcome])
    assert.equal(open.length, 1)
    await request('tools/list', {}, { capabilities: {} }).outcome
    await settle()
    assert.equal(open.length, 2)
    const ids = got.filter(({ session, message }) => session === 1 && message.id !== undefined).map(({ message }) => message.id)
    assert.equal(new Set(ids).size, ids.length)
  })

  test('rule 11: cannot open sessions without end by declaring something else each time', async () => {
    const { request, open, settle } = stage()
    for (let i = 0; i < 9; i++) await request('tools/list', {}, { capabilities: { experimental: { [i]: {} } } }).outcome
    await settle()
    assert.equal(open.length, 4)
  })

  test('does not notice that the server has forgotten the session', async () => {
    let first = true
    const { request, open } = stage({
      on(one, session) {
        if (session === 1 && first) {
          first = false
          open[0]!.fall(sessionGone('gone'))
        } else one.result({ content: [] })
      },
    })
    const { paper, outcome } = request('tools/call', call())
    assert.equal((await outcome).status, 'ok')
    assert.deepEqual(paper.answer.result.content, [])
    assert.equal(open.length, 1)
  })

  test('is told when the server falls in the middle of a call, and the next call starts it again', async () => {
    const { request, open } = stage({
      on(one, session) {
        if (session === 1) open[0]!.fall(new ChaperoneError('upstream_unavailable', 'it fell'))
        else one.result({ content: [] })
      },
    })
    await assert.rejects(request('tools/call', call()).outcome, { code: 'upstream_unavailable' })
    assert.equal((await request('tools/call', call()).outcome).status, 'ok')
  })

  test('is told when the server refuses the handshake, and the lane is given up so that the era is found anew', async () => {
    const { request, over } = stage({ greet: (one) => one.error(-32022, 'modern only') })
    await assert.rejects(request('tools/list').outcome, { code: 'upstream_unavailable' })
    assert.equal(over.length, 1)
  })

  test('rule 6: what it leaves is cancelled at the server at once', async () => {
    const { request, cancelled, settle, lane } = stage({ on() {} })
    const { paper, outcome } = request('tools/call', call())
    await settle()
    paper.leave()
    await assert.rejects(outcome)
    assert.equal(cancelled.length, 1)
    assert.deepEqual(lane.waiting, { calls: 0, parked: 0, asks: 0 })
  })

  test('rule 6: a lock cuts what runs', async () => {
    const { request, cancelled, settle } = stage({ on() {} })
    const { cut, outcome } = request('tools/call', call())
    await settle()
    cut(locked())
    await assert.rejects(outcome, { code: 'locked' })
    assert.equal(cancelled.length, 1)
  })

  test('gets progress under its own token and no log that it did not ask for', async () => {
    const { request, got } = stage({
      on(one) {
        const token = one.message.params._meta?.progressToken
        one.say({ jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: token, progress: 1 } })
        one.say({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'debug', data: 'low' } })
        one.say({ jsonrpc: '2.0', method: 'notifications/message', params: { level: 'error', data: 'high' } })
        one.result({ content: [] })
      },
    })
    const both = request('tools/call', call(), { meta: { progressToken: 'mine', [`${ENVELOPE}logLevel`]: 'warning' } })
    await both.outcome
    assert.deepEqual(
      both.paper.notes.map(({ params }) => params.progressToken ?? params.data),
      ['mine', 'high'],
    )
    assert.equal(got.filter(({ message }) => message.method === 'logging/setLevel').length, 1)
    const none = request('tools/call', call())
    await none.outcome
    assert.deepEqual(none.paper.notes, [])
  })

  test('rule 9: cannot be asked by a legacy server in the modern form, which nobody has judged', async () => {
    const { request, asked } = stage({
      on: (one) => one.result({ resultType: 'input_required', inputRequests: { a: { method: 'roots/list' } }, content: [] }),
    })
    const { paper, outcome } = request('tools/call', call())
    await outcome
    assert.equal(paper.answer.result.resultType, 'complete')
    assert.equal(asked.length, 0)
  })
})
