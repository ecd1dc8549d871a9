import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Outcome, Permit } from '../../../access/types.ts'
import { manualClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { MCP_LIMITS } from '../limits.ts'
import type { Upstream } from '../types.ts'
import { StandingStream } from './standing-stream.ts'

/** A server whose stream ends only with its permit, as the raw ways to a server do; `ends` is what was recorded of it. */
function stage() {
  const ends: (Outcome | ChaperoneError)[] = []
  const permit = new AbortController()
  const logs: unknown[] = []
  const inner = {
    stream: (given: Permit) => new Promise<Outcome>((_, reject) => given.signal.addEventListener('abort', () => reject(given.signal.reason))),
  } as unknown as Upstream
  const stream = new StandingStream({
    inner,
    async errand(_, send) {
      try {
        const outcome = await send({ signal: permit.signal } as unknown as Permit)
        ends.push(outcome)
        return outcome
      } catch (error) {
        ends.push(error as ChaperoneError)
        throw error
      }
    },
    clock: manualClock(1_000_000),
    limits: MCP_LIMITS,
    headers: () => ({}),
    told() {},
    answered() {},
    log: (error) => void logs.push(error),
  })
  return { stream, ends, permit, logs }
}

test('a stream that nobody needs any more has ended in order, and the record says why', async () => {
  const { stream, ends, logs } = stage()
  const open = stream.need()
  stream.end(new ChaperoneError('session_ended', 'The session made room for another.'))
  await open
  assert.deepEqual(ends, [{ status: 'ok', facts: { ended: 'session_ended' } }])
  assert.deepEqual(logs, [])
})

test('rule 6: one that a lock has cut has not', async () => {
  const { stream, ends, permit } = stage()
  const open = stream.need()
  const locked = new ChaperoneError('locked', 'A lock stops this.')
  permit.abort(locked)
  await open
  assert.deepEqual(ends, [locked])
  stream.end(locked)
})
