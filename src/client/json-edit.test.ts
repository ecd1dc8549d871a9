import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { setMember } from './json-edit.ts'

test('an entry is added and everything else keeps every byte: comments, trailing commas, long numbers', () => {
  const before = '// mine\n{\n    "big": 12345678901234567890, /* keep */\n    "mcpServers": {\n        "old": { "command": "x", },\n    },\n}\n'
  const after = setMember(before, ['mcpServers', 'new'], { command: 'y' })
  assert.equal(
    after,
    '// mine\n{\n    "big": 12345678901234567890, /* keep */\n    "mcpServers": {\n        "new": {\n            "command": "y"\n        },\n        "old": { "command": "x", },\n    },\n}\n',
  )
})

test('an entry that is there is replaced, and doing it again changes nothing', () => {
  const once = setMember('{"a":1,"s":{"x":[1,2],"y":2}}', ['s', 'x'], { command: 'z' })
  assert.deepEqual(JSON.parse(once), { a: 1, s: { x: { command: 'z' }, y: 2 } })
  assert.equal(setMember(once, ['s', 'x'], { command: 'z' }), once)
})

test('an empty file, an empty object and a missing parent are filled in', () => {
  assert.deepEqual(JSON.parse(setMember('', ['s', 'x'], 1)), { s: { x: 1 } })
  assert.deepEqual(JSON.parse(setMember('{}', ['s', 'x'], 1)), { s: { x: 1 } })
  assert.deepEqual(JSON.parse(setMember('{"a":{}}', ['s', 'x'], 1)), { a: {}, s: { x: 1 } })
  assert.match(setMember('{ // why\n}', ['s'], 1), /"s": 1 \/\/ why\n\}$/)
})

test('a file that is no JSON object is left alone, and the place of the fault is named', () => {
  assert.throws(() => setMember('{\n  "a": oops\n}', ['s'], 1), /line 2, column 8/)
  assert.throws(() => setMember('[1]', ['s'], 1), { code: 'invalid_document' })
  assert.throws(() => setMember('{"s": 3}', ['s', 'x'], 1), { code: 'invalid_document' })
  assert.throws(() => setMember('['.repeat(100_000), ['s'], 1), { code: 'invalid_document' })
})

test('for any JSON object the result says the same, plus the entry', () => {
  const object = fc.dictionary(
    fc.string().filter((key) => key !== '__proto__'),
    fc.jsonValue(),
  )
  fc.assert(
    fc.property(
      object,
      fc.string({ minLength: 1 }).filter((key) => key !== '__proto__'),
      fc.constantFrom(undefined, 2, '\t'),
      (value, key, indent) => {
        const servers = typeof value.servers === 'object' && value.servers !== null && !Array.isArray(value.servers) ? value.servers : {}
        const whole = { ...value, servers }
        const after = JSON.parse(setMember(JSON.stringify(whole, null, indent), ['servers', key], { command: 'c' }))
        assert.deepEqual(after, JSON.parse(JSON.stringify({ ...whole, servers: { ...servers, [key]: { command: 'c' } } })))
      },
    ),
  )
})
