import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seenWhole } from './unseen.ts'

test('what hides or turns a text around is written out, letters of every script and signs stay', () => {
  assert.equal(seenWhole('a\u202eb'), 'a\\u{202e}b')
  for (const hidden of [
    '\0',
    '\u001b',
    '\u0085',
    '\u00ad',
    '\u061c',
    '\u115f',
    '\u200b',
    '\u2028',
    '\u2066',
    '\u2800',
    '\u3164',
    '\ufe0f',
    '\ufeff',
    '\ue000',
    '\ud800',
    '\u{e0041}',
  ])
    assert.match(seenWhole(`DROP${hidden}TABLE`), /^DROP\\u\{[0-9a-f]+\}TABLE$/u, JSON.stringify(hidden))
  const seen = 'Größe, 日本語, שלום, ไทย, é, 👍, 12 %'
  assert.equal(seenWhole(seen), seen)
})

test('line ends and tabs are written out too, where they are not said to stay', () => {
  assert.equal(seenWhole('a\n\tb'), 'a\\u{a}\\u{9}b')
  assert.equal(seenWhole('a\n\tb\r', '\n\t'), 'a\n\tb\\u{d}')
})
