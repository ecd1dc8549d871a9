import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { eventually } from '../harness.fixture.ts'
import { sessionGone } from '../wire.ts'
import { type PoolFixture, poolFixture, TestAnswer } from './stdio.fixture.ts'

const over = sessionGone('The client has ended the MCP session.')

describe('what a shared process says by itself', () => {
  let given: PoolFixture
  before(() => {
    given = poolFixture()
  })
  after(() => given.close())
  const say = (...messages: object[]) => ({ messages })
  const methods = (answer: TestAnswer) => answer.messages.map(({ method }) => method)

  test('list_changed reaches all, progress its request, an update who watches it', async () => {
    const [a, b] = [given.session(), given.session()]
    await a.hello()
    await b.hello()
    const [ears, eyes] = [a.listen(), b.listen()]
    await a.request('resources/subscribe', { uri: 'file:///x' })
    await b.request('resources/subscribe', { uri: 'file:///dir' })
    const messages = [
      { method: 'notifications/tools/list_changed' },
      { method: 'notifications/resources/updated', params: { uri: 'file:///x' } },
      { method: 'notifications/resources/updated', params: { uri: 'file:///dir/part' } },
      { method: 'notifications/resources/updated', params: { uri: 'file:///xyz' } },
      { method: 'notifications/progress', params: { progressToken: 999, progress: 1 } },
    ]
    await a.tool('say', say(...messages))
    assert.deepEqual(
      ears.messages.map(({ method, params }) => params?.uri ?? method),
      ['notifications/tools/list_changed', 'file:///x'],
    )
    assert.deepEqual(
      eyes.messages.map(({ method, params }) => params?.uri ?? method),
      ['notifications/tools/list_changed', 'file:///dir/part'],
    )
    for (const session of [a, b]) await session.upstream.end(over)
  })

  test('the server is told to stop watching only when nobody watches any more', async () => {
    const [a, b] = [given.session(), given.session()]
    await a.hello()
    await b.hello()
    const uri = 'file:///x'
    await a.request('resources/subscribe', { uri })
    await b.request('resources/subscribe', { uri })
    assert.deepEqual(await a.request('resources/unsubscribe', { uri }), {})
    const count = async (method: string) => ((await b.tool('sent')) as { method: string }[]).filter((one) => one.method === method).length
    assert.equal(await count('resources/unsubscribe'), 0)
    assert.equal((await b.request('resources/unsubscribe', { uri })).method, 'resources/unsubscribe', 'now it goes up')
    await a.request('resources/subscribe', { uri })
    await a.upstream.end(over)
    assert.equal(await count('resources/unsubscribe'), 2, 'who leaves watches nothing')
    await b.upstream.end(over)
  })

  test('each hears log messages from the level that it asked for; the server is told the lowest', async () => {
    const [a, b] = [given.session(), given.session()]
    await a.hello()
    await b.hello()
    const [quiet, loud] = [a.listen(), b.listen()]
    await a.request('logging/setLevel', { level: 'error' })
    await b.request('logging/setLevel', { level: 'debug' })
    await a.request('logging/setLevel', { level: 'critical' })
    await a.tool('say', say(...['debug', 'critical'].map((level) => ({ method: 'notifications/message', params: { level, data: level } }))))
    assert.deepEqual(
      [quiet, loud].map((one) => one.messages.map(({ params }) => params.level)),
      [['critical'], ['debug', 'critical']],
    )
    const sent = (await a.tool('sent')) as { method: string; params: { level: string } }[]
    assert.deepEqual(
      sent.filter(({ method }) => method === 'logging/setLevel').map(({ params }) => params.level),
      ['error', 'debug'],
    )
    for (const session of [a, b]) await session.upstream.end(over)
  })

  test('of what everybody shares, nobody hears what the work of another makes it say', async () => {
    const spec = { share: 'everybody' }
    const [a, b] = [given.session({ spec }), given.session({ spec, who: 'agt_b' })]
    await a.hello()
    await b.hello()
    const ears = b.listen()
    await a.tool(
      'say',
      say(
        { method: 'notifications/message', params: { level: 'error', data: 'of a' } },
        { method: 'notifications/tasks/status', params: { taskId: 'of a' } },
        { method: 'notifications/tools/list_changed' },
      ),
    )
    assert.deepEqual(methods(ears), ['notifications/tools/list_changed'])
    assert.ok(given.logs.some(({ what }) => what === 'mcp.child.untold'))
    for (const session of [a, b]) await session.upstream.end(over)
  })

  test('a request of the server reaches the session that is alone there; with two it is told that nobody can be asked', async () => {
    const a = given.session()
    await a.hello()
    const ask = { id: 'q', method: 'sampling/createMessage', params: {} }
    await a.tool('say', say(ask, { id: 'p', method: 'ping' }))
    await a.tool('pid')
    const answers = async () => ((await a.tool('sent')) as { id: string; method?: string }[]).filter(({ method }) => method === undefined)
    await eventually(() => true, 'a turn')
    assert.deepEqual(
      (await answers()).sort((x, y) => (x.id < y.id ? -1 : 1)),
      [
        { jsonrpc: '2.0', id: 'p', result: {} },
        { jsonrpc: '2.0', id: 'q', result: { answered: 'agt_a' } },
      ],
    )
    const b = given.session()
    await b.hello()
    await a.tool('say', say({ ...ask, id: 'r' }))
    await a.tool('pid')
    assert.match(JSON.stringify(await answers()), /"id":"r","error":.*several clients/)
    for (const session of [a, b]) await session.upstream.end(over)
  })

  test('an answer that comes twice, or after its session left, reaches nobody', async () => {
    const [a, b] = [given.session(), given.session()]
    await a.hello()
    await b.hello()
    const answer = new TestAnswer()
    const lost = a.tool('hang', {}, { answer }).catch((error: unknown) => error)
    await b.tool('pid')
    await a.upstream.end(over)
    assert.equal(await lost, over)
    await b.tool('release')
    assert.deepEqual(
      given.logs.filter(({ what }) => what === 'mcp.child.stray'),
      [],
      'an answer that is only late is nothing to warn of',
    )
    const ids = ((await b.tool('sent')) as { id?: number }[]).flatMap(({ id }) => id ?? [])
    assert.equal(new Set(ids).size, ids.length, 'no id is used twice')
    await b.tool('say', say(...ids.map((id) => ({ id, result: { again: true } }))))
    assert.deepEqual(answer.texts, [])
    assert.ok(given.logs.some(({ what }) => what === 'mcp.child.stray'))
    await b.upstream.end(over)
  })

  test('R87: a client that goes away disturbs nobody; in the modern era its work is cancelled', async () => {
    const [a, b] = [given.session({ era: 'modern' }), given.session({ era: 'modern' })]
    const answer = new TestAnswer()
    const waits = a.tool('hang', {}, { answer })
    const lost = assert.rejects(waits, { code: 'upstream_timeout' })
    await b.tool('pid')
    answer.leave()
    await lost
    const sent = (await b.tool('sent')) as { method: string }[]
    assert.equal(sent.filter(({ method }) => method === 'notifications/cancelled').length, 1)
    for (const session of [a, b]) await session.upstream.end(over)
  })
})
