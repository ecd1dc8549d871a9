import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock } from '../clock.ts'
import { makeThrottle } from './throttle.ts'

const allowed = (throttle: (address: string) => void, address: string, tries: number) => {
  let passed = 0
  for (let i = 0; i < tries; i++) {
    try {
      throttle(address)
      passed++
    } catch {}
  }
  return passed
}

test('rule 11: one address has its own allowance, refilled by time, and does not stop another', () => {
  const clock = manualClock(1_000_000)
  const throttle = makeThrottle(clock)
  assert.equal(allowed(throttle, '192.0.2.1', 100), 60)
  assert.throws(() => throttle('192.0.2.1'), { code: 'too_many' })
  assert.equal(allowed(throttle, '192.0.2.2', 1), 1)
  clock.advance(10_000)
  assert.equal(allowed(throttle, '192.0.2.1', 100), 9)
})

test('all addresses of an IPv6 subscriber count as one; a mapped IPv4 address is that address', () => {
  const throttle = makeThrottle(manualClock(0))
  allowed(throttle, '2001:db8:1:2::1', 60)
  assert.throws(() => throttle('2001:db8:1:2:ffff:0:0:9'), { code: 'too_many' })
  throttle('2001:db8:1:3::1')
  allowed(throttle, '192.0.2.7', 60)
  assert.throws(() => throttle('::ffff:192.0.2.7'), { code: 'too_many' })
})

test('a clock that is set back refills nothing', () => {
  let now = 1_000_000
  const throttle = makeThrottle({ now: () => now, at: () => () => {} })
  allowed(throttle, '192.0.2.1', 60)
  now = 0
  assert.throws(() => throttle('192.0.2.1'), { code: 'too_many' })
})

test('rule 11: what is asked for at one door takes nothing from another, and all of them have one bounded table', () => {
  const throttle = makeThrottle(manualClock(0))
  assert.equal(
    allowed((address) => throttle(address, '/v1/device'), '192.0.2.1', 100),
    60,
  )
  assert.equal(
    allowed((address) => throttle(address, '/v1/join'), '192.0.2.1', 100),
    60,
  )
  // 10,000 further buckets, whatever door they are of, and the first is forgotten.
  for (let i = 0; i < 10_000; i++) throttle(`192.0.2.${i}`, i % 2 === 0 ? '/v1/join' : 'scim')
  throttle('192.0.2.1', '/v1/device')
})
