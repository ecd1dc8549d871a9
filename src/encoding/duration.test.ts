import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatDuration, parseDuration } from './duration.ts'

test('durations are read in milliseconds', () => {
  const samples: [string, number][] = [
    ['30s', 30_000],
    ['3m', 180_000],
    ['12h', 43_200_000],
    ['7d', 604_800_000],
    ['1h30m', 5_400_000],
    ['1d2h3m4s', 93_784_000],
    ['90m', 5_400_000],
    ['0h5s', 5000],
  ]
  for (const [text, ms] of samples) assert.equal(parseDuration(text), ms, text)
})

test('what is no duration is refused', () => {
  for (const text of ['', '0s', '5', 's', '1.5h', '-3m', '3 m', '30m1h', '1h1h', '3M', '1w', '5ms', '3651d', '9999999999d', '1h\n', '٣m']) {
    assert.throws(() => parseDuration(text), { code: 'invalid_document' }, JSON.stringify(text))
  }
})

test('a duration is written as it can be read', () => {
  assert.equal(formatDuration(5_400_000), '1h30m')
  assert.equal(formatDuration(0), '0s')
  assert.equal(formatDuration(-5), '0s')
  assert.equal(formatDuration(250), '250ms')
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300_000_000 }), (seconds) => assert.equal(parseDuration(formatDuration(seconds * 1000)), seconds * 1000)),
  )
})
