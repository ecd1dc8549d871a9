import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { instantText, momentText } from './moment.ts'

test('people and programs are told one moment in UTC, to the second', () => {
  const at = Date.UTC(2026, 10, 22, 13, 0, 5, 678)
  assert.equal(momentText(at), '2026-11-22 13:00:05Z')
  assert.equal(instantText(at), '2026-11-22T13:00:05Z')
})

test('both forms are read back as the second that they were made of', () => {
  const times = fc.integer({ min: 0, max: Date.UTC(9999, 11, 31) })
  fc.assert(
    fc.property(times, (at) => {
      const second = at - (at % 1000)
      return Date.parse(momentText(at)) === second && Date.parse(instantText(at)) === second
    }),
  )
})
