import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Refusal } from '../../../access/types.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Decision } from '../../../policy/types.ts'
import { sessionGone } from '../wire.ts'
import { ENVELOPE, FULL, GREETING, goodAnswers, type Json, locked, stage } from './modern-client.fixture.ts'

const call = (more: Json = {}) => ({ name: 'tool', arguments: { a: 1 }, ...more })

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

describe('a legacy server that asks during a call', () => {
  const asking =
    (method: string, params: Json = {}) =>
    (one: Json) => {
      void one.ask(method, params).then((answer: Json) => {
        if (!one.signal.aborted) one.result({ content: [{ type: 'text', text: JSON.stringify(answer) }] })
      })
    }
  const form = { message: 'who?', requestedSchema: { type: 'object', properties: {} } }
  const round = async ({ clock, settle }: ReturnType<typeof stage>) => {
    await settle()
    clock.advance(10)
    await settle()
  }
  const retry = (given: Json, more: Json = {}) =>
    call({ requestState: given.result.requestState, inputResponses: goodAnswers(given.result.inputRequests), ...more })

  test('gets the answer of a client that comes back, and the client gets the result on its retry', async () => {
    const on = stage({ on: asking('elicitation/create', form) })
    const first = on.request('tools/call', call(), { id: 'one' })
    await round(on)
    const { result } = first.paper.answer
    assert.equal(result.resultType, 'input_required')
    assert.equal('ttlMs' in result, false)
    assert.deepEqual(Object.values(result.inputRequests), [{ method: 'elicitation/create', params: form }])
    assert.ok(Buffer.from(result.requestState, 'base64url').length * 8 >= 192)
    assert.equal(first.end(), undefined, 'the permit of the call lives as long as the call')
    assert.equal(on.lane.waiting.parked, 1)
    const second = on.request('tools/call', retry(first.paper.answer), { id: 'two' })
    assert.equal((await second.outcome).status, 'ok')
    assert.equal(second.paper.answer.id, 'two')
    assert.match(second.paper.answer.result.content[0].text, /"content":\{"name":"Ada"/)
    assert.equal((await first.outcome).status, 'ok')
    assert.deepEqual(
      on.asked.map(({ method, outcome }) => [method, outcome?.status]),
      [['elicitation/create', 'ok']],
    )
    assert.equal(on.got.filter(({ message }) => message.method === 'tools/call').length, 1)
    assert.ok(!JSON.stringify(on.got).includes('requestState'))
    assert.deepEqual(on.lane.waiting, { calls: 0, parked: 0, asks: 0 })
  })

  test('may ask several things at once, and again in the next round', async () => {
    const on = stage({
      async on(one) {
        const both = await Promise.all([one.ask('roots/list'), one.ask('sampling/createMessage', { messages: [], maxTokens: 1 })])
        const third = await one.ask('elicitation/create', { mode: 'url', elicitationId: 'e1', url: 'https://x.example/', message: 'go' })
        one.result({ content: [], all: [...both, third].map(({ result }) => Object.keys(result)[0]) })
      },
    })
    const first = on.request('tools/call', call())
    await round(on)
    assert.equal(Object.keys(first.paper.answer.result.inputRequests).length, 2)
    const second = on.request('tools/call', retry(first.paper.answer))
    await round(on)
    const [url] = Object.values(second.paper.answer.result.inputRequests) as Json[]
    assert.deepEqual(url.params, { mode: 'url', url: 'https://x.example/', message: 'go' })
    const third = on.request('tools/call', retry(second.paper.answer))
    await third.outcome
    assert.deepEqual(third.paper.answer.result.all, ['roots', 'role', 'action'])
    await Promise.all([first.outcome, second.outcome])
  })

  test('has all that it asked at once shown at once, however long the record of each takes', async () => {
    const on = stage({
      async on(one) {
        await Promise.all([one.ask('roots/list'), one.ask('sampling/createMessage', { messages: [], maxTokens: 1 })])
        one.result({ content: [] })
      },
    })
    let durable = () => {}
    on.judge = (method) => {
      if (method === 'sampling/createMessage') return new Promise<void>((resolve) => (durable = resolve))
    }
    const first = on.request('tools/call', call())
    await round(on)
    await round(on)
    assert.equal(first.paper.answers.length, 0)
    durable()
    await round(on)
    assert.equal(Object.keys(first.paper.answer.result.inputRequests).length, 2)
    await on.request('tools/call', retry(first.paper.answer)).outcome
  })

  test('is answered by us when the client cannot be asked, and the call goes on', async () => {
    const on = stage({ on: asking('sampling/createMessage', { messages: [], maxTokens: 1 }) })
    const { paper, outcome } = on.request('tools/call', call(), { capabilities: {} })
    await outcome
    assert.match(paper.answer.result.content[0].text, /-32601/)
    assert.deepEqual(
      on.asked.map(({ method, outcome }) => ({ method, ...outcome })),
      [{ method: 'sampling/createMessage', status: 'failed', facts: { why: 'the client cannot be asked this' } }],
      'the record tells it all the same',
    )
  })

  test('is answered the same when policy refuses what the client cannot be asked', async () => {
    const on = stage({ on: asking('sampling/createMessage', { messages: [], maxTokens: 1 }) })
    on.judge = () => {
      throw new Refusal({ verdict: 'deny', reason: 'no_rule', message: 'No role allows it.', visible: true } as Decision, 'dec_1')
    }
    const { paper, outcome } = on.request('tools/call', call(), { capabilities: {} })
    await outcome
    assert.match(paper.answer.result.content[0].text, /-32601/)
  })

  test('is refused what policy refuses, and the client is not bothered', async () => {
    const on = stage({ on: asking('roots/list') })
    on.judge = () => {
      throw locked()
    }
    const { paper, outcome } = on.request('tools/call', call())
    await outcome
    assert.match(paper.answer.result.content[0].text, /40310/)
  })

  test('gets a ping answered by us, and nothing else that is not MCP', async () => {
    const on = stage({
      async on(one) {
        one.result({ content: [], pong: await one.ask('ping'), other: await one.ask('vendor/ask', {}) })
      },
    })
    const { paper, outcome } = on.request('tools/call', call())
    await outcome
    assert.deepEqual(paper.answer.result.pong.result, {})
    assert.equal(paper.answer.result.other.error.code, -32601)
  })

  test('cannot ask when no call is under way', async () => {
    const on = stage()
    await on.request('tools/list').outcome
    await on.settle()
    const answer = await on.open[0]!.ask('roots/list')
    assert.equal(answer.error.code, 50101)
    assert.ok(on.logs.some((line) => line.includes('homeless')))
    assert.deepEqual(
      on.asked.map(({ method, outcome }) => ({ method, ...outcome })),
      [{ method: 'roots/list', status: 'failed', facts: { why: 'no call is under way' } }],
    )
  })

  test('on its own stream is heard by the one call that is open', async () => {
    const on: ReturnType<typeof stage> = stage({
      on(one) {
        void on.open[0]!.ask('roots/list').then((answer) => one.result({ content: [], answer }))
      },
    })
    await on.request('prompts/list', {}).outcome.catch(() => {})
    await on.settle()
    const first = on.request('tools/call', call())
    await round(on)
    const second = on.request('tools/call', retry(first.paper.answer))
    await second.outcome
    assert.ok(second.paper.answer.result.answer.result.roots)
  })

  test('asks again for what is missing or malformed, and ignores what it did not ask for', async () => {
    const on = stage({ on: asking('elicitation/create', form) })
    const first = on.request('tools/call', call())
    await round(on)
    const state = first.paper.answer.result.requestState
    const [key] = Object.keys(first.paper.answer.result.inputRequests)
    const second = on.request('tools/call', call({ requestState: state, inputResponses: { [key!]: { action: 'perhaps' }, other: {} } }))
    await round(on)
    assert.equal(second.paper.answer.result.resultType, 'input_required')
    assert.deepEqual(Object.keys(second.paper.answer.result.inputRequests), [key])
    const third = on.request('tools/call', call({ requestState: second.paper.answer.result.requestState }))
    await round(on)
    assert.equal(third.paper.answer.result.resultType, 'input_required')
    const last = on.request('tools/call', retry(third.paper.answer))
    await last.outcome
    assert.equal(last.paper.answer.result.resultType, 'complete')
    assert.equal(on.got.filter(({ message }) => message.method === 'tools/call').length, 1)
  })

  for (const [what, change] of [
    ['used up', async () => {}],
    ['unknown', async (params: Json) => Object.assign(params, { requestState: 'A'.repeat(32) })],
    ['not a string', async (params: Json) => Object.assign(params, { requestState: 7 })],
  ] as const) {
    test(`a requestState that is ${what} continues nothing`, async () => {
      const on = stage({ on: asking('elicitation/create', form) })
      const first = on.request('tools/call', call())
      await round(on)
      const params = retry(first.paper.answer)
      const second = what === 'used up' ? on.request('tools/call', params) : undefined
      await second?.outcome
      const bad: Json = { ...params }
      await change(bad)
      await assert.rejects(on.request('tools/call', bad).outcome, { jsonrpc: -32602 })
      assert.equal(on.got.filter(({ message }) => message.method === 'tools/call').length, 1)
    })
  }

  test('a retry must be the same call: another tool or other arguments open nothing, and use nothing up', async () => {
    const on = stage({ on: asking('elicitation/create', form) })
    const first = on.request('tools/call', call({ arguments: { b: 2, a: 12345678901234567890n } }))
    await round(on)
    const good = retry(first.paper.answer, { arguments: { b: 2, a: 12345678901234567890n } })
    for (const change of [{ name: 'other' }, { arguments: { b: 3 } }, { arguments: { b: 2, a: 12345678901234567891n } }, { unknown: 1 }])
      await assert.rejects(on.request('tools/call', { ...good, ...change }).outcome, { jsonrpc: -32602 })
    await on.request('tools/call', good).outcome
  })

  test('a client that does not come back in time is given up: the server is answered and told', async () => {
    const errors: Json[] = []
    const on = stage({ limits: { askMs: 1000 }, on: (one) => void one.ask('roots/list').then((answer) => errors.push(answer)) })
    const first = on.request('tools/call', call())
    await round(on)
    on.clock.advance(1000)
    await on.settle()
    assert.equal(errors[0].error.code, 50401)
    assert.equal(on.cancelled.length, 1)
    assert.equal((await first.outcome).status, 'unknown')
    assert.deepEqual(on.lane.waiting, { calls: 0, parked: 0, asks: 0 })
    await assert.rejects(on.request('tools/call', retry(first.paper.answer)).outcome, { jsonrpc: -32602 })
    assert.deepEqual(
      on.asked.map(({ outcome }) => outcome?.status),
      ['failed'],
    )
  })

  test('rule 6: a lock also cuts the call whose client was asked', async () => {
    const on = stage({ on: (one) => void one.ask('roots/list') })
    const first = on.request('tools/call', call())
    await round(on)
    first.cut(locked())
    assert.equal((await first.outcome).status, 'unknown')
    assert.equal(on.cancelled.length, 1)
    assert.equal(on.lane.waiting.parked, 0)
  })

  test('rule 11: asks only so many times in one call, and only so much at once', async () => {
    const on = stage({
      limits: { rounds: 2, asks: 3 },
      async on(one) {
        const answers = []
        for (let i = 0; i < 4; i++) answers.push(await one.ask('roots/list'))
        one.result({ content: [], answers: answers.map((answer: Json) => answer.error?.code ?? 'ok') })
      },
    })
    const first = on.request('tools/call', call())
    await round(on)
    const second = on.request('tools/call', retry(first.paper.answer))
    await round(on)
    const third = on.request('tools/call', retry(second.paper.answer))
    await round(on)
    await round(on)
    await third.outcome
    assert.deepEqual(third.paper.answer.result.answers, ['ok', 'ok', 42901, 42901])
  })

  test('rule 11: results that wait for their client are bounded too', async () => {
    const on = stage({
      limits: { asks: 1 },
      on(one) {
        void one.ask('roots/list').then((answer) => {
          if (answer.error.code === 42901) one.result({ content: [], refused: true })
        })
        on.later = () => one.result({ content: [] })
      },
    }) as ReturnType<typeof stage> & { later: () => void }
    const first = on.request('tools/call', call())
    await round(on)
    on.later()
    await first.outcome
    await on.settle()
    assert.deepEqual(on.lane.waiting, { calls: 0, parked: 1, asks: 0 })
    const second = on.request('tools/call', call({ arguments: { b: 1 } }))
    await round(on)
    await second.outcome
    assert.equal(second.paper.answer.result.refused, true)
  })

  test('may answer the call without the answer: the result waits for the retry', async () => {
    const on = stage({
      on(one) {
        void one.ask('roots/list')
        setImmediate(() => setImmediate(() => setImmediate(() => setImmediate(() => one.result({ content: ['late'] })))))
      },
    })
    const first = on.request('tools/call', call())
    await on.settle()
    on.clock.advance(10)
    await on.settle()
    await on.settle()
    await on.settle()
    assert.equal((await first.outcome).status, 'ok')
    const second = on.request('tools/call', retry(first.paper.answer))
    await second.outcome
    assert.deepEqual(second.paper.answer.result.content, ['late'])
    assert.deepEqual(on.lane.waiting, { calls: 0, parked: 0, asks: 0 })
  })

  test('may withdraw its question', async () => {
    const on = stage({
      on(one) {
        void one.ask('roots/list')
        setImmediate(() => one.say({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }))
        void one.ask('sampling/createMessage', { messages: [], maxTokens: 1 }).then(() => one.result({ content: [] }))
      },
    })
    const first = on.request('tools/call', call())
    await round(on)
    assert.deepEqual(
      (Object.values(first.paper.answer.result.inputRequests) as Json[]).map(({ method }) => method),
      ['sampling/createMessage'],
    )
    await on.request('tools/call', retry(first.paper.answer)).outcome
  })

  test('what it says while the client is away comes with the retry, under the token of the retry', async () => {
    let say = () => {}
    const on = stage({
      on(one) {
        const token = one.message.params._meta.progressToken
        void one.ask('roots/list').then(() => one.result({ content: [] }))
        say = () => one.say({ jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: token, progress: 1 } })
      },
    })
    const first = on.request('tools/call', call(), { meta: { progressToken: 'a' } })
    await round(on)
    say()
    await on.settle()
    const second = on.request('tools/call', retry(first.paper.answer), { meta: { progressToken: 'b' } })
    await second.outcome
    assert.deepEqual(
      second.paper.notes.map(({ params }) => params.progressToken),
      ['b'],
    )
  })
})

