import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readJson, removeMember, setMember } from './json-edit.ts'

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

test('a server is removed with its line and its comma, and everything else keeps every byte', () => {
  const text = '{\n  // mine\n  "s": {\n    "a": 1, // one\n    "b": 2,\n    "c": 3\n  }\n}\n'
  assert.equal(removeMember(text, ['s', 'b']), '{\n  // mine\n  "s": {\n    "a": 1, // one\n    "c": 3\n  }\n}\n')
  assert.equal(removeMember(text, ['s', 'c']), '{\n  // mine\n  "s": {\n    "a": 1, // one\n    "b": 2\n  }\n}\n')
  assert.equal(removeMember('{"a":1,"b":2}', ['a']), '{"b":2}')
  assert.equal(removeMember(text, ['s', 'x']), text)
  assert.equal(removeMember(text, ['x', 'y']), text)
})

test('for any JSON object, what is set is read and removed again, and the rest says the same', () => {
  const key = fc.string().filter((one) => one !== '__proto__')
  fc.assert(
    fc.property(fc.dictionary(key, fc.jsonValue()), key, fc.jsonValue(), fc.constantFrom(undefined, 2, '\t'), (object, name, value, indent) => {
      const text = JSON.stringify(object, null, indent)
      assert.deepEqual(readJson(text), JSON.parse(text))
      const { [name]: _, ...rest } = object
      assert.deepEqual(readJson(removeMember(text, [name])), JSON.parse(JSON.stringify(rest)))
      assert.deepEqual(readJson(removeMember(setMember(text, [name], value), [name])), JSON.parse(JSON.stringify(rest)))
    }),
  )
})
