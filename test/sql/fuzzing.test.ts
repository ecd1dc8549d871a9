import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CORPUS } from './corpus.ts'
import { fuzz } from './fuzzing.ts'

/** A small, fixed part of what `npm run fuzz:sql -- --seconds N` does for hours. */
test('nothing that passes as a read changes anything, with the statement check alone and with both fences', { timeout: 120_000 }, async () => {
  const { statements, passed_as_read, ran, violations } = await fuzz({ seconds: 15, statements: 4000, seed: 20261122, corpus: CORPUS })
  assert.deepEqual(violations, [])
  // An oracle to which nothing comes finds nothing.
  assert.ok(passed_as_read > statements * 0.05 && ran > 20, `${statements} statements, ${passed_as_read} passed, ${ran} ran`)
})
