import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Refusal } from '../../../access/types.ts'
import type { Decision } from '../../../policy/types.ts'
import { asking, call, form, retry, round } from './modern-asked.fixture.ts'
import { type Json, locked, stage } from './modern-client.fixture.ts'

describe('a legacy server that asks during a call', () => {
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
