import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { ChaperoneError, type ReasonCode } from '../../errors.ts'
import type { Keeper } from '../credential.ts'
import { runDaemon } from './daemon.ts'

const away = () => new ChaperoneError('upstream_unavailable', 'The server cannot be reached.')

/** A daemon whose every join and start is answered by the test, on a clock that stands still. */
function daemon(t: TestContext, { joinsAgain = true, first = () => {} }: { readonly joinsAgain?: boolean; readonly first?: () => void } = {}) {
  const clock = manualClock(0)
  const stop = new AbortController()
  const lines: string[] = []
  const sessions: { end(code: ReasonCode): void; closed: boolean }[] = []
  let answer: () => void | Promise<void> = first
  let program: (keeper: Keeper) => Promise<number> = async () => 0
  const join = async (): Promise<Keeper> => {
    await answer()
    const over = new AbortController()
    const session = { end: (code: ReasonCode) => over.abort(new ChaperoneError(code, 'It is over.')), closed: false }
    sessions.push(session)
    return {
      current: () => assert.fail('not asked for'),
      onRenew: () => {},
      signal: over.signal,
      close: async () => {
        session.closed = true
      },
    }
  }
  let ready = 0
  const ended = runDaemon({
    join,
    joinsAgain,
    run: (keeper) => program(keeper),
    stop: stop.signal,
    ready: () => void ready++,
    say: (line) => void lines.push(line),
    clock,
  })
  t.after(() => stop.abort('SIGTERM'))
  const turns = async () => {
    for (let i = 0; i < 20; i++) await new Promise((done) => setImmediate(done))
  }
  return {
    ended,
    stop: () => stop.abort('SIGTERM'),
    lines,
    sessions,
    ready: () => ready,
    onJoin: (work: typeof answer) => {
      answer = work
    },
    onRun: (work: typeof program) => {
      program = work
    },
    pass: async (ms: number) => {
      await turns()
      clock.advance(ms)
      await turns()
    },
  }
}

test('a program that ends is started again in the same session, after a second, then two, up to a minute', async (t) => {
  const one = daemon(t)
  const starts: number[] = []
  one.onRun(async () => starts.push(0))
  for (const s of [0, 1, 2, 4, 8, 16, 32, 60]) {
    await one.pass(s * 1000 - (s === 0 ? 0 : 1))
    const before = starts.length
    if (s > 0) await one.pass(1)
    assert.equal(starts.length, before + (s === 0 ? 0 : 1), `after ${s} s`)
  }
  assert.equal(one.sessions.length, 1)
  assert.equal(one.ready(), 1)
  one.stop()
  assert.equal(await one.ended, 0)
  assert.ok(one.sessions[0]!.closed, 'its session ends with it')
})

test('a server that is away is waited for, and told once', async (t) => {
  let tries = 0
  const one = daemon(t, {
    first: () => {
      tries++
      throw away()
    },
  })
  for (const s of [1, 2, 4]) await one.pass(s * 1000)
  assert.equal(tries, 4)
  assert.equal(one.lines.length, 1)
  one.onJoin(() => {})
  one.onRun(() => new Promise(() => {}))
  await one.pass(60_000)
  assert.equal(one.ready(), 1)
})

test('rule 4: an agent that is locked or disabled stays so, whatever it could prove; a session that is over is followed by another', async (t) => {
  for (const [code, exit] of [
    ['locked', 3],
    ['identity_disabled', 4],
  ] as const) {
    const one = daemon(t)
    one.onRun(async () => {
      one.sessions[0]!.end(code)
      return 143
    })
    assert.equal(await one.ended, exit)
    assert.equal(one.sessions.length, 1)
  }
  const two = daemon(t)
  two.onRun(async () => {
    two.sessions.at(-1)!.end('session_ended')
    return 143
  })
  await two.pass(1000)
  assert.equal(two.sessions.length, 2)
  assert.ok(two.sessions[0]!.closed)
  two.onJoin(() => {
    throw new ChaperoneError('join_refused', 'Not any more.')
  })
  const refused = assert.rejects(two.ended, { code: 'join_refused' })
  await two.pass(60_000)
  await refused
})

test('what cannot join again ends with its session, and says what it needs', async (t) => {
  const one = daemon(t, { joinsAgain: false })
  one.onRun(async () => {
    one.sessions[0]!.end('credential_expired')
    return 143
  })
  assert.equal(await one.ended, 4)
  assert.match(one.lines.at(-1)!, /--method/)
})

test('a start that fails because the server is away is tried again in the same session; one that fails otherwise is told', async (t) => {
  const one = daemon(t)
  let starts = 0
  one.onRun(async () => {
    starts++
    throw away()
  })
  await one.pass(1000)
  assert.equal(starts, 2)
  assert.equal(one.sessions.length, 1)
  one.onRun(async () => {
    throw new ChaperoneError('isolation_unavailable', 'No.')
  })
  const failed = assert.rejects(one.ended, { code: 'isolation_unavailable' })
  await one.pass(60_000)
  await failed
  assert.ok(one.sessions[0]!.closed)
})
