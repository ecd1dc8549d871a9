import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { manualClock } from '../../../clock.ts'
import type { ChaperoneError } from '../../../errors.ts'
import { eventually } from '../harness.fixture.ts'
import { MCP_LIMITS } from '../limits.ts'
import { sessionGone } from '../wire.ts'
import { EndedAtOnce } from './flight.ts'
import { alive, type PoolFixture, poolFixture, TestAnswer } from './stdio.fixture.ts'

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

describe('how a shared process ends', () => {
  const stopped = async (given: PoolFixture, count = 1) => {
    await eventually(() => given.of('server.stopped').length >= count, 'its end is recorded')
    return given.of('server.stopped').at(-1)!.data as { reason: string; code: number | null; signal: string | null; message: string }
  }
  /** That many were started, and what was asked of the last one is under way. */
  const begun = async (given: PoolFixture, count: number) => {
    await eventually(() => given.of('server.started').length === count, 'it starts')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  const using = async (world: Parameters<typeof poolFixture>[0], act: (given: PoolFixture) => Promise<void>) => {
    const given = poolFixture(world)
    try {
      await act(given)
    } finally {
      await given.close()
    }
  }

  test('R88: all who wait learn at once how it ended, and so does the record', () =>
    using({}, async (given) => {
      const [a, b] = [given.session(), given.session()]
      await a.hello()
      await b.hello()
      const waits = b.tool('hang')
      const said = assert.rejects(waits, { code: 'upstream_unavailable', message: 'The MCP server s has ended with exit code 7.' })
      await assert.rejects(a.tool('die'), /exit code 7/)
      await said
      assert.equal((await stopped(given)).reason, 'crashed')
      assert.equal((await stopped(given)).code, 7)
      assert.equal(a.ended.length, 1)
      assert.equal(b.ended.length, 1)
      const c = given.session()
      await c.hello()
      await assert.rejects(c.tool('killed'), /has ended by SIGSEGV/)
      assert.equal((await stopped(given, 2)).signal, 'SIGSEGV')
    }))

  test('one that ends before it answered says so, with its exit code; what it wrote is for the log, without its secrets', () =>
    using({ secrets: { t: 'hunter2-hunter2' } }, async (given) => {
      const session = given.session({ mode: 'dies', spec: { env: { TOKEN: { secret: 't' } } } })
      await assert.rejects(
        session.hello(),
        (error) => error instanceof EndedAtOnce && /exit code 3/.test(error.message) && /log of Chaperone/.test(error.fix ?? ''),
      )
      const { facts } = given.logs.find(({ what }) => what === 'mcp.child.ended')!
      assert.match(String(facts.stderr), /my token is/)
      assert.doesNotMatch(JSON.stringify(given.logs), /hunter2/)
    }))

  test('an end or silence at server/discover can be told from a failure, and is no crash', () => {
    const clock = manualClock(1_000_000)
    return using({ clock }, async (given) => {
      for (let i = 0; i < 4; i++) {
        const session = given.session({ mode: 'allergic', era: 'modern' })
        await assert.rejects(session.request('server/discover'), EndedAtOnce)
        await session.upstream.end(over)
      }
      const legacy = given.session({ mode: 'allergic' })
      await legacy.hello()
      await legacy.upstream.end(over)
      const mute = given.session({ mode: 'mute', era: 'modern' })
      const silent = assert.rejects(mute.request('server/discover'), { code: 'upstream_timeout' })
      await begun(given, 6)
      clock.advance(MCP_LIMITS.probeMs)
      await silent
      await mute.upstream.end(over)
      assert.equal((await stopped(given, 6)).reason, 'session_over')
    })
  })

  test('a server that keeps ending is started more and more seldom', () => {
    const clock = manualClock(1_000_000)
    return using({ clock }, async (given) => {
      const attempt = async () => {
        const error = await given
          .session({ mode: 'dies' })
          .hello()
          .catch((error: ChaperoneError) => error)
        await eventually(() => given.pool.running === 0, 'it is gone')
        return error.message
      }
      assert.match(await attempt(), /exit code 3/)
      assert.match(await attempt(), /exit code 3/)
      assert.match(await attempt(), /keeps ending; it is started again in 1 s/)
      clock.advance(1_000)
      assert.match(await attempt(), /exit code 3/)
      assert.match(await attempt(), /in 2 s/)
      assert.match(
        (
          await given
            .session({ mode: 'dies', who: 'agt_b' })
            .hello()
            .catch((error: ChaperoneError) => error)
        ).message,
        /exit code/,
        'of another it is another',
      )
    })
  })

  test('R85, R90: `idle` ends a process that nobody uses, an open stream or not', () => {
    const clock = manualClock(1_000_000)
    return using({ clock }, async (given) => {
      const short = given.session({ spec: { limits: { idle: '10m' } } })
      const usual = given.session()
      const { pid } = await short.hello()
      const other = (await usual.hello()).pid
      short.listen()
      clock.advance(9 * 60_000)
      await short.tool('pid')
      clock.advance(9 * 60_000)
      assert.ok(alive(pid), 'it was used')
      clock.advance(60_000)
      assert.equal((await stopped(given)).reason, 'idle')
      await eventually(() => !alive(pid), 'it is gone')
      assert.match(short.ended[0]!.message, /idle/)
      assert.ok(alive(other))
    })
  })

  test('what is under way is use, however long it takes', () => {
    const clock = manualClock(1_000_000)
    return using({ clock, limits: { silenceMs: 60 * 60_000 } }, async (given) => {
      const a = given.session({ spec: { limits: { idle: '10m' } } })
      await a.hello()
      const waits = a.tool('hang')
      await eventually(() => given.pool.running === 1, 'it runs')
      clock.advance(30 * 60_000)
      await a.tool('release')
      assert.deepEqual(await waits, { late: true })
    })
  })

  test('of what everybody shares, an unused process waits for the next caller as long as `idle` says', () => {
    const clock = manualClock(1_000_000)
    return using({ clock }, async (given) => {
      const spec = { share: 'everybody', limits: { idle: '10m' } }
      const a = given.session({ spec })
      const { pid } = await a.hello()
      await a.upstream.end(over)
      const b = given.session({ spec, who: 'agt_b' })
      assert.equal((await b.hello()).pid, pid)
      await b.upstream.end(over)
      clock.advance(10 * 60_000)
      await eventually(() => !alive(pid), 'it is gone')
      assert.equal((await stopped(given)).reason, 'idle')
    })
  })

  test('R90: `lifetime` replaces an old process as soon as nothing is under way', () => {
    const clock = manualClock(1_000_000)
    return using({ clock }, async (given) => {
      const spec = { limits: { lifetime: '1h' } }
      const a = given.session({ spec })
      const { pid } = await a.hello()
      for (let i = 0; i < 4; i++) {
        clock.advance(14 * 60_000)
        await a.tool('pid')
      }
      const waits = a.tool('hang')
      await a.tool('pid')
      clock.advance(4 * 60_000)
      const b = given.session({ spec })
      assert.notEqual((await b.hello()).pid, pid, 'who comes now gets a new one')
      assert.ok(alive(pid))
      await a.tool('release')
      await waits
      assert.equal((await stopped(given)).reason, 'lifetime')
      await eventually(() => !alive(pid), 'the old one is gone')
      assert.match(a.ended[0]!.message, /as old as/)
    })
  })

  test('R90: `start` is how long the first answer may take', () => {
    const clock = manualClock(1_000_000)
    return using({ clock }, async (given) => {
      const a = given.session({ mode: 'mute', spec: { limits: { start: '5s' } } })
      const late = assert.rejects(a.hello(), { code: 'upstream_timeout', message: /5 s/ })
      await begun(given, 1)
      clock.advance(5_000)
      await late
    })
  })

  test('R90: `memory` counts the whole tree, and its end is said to whoever waits', () =>
    using({}, async (given) => {
      for (const tool of ['eat', 'feed']) {
        const a = given.session({ spec: { limits: { memory: '160MiB' } } })
        await a.hello()
        await a.tool('pid')
        const before = given.of('server.stopped').length
        const waits = assert.rejects(a.tool('hang'), /used more memory than its document allows \(160MiB\)/)
        // It may be seen, and ended, before it has answered.
        await a.tool(tool, { bytes: 200 * 1024 * 1024 }).catch((error: Error) => assert.match(error.message, /used more memory/))
        await waits
        assert.equal((await stopped(given, before + 1)).reason, 'memory')
      }
    }))

  test('R88: who waits for a process that is being ended does not wait until it is gone', () => {
    const clock = manualClock(1_000_000)
    return using({ clock }, async (given) => {
      const a = given.session({ mode: 'chatty', spec: { limits: { output: '10kB' } } })
      // No signal is due before this clock moves, and the server writes on when its stdin is closed.
      await assert.rejects(
        a.hello().then(() => a.tool('hang')),
        /wrote more than/,
      )
      assert.equal(given.of('server.stopped').length, 0)
      clock.advance(1_000)
      await stopped(given)
    })
  })

  test('R90: `output` is what it may write in a minute, to stdout and stderr', () =>
    using({}, async (given) => {
      const a = given.session({ mode: 'chatty', spec: { limits: { output: '10kB' } } })
      const waits = assert.rejects(
        a.hello().then(() => a.tool('hang')),
        /wrote more than 10000 bytes in a minute/,
      )
      await waits
      assert.equal((await stopped(given)).reason, 'output')
      const b = given.session({ mode: 'chatty', spec: { limits: { output: '10MB' } } })
      await b.hello()
      await b.tool('pid')
    }))

  test('a daemon that left its group and its parent ends with its server', () =>
    using({}, async (given) => {
      for (const cwd of [undefined, '/']) {
        const a = given.session()
        await a.hello()
        const daemon = Number(await a.tool('daemon', { cwd }))
        assert.ok(alive(daemon))
        await a.upstream.end(over)
        assert.equal(alive(daemon), false)
      }
    }))

  test('R82: closing ends every process and says why', () =>
    using({}, async (given) => {
      const pids = await Promise.all(
        ['a', 'b', 'c'].map((who) =>
          given
            .session({ who })
            .hello()
            .then(({ pid }) => pid as number),
        ),
      )
      assert.equal(given.pool.running, 3)
      await given.pool.close()
      assert.deepEqual(pids.filter(alive), [])
      assert.deepEqual(
        given.of('server.stopped').map(({ data }) => data?.reason),
        ['stopping', 'stopping', 'stopping'],
      )
      await assert.rejects(given.session().hello(), { code: 'draining' })
    }))

  test('R83: a session that ends while its process starts leaves none behind', () =>
    using({}, async (given) => {
      const a = given.session()
      const hello = assert.rejects(a.hello())
      await a.upstream.end(over)
      await hello
      await eventually(() => given.pool.running === 0 && given.of('server.stopped').length === given.of('server.started').length, 'nothing runs')
    }))
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
