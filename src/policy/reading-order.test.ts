import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { inReadingOrder } from './reading-order.ts'

test('a rule begins with what it is about', () => {
  const stored = {
    ask: [{ approvers: 'owner', databases: ['shop'], as: 'app', postgres: 'prod' }],
    allow: [{ args: {}, mcp: 'files', tools: 'any' }],
  }
  assert.equal(
    JSON.stringify(inReadingOrder(stored)),
    '{"allow":[{"mcp":"files","tools":"any","args":{}}],"ask":[{"postgres":"prod","databases":["shop"],"as":"app","approvers":"owner"}]}',
  )
})

test('it is the same value, and reads the same whatever order it was written in', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const read = inReadingOrder(value)
      assert.equal(canonicalJson(read), canonicalJson(value))
      assert.equal(JSON.stringify(inReadingOrder(JSON.parse(canonicalJson(value)))), JSON.stringify(read))
    }),
  )
})
