import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ChaperoneError } from '../../../errors.ts'
import { call } from './modern-asked.fixture.ts'
import { ENVELOPE, FULL, GREETING, locked, stage } from './modern-client.fixture.ts'

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
