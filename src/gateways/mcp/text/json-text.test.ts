import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../../../errors.ts'
import { edited, itemsOf, membersOf, onOneLine, spanAt } from './json-text.ts'

const spaced = fc
  .tuple(fc.json({ maxDepth: 4 }), fc.constantFrom(undefined, 1, '\t'))
  .map(([text, space]) => JSON.stringify(JSON.parse(text), null, space))

test('every member and item is found where it stands', () => {
  fc.assert(
    fc.property(spaced, (text) => {
      const value: unknown = JSON.parse(text)
      if (Array.isArray(value))
        assert.deepEqual(
          itemsOf(text).map(({ start, end }) => JSON.parse(text.slice(start, end))),
          value,
        )
      else if (typeof value === 'object' && value !== null) {
        const members = [...membersOf(text)].map(([key, { start, end }]) => [key, JSON.parse(text.slice(start, end))])
        assert.deepEqual(Object.fromEntries(members), value)
      }
    }),
  )
})

test('rule 10: an edit changes what it names and nothing else', () => {
  fc.assert(
    fc.property(spaced, fc.json({ maxDepth: 1 }), (rest, replacement) => {
      const text = `{ "a": {"id" : 1.0, "rest":${rest}},\n"b":12345678901234567890 }`
      const span = spanAt(text, ['a', 'id'])!
      const out = edited(text, [{ ...span, text: replacement }])
      assert.equal(
        out,
        text.replace('1.0', () => replacement),
      )
    }),
  )
})

test('a text on one line is the same value', () => {
  fc.assert(fc.property(spaced, (text) => assert.deepEqual(JSON.parse(onOneLine(text)), JSON.parse(text))))
})

test('a duplicate key is seen however it is written', () => {
  assert.throws(
    () => membersOf('{"id":1,"\\u0069d":2}'),
    (error: unknown) => error instanceof ChaperoneError && error.code === 'ambiguous',
  )
})

test('broken text never hangs and never finds what is not there', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', 'a', '1', ' ') }), (text) => {
      try {
        membersOf(text)
      } catch (error) {
        assert.ok(error instanceof ChaperoneError)
      }
    }),
  )
})