describe('a legacy server that needs a page opened first (-32042)', () => {
  const elicitations = [{ mode: 'url', elicitationId: 'e', url: 'https://x.example/', message: 'sign in' }]
  const server = () => {
    let visits = 0
    return stage({ on: (one) => (visits++ === 0 ? one.error(-32042, 'sign in first', { elicitations }) : one.result({ content: ['done'] })) })
  }
  const ask = async (on: ReturnType<typeof stage>) => {
    const first = on.request('tools/call', call())
    await on.settle()
    on.clock.advance(10)
    await on.settle()
    return first
  }

  test('has the client asked, and the call sent again when it comes back', async () => {
    const on = server()
    const first = await ask(on)
    const { inputRequests, requestState } = first.paper.answer.result
    assert.deepEqual(Object.values(inputRequests), [
      { method: 'elicitation/create', params: { mode: 'url', url: 'https://x.example/', message: 'sign in' } },
    ])
    assert.equal((await first.outcome).status, 'failed')
    const second = on.request('tools/call', call({ requestState, inputResponses: goodAnswers(inputRequests) }))
    await second.outcome
    assert.deepEqual(second.paper.answer.result.content, ['done'])
    assert.equal(on.got.filter(({ message }) => message.method === 'tools/call').length, 2)
    await on.settle()
    assert.deepEqual(on.lane.waiting, { calls: 0, parked: 0, asks: 0 })
  })

  test('has its own error go to a client that declines', async () => {
    const on = server()
    const first = await ask(on)
    const { inputRequests, requestState } = first.paper.answer.result
    const inputResponses = Object.fromEntries(Object.keys(inputRequests).map((key) => [key, { action: 'decline' }]))
    const second = on.request('tools/call', call({ requestState, inputResponses }))
    await second.outcome
    assert.equal(second.paper.answer.error.message, 'sign in first')
    assert.equal(second.paper.answer.error.code, -32603)
    assert.equal(on.got.filter(({ message }) => message.method === 'tools/call').length, 1)
  })

  test('is told of by an error that names the missing capability', async () => {
    const on = server()
    await assert.rejects(on.request('tools/call', call(), { capabilities: { elicitation: {} } }).outcome, {
      jsonrpc: -32021,
      http: 400,
      data: { requiredCapabilities: { elicitation: { url: {} } } },
    })
  })

  test('asks nothing that policy refuses', async () => {
    const on = server()
    on.judge = () => {
      throw locked()
    }
    await assert.rejects(on.request('tools/call', call()).outcome, { code: 'locked' })
  })
})

