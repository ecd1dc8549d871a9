import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { definitionDiff, readable } from './pin-text.ts'

test('a definition reads field by field, and what hides in it is shown', () => {
  const tool = {
    name: 'send',
    description: 'Sends it.\n  At once.  \n\u{202e}oN',
    inputSchema: { type: 'object', properties: { to: { type: 'string', enum: ['a', 'b'] }, 'x y': {} }, required: [] },
    annotations: { readOnlyHint: false, n: 1 },
    '\u{200b}': null,
  }
  assert.equal(
    readable(canonicalJson(tool)),
    [
      'annotations:',
      '  n: 1',
      '  readOnlyHint: false',
      'description: |',
      '  Sends it.',
      '    At once.\\u{20}\\u{20}',
      '  \\u{202e}oN',
      'inputSchema:',
      '  properties:',
      '    to:',
      '      enum:',
      '        - "a"',
      '        - "b"',
      '      type: "string"',
      '    "x y": {}',
      '  required: []',
      '  type: "object"',
      'name: "send"',
      '"\\u{200b}": null',
      '',
    ].join('\n'),
  )
  assert.equal(readable('"Be kind."'), 'Be kind.\n')
  assert.equal(readable(''), 'too long to be shown\n')
})

test('in a long text only the part that changed is shown', () => {
  const words = Array.from({ length: 200 }, (_, i) => `word${i}`)
  const of = (list: string[]) => canonicalJson({ name: 'a', description: list.join(' ') })
  const diff = definitionDiff(of(words), of(words.with(100, 'evil')))
  assert.match(diff, /^\+.*evil/m)
  assert.ok(!diff.includes('word5 '), diff)
})

test('two definitions that differ are never shown as the same', () => {
  const text = fc.string({ unit: fc.constantFrom('a', ' ', '\n', '\t', '\u{200b}', '\\', '{', '…', '"'), maxLength: 150 })
  const value = fc.record({
    name: text,
    description: text,
    n: fc.oneof(fc.integer(), text, fc.boolean(), fc.constant(null), fc.array(text, { maxLength: 2 })),
  })
  fc.assert(
    fc.property(value, value, (a, b) => {
      const [before, after] = [canonicalJson(a), canonicalJson(b)]
      assert.equal(definitionDiff(before, after) === '', before === after)
    }),
    { numRuns: 500 },
  )
  const raw = (n: string) => `{"name":"a","max":${n}}`
  assert.match(definitionDiff(raw('9007199254740993'), raw('9007199254740992')), /^\+.*992/m)
})

test('rule 11: a definition that is deeply nested is not shown with more indentation than text', () => {
  let deep: unknown = Array.from({ length: 40_000 }, () => 1)
  for (let i = 0; i < 200; i++) deep = [deep]
  const text = JSON.stringify(deep)
  assert.ok(readable(text).length < 4 * text.length)
  assert.match(definitionDiff(text, text.replace('1', '2')), /^\+.*2/m, 'and what changed in it is seen')
})
