import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { call, round } from './modern-asked.fixture.ts'
import { goodAnswers, locked, stage } from './modern-client.fixture.ts'

describe('a legacy server that needs a page opened first (-32042)', () => {
  const elicitations = [{ mode: 'url', elicitationId: 'e', url: 'https://x.example/', message: 'sign in' }]
  const server = () => {
    let visits = 0
    return stage({ on: (one) => (visits++ === 0 ? one.error(-32042, 'sign in first', { elicitations }) : one.result({ content: ['done'] })) })
  }
  const ask = async (on: ReturnType<typeof stage>) => {
    const first = on.request('tools/call', call())
    await round(on)
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
