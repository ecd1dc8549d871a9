import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { manualClock } from '../../../clock.ts'
import type { ChaperoneError } from '../../../errors.ts'
import { eventually } from '../harness.fixture.ts'
import { MCP_LIMITS } from '../limits.ts'
import { sessionGone } from '../wire.ts'
import { EndedAtOnce } from './flight.ts'
import { alive, type PoolFixture, poolFixture } from './stdio.fixture.ts'

const over = sessionGone('The client has ended the MCP session.')

describe('how a shared process ends', () => {
  const stopped = async (given: PoolFixture, count = 1) => {
    await eventually(() => given.of('server.stopped').length >= count, 'its end is recorded')
    return given.of('server.stopped').at(-1)!.data as { reason: string; code: number | null; signal: string | null; message: string }
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
      await clock.armed(MCP_LIMITS.probeMs)
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
      assert.ok(!given.logs.some(({ what }) => what === 'mcp.child.ended'), 'nothing that somebody must look at')
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
      await clock.armed(5_000)
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
