import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { asking, call, form, retry, round } from './modern-asked.fixture.ts'
import { type Json, locked, stage } from './modern-client.fixture.ts'

describe('a legacy server that asks, and what its client comes back with', () => {
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
})
