import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { pieces, turns, visible } from './visible.ts'

/** By another way than the product's: everything that Unicode says is shown by nothing. */
const HIDDEN = /\p{Default_Ignorable_Code_Point}|\p{Bidi_Control}|\p{Cc}|\p{Cf}|\p{Cs}|\p{Zl}|\p{Zp}/u

test('what turns the reading direction, hides letters or moves the cursor is written out', () => {
  assert.equal(visible('a\u202eb\u2066c\u200bd\u0007e\ufefff\u00adg'), 'a⟨U+202E⟩b⟨U+2066⟩c⟨U+200B⟩d⟨U+0007⟩e⟨U+FEFF⟩f⟨U+00AD⟩g')
  assert.equal(visible('\u{e0044}\u{e0052}\u{e004f}\u{e0050}'), '⟨U+E0044⟩⟨U+E0052⟩⟨U+E004F⟩⟨U+E0050⟩', 'tag letters')
  assert.equal(visible('a\u3164b\u2800c\u00a0d\ud800'), 'a⟨U+3164⟩b⟨U+2800⟩c⟨U+00A0⟩d⟨U+D800⟩')
  assert.equal(visible('\u001b[2J\u0085\r\u2028'), '⟨U+001B⟩[2J⟨U+0085⟩⟨U+000D⟩⟨U+2028⟩')
})

test('letters that run from right to left are set apart, so that they turn nothing else around', () => {
  assert.deepEqual(turns("VALUES ('א', 1000, 20)"), ["VALUES ('", 'א', "', 1000, 20)"])
  assert.deepEqual(turns('שלום עולם = 1 + ا'), ['', 'שלום עולם', ' = 1 + ', 'ا', ''])
  assert.deepEqual(turns('SELECT 1'), ['SELECT 1'])
})

test('what people write stays as it is', () => {
  for (const text of ['SELECT 1\n\tFROM t', 'Grüße, 你好, שלום, مرحبا', '😀', 'a\r\nb'.replace('\r', '')]) assert.equal(visible(text), text)
  assert.equal(visible('a\r\nb'), 'a\nb')
})

test('nothing that cannot be seen is left, in any text, and the rest is in its place', () => {
  fc.assert(
    fc.property(
      fc.string({
        maxLength: 40,
        unit: fc.oneof(
          fc.constantFrom('\u202e', '\u200b', '\u0000', '\n', ' ', '\u00a0', '\u{e0041}'),
          fc.integer({ min: 0, max: 0x10ffff }).map((point) => String.fromCodePoint(point)),
        ),
      }),
      (text) => {
        for (const shown of [
          visible(text),
          pieces(text)
            .map((piece) => piece.text)
            .join(''),
        ]) {
          const left = HIDDEN.exec(shown.replace(/[\n\t]/g, ''))
          assert.equal(left, null)
        }
        const written = text.replace(/\r\n/g, '\n')
        const plain = pieces(text).filter((piece) => !piece.note && piece.text !== '\n')
        let at = 0
        for (const piece of plain) {
          at = written.indexOf(piece.text, at)
          assert.ok(at >= 0)
          at += piece.text.length
        }
      },
    ),
  )
})

test('empty lines and spaces push nothing off the screen', () => {
  const said = (text: string) =>
    pieces(text)
      .map(({ text, note }) => (note ? `[${text}]` : text))
      .join('')
  assert.equal(said(`SELECT 1;${'\n'.repeat(500)}DROP TABLE t`), 'SELECT 1;\n[⟨499 empty lines⟩]\nDROP TABLE t')
  assert.equal(said(`SELECT 1;${' \t\n'.repeat(500)}DROP TABLE t`), 'SELECT 1;\n[⟨499 empty lines⟩]\nDROP TABLE t')
  assert.equal(said(`SELECT 1;${' '.repeat(500)}DROP TABLE t`), 'SELECT 1;[⟨500 spaces⟩]DROP TABLE t')
  assert.equal(said('a\n\n\nb'), 'a\n\n\nb')
})

test('rule 11: a huge text is cut, and says so', () => {
  const shown = pieces('x'.repeat(250), 100)
  assert.deepEqual(shown, [{ text: 'x'.repeat(100) }, { text: '\n⟨cut here: 150 more characters are not shown⟩', note: true }])
})
