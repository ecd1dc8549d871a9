import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { boundForm, readableForm } from './written.ts'

const bound = (text: string) => boundForm(text, { start: 0, end: text.length })
const readable = (text: string) => readableForm(text, { start: 0, end: text.length })

test('rule 12: spaces, escapes and the order of keys make no other call', () => {
  assert.equal(bound('{ "b" : [1, "\\u0061\\n"], "a": {} }'), bound('{"a":{},"b":[1,"a\\n"]}'))
})

test('rule 12: two numbers that a double takes for one are two calls', () => {
  for (const [one, other] of [
    ['9007199254740993', '9007199254740992'],
    ['1', '1.0'],
    ['1e2', '100'],
    ['-0', '0'],
    ['0.1', '0.10000000000000001'],
  ])
    assert.notEqual(bound(`{"n":${one}}`), bound(`{"n":${other}}`))
})

test('rule 12: a character that shows nothing, or turns what follows, is read as its escape', () => {
  assert.equal(readable('{"to":"bob\u202e\u200bmoc"}'), '{\n  "to": "bob\\u202e\\u200bmoc"\n}')
  assert.equal(readable('"\\u2028 \u00a0 \ufeff \u3164"'), '"\\u2028 \\u00a0 \\ufeff \\u3164"')
  assert.equal(readable('"\u{e0041}"'), '"\\udb40\\udc41"')
})

test('what is read is the very value, and its bound form is one for each value', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (one, other) => {
      const [a, b] = [JSON.stringify(one), JSON.stringify(other)]
      assert.deepEqual(JSON.parse(readable(a)), JSON.parse(a))
      assert.deepEqual(JSON.parse(bound(a)), JSON.parse(a))
      assert.equal(bound(JSON.stringify(one, null, 3)), bound(a))
      try {
        assert.deepStrictEqual(JSON.parse(a), JSON.parse(b))
      } catch {
        assert.notEqual(bound(a), bound(b))
      }
    }),
  )
})
