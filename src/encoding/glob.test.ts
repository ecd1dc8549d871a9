import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compileGlob, isGlob } from './glob.ts'
import { spentMs } from './spent.fixture.ts'

const matches = (pattern: string, text: string) => compileGlob(pattern)(text)

test('globs: star is any run, question mark one character, all else itself', () => {
  for (const [pattern, text] of [
    ['read_*', 'read_'],
    ['read_*', 'read_a/b'],
    ['*', ''],
    ['*a*', 'bab'],
    ['a*b*c', 'a-b-b-c'],
    ['?', 'x'],
    ['?', '😀'],
    ['a?c*', 'abc'],
    ['*.?', 'x.y'],
    ['public.*', 'public.t'],
    ['a.c', 'a.c'],
    ['C:\\*', 'C:\\x'],
  ] as const) {
    assert.equal(matches(pattern, text), true, `${pattern} ${text}`)
  }
  for (const [pattern, text] of [
    ['read_*', 'Read_x'],
    ['read', 'reads'],
    ['?', ''],
    ['?', 'ab'],
    ['a*b*c', 'a-c-b'],
    ['*a', 'ab'],
    ['a.c', 'abc'],
    ['a*', 'ba'],
    ['*?', ''],
  ] as const) {
    assert.equal(matches(pattern, text), false, `${pattern} ${text}`)
  }
  assert.equal(isGlob('a*'), true)
  assert.equal(isGlob('a?'), true)
  assert.equal(isGlob('a.b'), false)
})

test('globs: what looks like another pattern language is refused (peers R28)', () => {
  for (const pattern of ['', '^a.*$', '[ab]*', '{a,b}*', '**', 'a/**/b', 'a\0', '\ud800*', 'a'.repeat(1025)]) {
    assert.throws(() => compileGlob(pattern), { code: 'invalid_document' }, JSON.stringify(pattern.slice(0, 20)))
  }
})

test('globs: the same as a regular expression with dot and star', () => {
  const part = fc.constantFrom('a', 'b', '*', '?', '.', '😀')
  const oracle = (pattern: string) =>
    new RegExp(`^${[...pattern].map((c) => (c === '*' ? '[^]*' : c === '?' ? '[^]' : c === '.' ? '\\.' : c)).join('')}$`, 'u')
  fc.assert(
    fc.property(
      fc.array(part, { minLength: 1, maxLength: 8 }),
      fc.array(fc.constantFrom('a', 'b', '.', '😀'), { maxLength: 10 }),
      (parts, letters) => {
        const pattern = parts.join('')
        fc.pre(!pattern.includes('**'))
        const text = letters.join('')
        assert.equal(matches(pattern, text), oracle(pattern).test(text), `${pattern} ${text}`)
      },
    ),
    { numRuns: 5000 },
  )
})

test('rule 11: no pattern makes a match take long', () => {
  const text = 'a'.repeat(200_000)
  const start = spentMs()
  assert.equal(matches(`${'*a'.repeat(400)}b`, text), false)
  assert.equal(matches(`${'a?*'.repeat(300)}b`, text), false)
  assert.equal(matches(`*${'a'.repeat(1000)}b`, text), false)
  assert.ok(spentMs() - start < 2000)
})
