import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Clock, manualClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Held, Keeper } from '../credential.ts'
import type { Profile } from '../profile.ts'
import { keepSuccessive } from './successive.ts'

const MINUTE = 60_000

/** Sessions of an hour, made one after the other. */
function sessions(clock: Clock) {
  const made: { session: string; end: (code: 'locked' | 'credential_expired') => void; closed: boolean }[] = []
  const state = { fail: false }
  const begin = async (): Promise<Keeper> => {
    if (state.fail) throw new ChaperoneError('upstream_unavailable', 'away')
    const over = new AbortController()
    const session = `ses_${made.length}`
    const profile = { session, sessionUntil: clock.now() + 60 * MINUTE } as Profile
    const one = { session, closed: false, end: (code: 'locked' | 'credential_expired') => over.abort(new ChaperoneError(code, code)) }
    made.push(one)
    return {
      current: () => ({ profile }) as Held,
      onRenew: () => {},
      signal: over.signal,
      close: async () => {
        one.closed = true
      },
    }
  }
  return { made, begin, state }
}
const settled = () => new Promise((done) => setImmediate(done))

test('before a session reaches its longest life the next is begun, and what went on under the one before goes on to its end', async () => {
  const clock = manualClock(0)
  const { made, begin } = sessions(clock)
  const keeper = await keepSuccessive(begin, { clock })
  const seen: string[] = []
  keeper.onRenew((held) => seen.push(held.profile.session))
  clock.advance(55 * MINUTE - 1)
  await settled()
  assert.equal(made.length, 1)
  clock.advance(1)
  await settled()
  assert.deepEqual([keeper.current().profile.session, seen, made[0]!.closed], ['ses_1', ['ses_1'], false])
  made[0]!.end('credential_expired')
  assert.ok(!keeper.signal.aborted)
  await keeper.close()
  assert.ok(made[1]!.closed)
})

test('rule 4: a lock on the session that is in use is the end, and nothing is begun anew', async () => {
  const clock = manualClock(0)
  const { made, begin } = sessions(clock)
  const keeper = await keepSuccessive(begin, { clock })
  made[0]!.end('locked')
  assert.equal((keeper.signal.reason as ChaperoneError).code, 'locked')
  clock.advance(120 * MINUTE)
  await settled()
  assert.equal(made.length, 1)
})

test('while the server is away it is tried again, until the session in use has ended', async () => {
  const clock = manualClock(0)
  const { made, begin, state } = sessions(clock)
  let troubles = 0
  const keeper = await keepSuccessive(begin, { clock, onTrouble: () => troubles++ })
  state.fail = true
  for (let i = 0; i < 3; i++) {
    clock.advance(i === 0 ? 55 * MINUTE : 5_000)
    await settled()
  }
  assert.equal(troubles, 3)
  state.fail = false
  clock.advance(5_000)
  await settled()
  assert.equal(keeper.current().profile.session, 'ses_1')
  assert.equal(made.length, 2)
})
