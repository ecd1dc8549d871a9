import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { eventually } from '../harness.fixture.ts'
import { sessionGone } from '../wire.ts'
import { alive, type PoolFixture, poolFixture } from './stdio.fixture.ts'

const over = sessionGone('The client has ended the MCP session.')

describe('who shares a process of a stdio server', () => {
  let given: PoolFixture
  before(() => {
    given = poolFixture()
  })
  after(() => given.close())

  test('sessions of one identity share one; the handshake goes up once and is answered to each under its own id', async () => {
    const sessions = [given.session(), given.session(), given.session()]
    const started = given.of('server.started').length
    const welcomes = await Promise.all(sessions.map((session) => session.hello()))
    assert.equal(new Set(welcomes.map(({ pid }) => pid)).size, 1)
    assert.equal(given.of('server.started').length, started + 1, 'three first messages at once start one process (peers R83)')
    const later = given.session()
    assert.deepEqual(await later.hello(), welcomes[0])
    const sent: { method: string }[] = await later.tool('sent')
    assert.deepEqual(
      sent.filter(({ method }) => /initialize/.test(method)).map(({ method }) => method),
      ['initialize', 'notifications/initialized'],
    )
    for (const session of [...sessions, later]) await session.upstream.end(over)
    await eventually(() => !alive(welcomes[0].pid), 'it ends with its last session')
  })

  test('R84: one session that ends takes nothing from the others, but its own requests', async () => {
    const [first, second] = [given.session(), given.session()]
    const { pid } = await first.hello()
    await second.hello()
    const waits = first.tool('hang')
    const lost = assert.rejects(waits, (error) => error === over)
    const stays = second.tool('hang')
    await eventually(() => given.pool.running === 1, 'it runs')
    await second.tool('pid')
    await first.upstream.end(over)
    await lost
    const sent: { method: string }[] = await second.tool('sent')
    assert.equal(sent.filter(({ method }) => method === 'notifications/cancelled').length, 1)
    await second.tool('release')
    assert.deepEqual(await stays, { late: true })
    assert.ok(alive(pid))
    await second.upstream.end(over)
  })

  test('another identity, another delegation chain, another document have their own (peers R55)', async () => {
    const sessions = [
      given.session(),
      given.session({ who: 'agt_b' }),
      given.session({ who: 'usr_x>agt_a' }),
      given.session({ server: 'other' }),
      given.session({ spec: { env: { A: 'b' } } }),
      given.session({ spec: { share: 'session' } }),
      given.session({ spec: { share: 'session' } }),
    ]
    const welcomes = await Promise.all(sessions.map((session) => session.hello()))
    assert.equal(new Set(welcomes.map(({ pid }) => pid)).size, sessions.length)
    for (const session of sessions) await session.upstream.end(over)
  })

  test('a client that may be asked something, or speaks otherwise, has its own', async () => {
    const capabilities = [{}, { sampling: {} }, { sampling: {} }, { elicitation: { form: {} } }, { roots: {} }, { experimental: { x: 1 } }]
    const sessions = capabilities.map(() => given.session())
    const welcomes = await Promise.all(sessions.map((session, i) => session.hello(capabilities[i])))
    const older = given.session()
    welcomes.push(await older.hello({}, '2025-06-18'))
    assert.equal(new Set(welcomes.map(({ pid }) => pid)).size, welcomes.length)
    for (const session of [...sessions, older]) await session.upstream.end(over)
  })

  test('everybody shares what the catalog says keeps nothing about its callers', async () => {
    const spec = { share: 'everybody' }
    const sessions = [given.session({ spec }), given.session({ spec, who: 'agt_b' }), given.session({ spec, who: 'agt_c' })]
    const welcomes = await Promise.all(sessions.map((session) => session.hello()))
    assert.equal(new Set(welcomes.map(({ pid }) => pid)).size, 1)
    for (const session of sessions) await session.upstream.end(over)
  })

  test('the modern era shares by identity too, without a handshake', async () => {
    const sessions = [given.session({ era: 'modern' }), given.session({ era: 'modern' }), given.session({ era: 'modern', who: 'agt_b' })]
    const [a, b, c] = await Promise.all(sessions.map((session) => session.tool('pid')))
    assert.equal(a, b)
    assert.notEqual(a, c)
    await sessions[0]!.upstream.end(over)
    assert.equal(await sessions[1]!.tool('pid'), b)
    for (const session of sessions) await session.upstream.end(over)
    await eventually(() => !alive(a) && !alive(c), 'both are gone')
  })

  test('a handshake that the server refuses is refused to all who wait for it, and tried again by who comes next', async () => {
    const sessions = [given.session({ mode: 'slow' }), given.session({ mode: 'slow' })]
    const results = await Promise.allSettled(sessions.map((session) => session.request('initialize', { protocolVersion: 'x', capabilities: {} })))
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'fulfilled'],
    )
    const refused = [given.session(), given.session()]
    for (const session of refused) await assert.rejects(session.hello({}, 'wrong'), { code: -32602 })
    const sent: { method: string }[] = await refused[1]!.tool('sent')
    assert.equal(sent.filter(({ method }) => method === 'initialize').length, 2)
    for (const session of [...sessions, ...refused]) await session.upstream.end(over)
  })

  test('who began the handshake may leave: the others get its answer', async () => {
    const [first, second] = [given.session({ mode: 'held' }), given.session({ mode: 'held' })]
    const started = given.of('server.started').length
    const begun = assert.rejects(first.hello(), (error) => error === over)
    const joined = second.hello()
    await eventually(() => given.of('server.started').length > started, 'it runs')
    await first.upstream.end(over)
    await begun
    given.letGo()
    assert.equal((await joined).serverInfo.name, 's')
    await second.upstream.end(over)
  })
})

test('rule 11: one person has so many processes and no more, however the handshakes differ; another still gets one', async () => {
  const given = poolFixture({ limits: { childrenPerPerson: 2 } })
  try {
    const hello = (who: string, n: number) => given.session({ who, spec: { share: 'everybody' } }).hello({ [`x${n}`]: {} })
    await hello('usr_a>agt_1', 1)
    await hello('usr_a>agt_2', 2)
    await assert.rejects(hello('usr_a>agt_3', 3), { code: 'too_many' })
    await hello('usr_a>agt_3', 1)
    await hello('usr_b', 3)
    assert.equal(given.pool.running, 3)
  } finally {
    await given.close()
  }
})
