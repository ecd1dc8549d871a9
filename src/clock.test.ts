import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Clock, manualClock, steadyClock } from './clock.ts'

/** A machine's time, which somebody sets, and its monotonic clock, which nobody can. */
function machine() {
  const time = { wall: 1_000_000, monotonic: 5 }
  const waiting = new Set<{ readonly at: number; readonly wake: () => void }>()
  const clock: Clock = {
    now: () => time.wall,
    monotonic: () => time.monotonic,
    at(at, wake) {
      const entry = { at, wake }
      waiting.add(entry)
      return () => waiting.delete(entry)
    },
  }
  const ring = () => {
    for (const entry of [...waiting]) {
      waiting.delete(entry)
      entry.wake()
    }
  }
  return { time, clock, ring }
}

test('rule 4: a clock that is set back goes on; one that is set forward, or slept, is followed', () => {
  const { time, clock } = machine()
  const steady = steadyClock(clock)
  assert.equal(steady.now(), 1_000_000)
  Object.assign(time, { wall: 400_000, monotonic: 1_005.5 })
  assert.equal(steady.now(), 1_001_000, 'a second has passed, whatever the machine says')
  Object.assign(time, { wall: 401_000, monotonic: 2_005.5 })
  assert.equal(steady.now(), 1_002_000)
  Object.assign(time, { wall: 5_000_000, monotonic: 2_006 })
  assert.equal(steady.now(), 5_000_000)
  assert.equal(steady.now(), 5_000_000)
})

test('rule 4: a deadline is met although the clock was set back, and not before it', () => {
  const { time, clock, ring } = machine()
  let woken = 0
  steadyClock(clock).at(1_060_000, () => woken++)
  Object.assign(time, { wall: 0, monotonic: 59_005 })
  ring()
  assert.equal(woken, 0)
  Object.assign(time, { wall: 1_000, monotonic: 60_005 })
  ring()
  assert.equal(woken, 1)
})

test('over a clock of tests it is that clock', () => {
  const clock = manualClock(0)
  const steady = steadyClock(clock)
  let woken = false
  steady.at(60_000, () => {
    woken = true
  })
  clock.advance(59_999)
  assert.equal(woken, false)
  clock.advance(1)
  assert.equal(woken, true)
})
