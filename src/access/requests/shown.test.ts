import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMasker } from '../../audit/mask.ts'
import { MOST_SHOWN_BYTES, storedOf } from './shown.ts'

test('rule 5: what an approver is shown holds no secret that Chaperone knows', () => {
  const masker = createMasker()
  masker.add(['correct horse battery'])
  const [shown] = storedOf([{ title: 'Arguments', text: '{"password":"correct horse battery"}', form: 'json' }], masker)
  assert.doesNotMatch(shown!.text, /horse/)
})

test('rule 11: all that is shown is bounded together, cut between letters, and says how long it was', () => {
  const masker = createMasker()
  const long = `x${'ä€😀'.repeat(10_000)}`
  const stored = storedOf(
    [
      { title: 'a', text: long, form: 'text' },
      { title: 'b', text: 'short', form: 'text' },
      { title: 'c', text: '', form: 'text' },
    ],
    masker,
  )
  assert.ok(stored.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0) <= MOST_SHOWN_BYTES)
  assert.ok(long.startsWith(stored[0]!.text) && stored[0]!.text.isWellFormed())
  assert.equal(stored[0]!.cut?.size, Buffer.byteLength(long))
  assert.equal(stored[2]!.cut, undefined)
})
