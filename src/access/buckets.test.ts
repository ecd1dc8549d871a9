import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { manualClock } from '../clock.ts'
import { makeBuckets } from './buckets.ts'

const perMinute = { most: 60, window: 60_000 }

test('as many at once as written and not one more, then one whenever its share of the time has passed (peers R28)', () => {
  const clock = manualClock(0)
  const buckets = makeBuckets(clock)
  for (let i = 0; i < 60; i++) {
    assert.equal(buckets.wait('boris', 'k', perMinute), 0, `the ${i + 1}th`)
    buckets.take('boris', 'k', perMinute)
  }
  assert.equal(buckets.wait('boris', 'k', perMinute), 1000)
  clock.advance(999)
  assert.equal(buckets.wait('boris', 'k', perMinute), 1)
  clock.advance(1)
  assert.equal(buckets.wait('boris', 'k', perMinute), 0)
  buckets.take('boris', 'k', perMinute)
  assert.equal(buckets.wait('boris', 'k', perMinute), 1000)
  assert.equal(buckets.wait('boris', 'other', perMinute), 0, 'another count')
  assert.equal(buckets.wait('dana', 'k', perMinute), 0, 'another owner')
})

test('rule 4: a clock that jumps back gives nothing, neither at once nor when it comes by again', () => {
  let now = 1_000_000
  const buckets = makeBuckets({ now: () => now, at: () => () => {} })
  for (let i = 0; i < 60; i++) buckets.take('boris', 'k', perMinute)
  now -= 600_000
  assert.equal(buckets.wait('boris', 'k', perMinute), 1000)
  now += 600_000
  assert.equal(buckets.wait('boris', 'k', perMinute), 1000)
  now += 1000
  assert.equal(buckets.wait('boris', 'k', perMinute), 0)
})

test('rule 4: the wall clock can be set as one likes: what counts is the one that nobody can set', () => {
  const clock = { now: () => wall, monotonic: () => 5.7, at: () => () => {} }
  let wall = 0
  const buckets = makeBuckets(clock)
  for (let i = 0; i < 60; i++) buckets.take('boris', 'k', perMinute)
  wall += 86_400_000
  assert.equal(buckets.wait('boris', 'k', perMinute), 1000)
})

test('what is given back can be taken again, and a bucket never holds more than it may', () => {
  const buckets = makeBuckets(manualClock(0))
  const two = { most: 2, window: 1000 }
  buckets.take('boris', 'k', two)
  buckets.take('boris', 'k', two)
  buckets.giveBack('boris', 'k', two)
  assert.equal(buckets.wait('boris', 'k', two), 0)
  buckets.take('boris', 'k', two)
  assert.equal(buckets.wait('boris', 'k', two), 500)
  for (let i = 0; i < 10; i++) buckets.giveBack('boris', 'k', two)
  buckets.take('boris', 'k', two)
  buckets.take('boris', 'k', two)
  assert.equal(buckets.wait('boris', 'k', two), 500)
})

test('a limit that was lowered counts what was used before', () => {
  const buckets = makeBuckets(manualClock(0))
  for (let i = 0; i < 30; i++) buckets.take('boris', 'k', perMinute)
  assert.equal(buckets.wait('boris', 'k', { most: 30, window: 60_000 }), 2000)
})

test('rule 11: a client that invents names is slowed down by itself, and memory comes back', () => {
  const clock = manualClock(0)
  const buckets = makeBuckets(clock)
  let taken = 0
  for (let i = 0; i < 10_000; i++) {
    if (buckets.wait('noisy', `tool ${i}`, perMinute) > 0) continue
    buckets.take('noisy', `tool ${i}`, perMinute)
    taken++
  }
  assert.equal(taken, 4096)
  assert.equal(buckets.size, 4096)
  assert.equal(buckets.wait('dana', 'tool 1', perMinute), 0, 'nobody else is refused for it')
  clock.advance(1000)
  assert.equal(buckets.wait('noisy', 'one more', perMinute), 0, 'what is full again is forgotten')
  assert.equal(buckets.size, 0)
  for (let i = 0; i < 50_000; i++) {
    clock.advance(1)
    buckets.take(`identity ${i}`, 'k', perMinute)
  }
  assert.ok(buckets.size <= 2 * 4096, `${buckets.size} of 50,000 identities that came by are kept`)
})

test('rule 11: however calls and time come, no window of any place sees more than twice the number, and a patient client is never refused', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 50 }),
      fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 200 }),
      (most, window, steps) => {
        const clock = manualClock(0)
        const buckets = makeBuckets(clock)
        const rate = { most, window }
        const times: number[] = []
        for (const step of steps) {
          clock.advance(step)
          const wait = buckets.wait('o', 'k', rate)
          if (wait > 0) {
            assert.ok(wait <= Math.ceil(window / most), 'one is free at the latest when its share has passed')
            continue
          }
          buckets.take('o', 'k', rate)
          times.push(clock.now())
        }
        for (const from of times) assert.ok(times.filter((at) => at >= from && at < from + window).length <= 2 * most)
        clock.advance(Math.ceil(window / most))
        assert.equal(buckets.wait('o', 'k', rate), 0)
      },
    ),
  )
})