describe('subscriptions/listen to a legacy server', () => {
  const SUBSCRIPTION = `${ENVELOPE}subscriptionId`
  const changed = (what: string) => ({ jsonrpc: '2.0', method: `notifications/${what}/list_changed` })
  const updated = (uri: string) => ({ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri, extra: 1 } })

  test('is acknowledged first, gets what it asked for and nothing else, and ends with its closing result when the server goes', async () => {
    const on = stage()
    const listen = on.request(
      'subscriptions/listen',
      { notifications: { toolsListChanged: true, resourceSubscriptions: ['test://a', 'test://a'] } },
      { id: 7 },
    )
    await on.settle()
    for (const message of [changed('tools'), changed('prompts'), updated('test://a'), updated('test://b'), updated('test://a/below')])
      on.open[0]!.say(message)
    await on.settle()
    assert.deepEqual(
      listen.paper.messages.map(({ method, params }) => [method, params._meta[SUBSCRIPTION], params.uri ?? params.notifications]),
      [
        ['notifications/subscriptions/acknowledged', 7, { toolsListChanged: true, resourceSubscriptions: ['test://a'] }],
        ['notifications/tools/list_changed', 7, undefined],
        ['notifications/resources/updated', 7, 'test://a'],
        ['notifications/resources/updated', 7, 'test://a/below'],
      ],
    )
    on.open[0]!.fall(new ChaperoneError('upstream_unavailable', 'it fell'))
    assert.equal((await listen.outcome).status, 'ok')
    const { id, result } = listen.paper.answer
    assert.deepEqual([id, result.resultType, result._meta[SUBSCRIPTION], listen.paper.ended], [7, 'complete', 7, true])
  })

  test('is honoured only as far as the server can', async () => {
    const on = stage({ greeting: { ...GREETING, capabilities: { tools: {}, prompts: { listChanged: true } } } })
    const asked = { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true, resourceSubscriptions: ['test://a'] }
    const listen = on.request('subscriptions/listen', { notifications: asked })
    await on.settle()
    assert.deepEqual(listen.paper.messages[0].params.notifications, { promptsListChanged: true, resourceSubscriptions: [] })
    listen.paper.leave()
    await listen.outcome
  })

  test('subscribes once for all that listen, and unsubscribes with the last', async () => {
    const on = stage()
    const one = on.request('subscriptions/listen', { notifications: { resourceSubscriptions: ['test://a'] } }, { id: 'one' })
    const two = on.request('subscriptions/listen', { notifications: { resourceSubscriptions: ['test://a'] } }, { id: 'two' })
    await on.settle()
    const count = (method: string) => on.got.filter(({ message }) => message.method === method).length
    assert.equal(on.open[0]!.streams, 1)
    on.open[0]!.say(updated('test://a'))
    await on.settle()
    assert.deepEqual(
      [one, two].map(({ paper }) => paper.notes.at(-1).params._meta[SUBSCRIPTION]),
      ['one', 'two'],
    )
    one.paper.leave()
    await one.outcome
    assert.deepEqual([count('resources/subscribe'), count('resources/unsubscribe')], [1, 0])
    two.paper.leave()
    await two.outcome
    assert.deepEqual([count('resources/subscribe'), count('resources/unsubscribe')], [1, 1])
    assert.equal(one.paper.notes.length, 2)
  })

  test('rule 6: ends at a lock', async () => {
    const on = stage()
    const listen = on.request('subscriptions/listen', { notifications: { toolsListChanged: true } })
    await on.settle()
    listen.cut(locked())
    await assert.rejects(listen.outcome, { code: 'locked' })
  })

  test('works, as far as it can, with a server that has no stream of its own', async () => {
    const on = stage({
      noStream: 405,
      on(one) {
        one.say(changed('tools'))
        one.result({ content: [] })
      },
    })
    const listen = on.request('subscriptions/listen', { notifications: { toolsListChanged: true } }, { capabilities: FULL })
    await on.settle()
    const { paper, outcome } = on.request('tools/call', call())
    await outcome
    await on.settle()
    assert.deepEqual(paper.notes, [])
    assert.deepEqual(
      listen.paper.notes.map(({ method }) => method),
      ['notifications/subscriptions/acknowledged', 'notifications/tools/list_changed'],
    )
    await on.lane.end(new ChaperoneError('draining', 'stop'))
    await listen.outcome
  })
})
