import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RECORD_TYPES } from './record.ts'
import { auditReference } from './reference.ts'

test('The reference names every type and every field.', () => {
  const text = auditReference()
  for (const type of Object.keys(RECORD_TYPES)) assert.ok(text.includes(`| \`${type}\` |`), type)
  for (const field of ['v', 'seq', 'chain', 'decision', 'permit', 'bodies']) assert.ok(text.includes(`| \`${field}\` |`), field)
})
