import assert from 'node:assert/strict'
import { test } from 'node:test'
import { shareOf } from './share.ts'

const HOUR = 3_600_000
const profile = { limits: { effects: ['read' as const], where: undefined }, for: '2h', session: 'bound' as const }

test('without a profile it is everything for eight hours, or for as long as was asked; never more than is left', () => {
  assert.deepEqual(shareOf(undefined, { limits: {}, mostMs: 24 * HOUR }), { limits: {}, forMs: 8 * HOUR, lifeMs: 8 * HOUR, bound: false })
  assert.equal(shareOf(undefined, { limits: {}, askedMs: 12 * HOUR, mostMs: 24 * HOUR }).forMs, 12 * HOUR)
  assert.equal(shareOf(undefined, { limits: {}, askedMs: 12 * HOUR, mostMs: HOUR }).forMs, HOUR)
})

test('rule 7: beside a profile what is asked for only narrows: limits and time', () => {
  assert.deepEqual(shareOf(profile, { limits: { effects: ['read', 'write'] }, askedMs: 12 * HOUR, mostMs: 24 * HOUR }), {
    limits: { effects: ['read'] },
    forMs: 2 * HOUR,
    lifeMs: 2 * HOUR,
    bound: true,
  })
  assert.equal(shareOf(profile, { limits: {}, askedMs: HOUR, mostMs: 24 * HOUR }).forMs, HOUR)
  assert.deepEqual(shareOf(profile, { limits: { effects: ['write'] }, mostMs: HOUR }).limits, { effects: [] })
})

test('a pattern that means nothing is told to who wrote it', () => {
  for (const limits of [{ resources: ['files'] }, { tools: ['read'] }, { where: 'args.' }])
    assert.throws(() => shareOf(undefined, { limits, mostMs: HOUR }), { code: 'invalid_document' }, JSON.stringify(limits))
})
