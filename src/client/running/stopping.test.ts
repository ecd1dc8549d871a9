import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock } from '../../clock.ts'
import type { Keeper } from '../credential.ts'
import { unlessStopped } from './stopping.ts'

function rig() {
  const clock = manualClock(0)
  const stop = new AbortController()
  const come = Promise.withResolvers<Keeper>()
  const seen = { left: 0, closed: 0 }
  const keeper: Keeper = {
    current: () => assert.fail('not asked for'),
    onRenew: () => {},
    signal: new AbortController().signal,
    close: async () => void seen.closed++,
  }
  const begun = unlessStopped(() => come.promise, { stop: stop.signal, left: () => void seen.left++, clock })
  return { clock, stop, come, seen, keeper, begun }
}

test('what comes before the stop is as it would be without', async () => {
  const { come, keeper, begun, stop, seen } = rig()
  come.resolve(keeper)
  assert.equal(await begun, keeper)
  stop.abort('SIGTERM')
  assert.deepEqual(seen, { left: 0, closed: 0 })
})

test('told to stop while it joins, it waits a second and no more; what comes in that time, or later, is ended', async () => {
  const one = rig()
  one.stop.abort('SIGTERM')
  one.come.resolve(one.keeper)
  await assert.rejects(one.begun, { code: 'session_ended' })
  assert.deepEqual(one.seen, { left: 0, closed: 1 })

  const two = rig()
  two.stop.abort('SIGTERM')
  const refused = assert.rejects(two.begun, { code: 'session_ended' })
  two.clock.advance(1_000)
  await refused
  assert.deepEqual(two.seen, { left: 1, closed: 0 })
  two.come.resolve(two.keeper)
  await new Promise((done) => setImmediate(done))
  assert.deepEqual(two.seen, { left: 1, closed: 1 })
})
