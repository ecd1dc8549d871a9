import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Change, next, REQUEST_STATES } from './machine.ts'
import type { RequestState } from './types.ts'

const CHANGES: readonly Change[] = ['approve', 'deny', 'expire', 'withdraw', 'use', 'lose', 'revoke']

test('rule 12: only a yes to what waits approves, only what is approved is used, and what is over stays over', () => {
  const into = (wanted: RequestState) =>
    REQUEST_STATES.flatMap((state) => CHANGES.filter((change) => next(state, change) === wanted).map((change) => `${state} ${change}`))
  assert.deepEqual(into('approved'), ['pending approve'])
  assert.deepEqual(into('used'), ['approved use'])
  assert.deepEqual(into('pending'), [])
  for (const over of ['denied', 'expired', 'withdrawn', 'revoked', 'unknown'] as const)
    for (const change of CHANGES) assert.equal(next(over, change), undefined, `${over} ${change}`)
  assert.deepEqual(
    CHANGES.filter((change) => next('used', change)),
    ['lose'],
  )
})
