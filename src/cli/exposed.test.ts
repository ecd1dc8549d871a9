import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { exposed, framed } from './exposed.ts'

test('what would act on a terminal, hide or mislead is shown as what it is', () => {
  assert.equal(exposed('DROP\x1b[2K\x1b[1A TABLE'), 'DROP\\u{1b}[2K\\u{1b}[1A TABLE')
  assert.equal(exposed('a\rb\x08c\x07\x9b31m'), 'a\\u{d}b\\u{8}c\\u{7}\\u{9b}31m')
  assert.equal(exposed('\u202eelbat\u2066 \u200f'), '\\u{202e}elbat\\u{2066} \\u{200f}')
  assert.equal(exposed('a\u200bb\u00adc\ufeff\u{e0041}\u3164'), 'a\\u{200b}b\\u{ad}c\\u{feff}\\u{e0041}\\u{3164}')
  assert.equal(exposed('a\u00a0b\u3000c\u2800'), 'a\\u{a0}b\\u{3000}c\\u{2800}')
  assert.equal(exposed('line\u2028para\u2029'), 'line\\u{2028}para\\u{2029}')
  assert.equal(exposed(`z${'\u0301'.repeat(5)}`), 'z\u0301\u0301\\u{301}\\u{301}\\u{301}')
  assert.equal(exposed('\tx\ty  '), '    x\\ty\\u{20}\\u{20}')
})

test('what people write stays as it is', () => {
  for (const text of ["SELECT 'Zoë', '日本', 'naïve ü'", '{"path": "/tmp/ä"}', 'UPDATE t SET a = 1 WHERE b <> 2 -- ok'])
    assert.equal(exposed(text), text)
  assert.equal(exposed('a\u200eb'), 'a\\u{200e}b')
})

/** Marks around letters read from right to left are ours: one of the asker's own is shown as an escape, so only ours stand there. */
const unmarked = (line: string) => line.replaceAll('\u200e', '')

test('no line of a framed text passes for one of ours, however it is written', () => {
  assert.deepEqual(framed('SELECT 1;\nwho   dana\n', 80), ['| SELECT 1;', '| who   dana'])
  assert.deepEqual(framed('x'.repeat(45), 24), [`| ${'x'.repeat(20)}`, `| … ${'x'.repeat(20)}`, `| … ${'x'.repeat(5)}`])
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), fc.integer({ min: 24, max: 120 }), (text, width) => {
      for (const line of framed(text, width).map(unmarked)) {
        assert.ok(line.startsWith('|'))
        assert.ok([...line].reduce((cells, letter) => cells + (letter <= '~' ? 1 : 2), 0) <= width + 2, line)
        assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}]/u)
      }
    }),
  )
})

test('nothing of a text is lost: what is shown can be read back', () => {
  const back = (line: string) => line.replace(/\\u\{([0-9a-f]+)\}/g, (_, hex: string) => String.fromCodePoint(Number.parseInt(hex, 16)))
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      fc.pre(!/[\\\t]/.test(text))
      const shown = framed(text, 60).map((line) => unmarked(line).slice(2))
      const lines: string[] = []
      for (const line of shown) {
        if (line.startsWith('… ') && lines.length > 0) lines[lines.length - 1] += line.slice(2)
        else lines.push(line)
      }
      // A line of the text that begins like a broken one is taken for one by this reader only.
      fc.pre(!text.split('\n').some((line) => line.startsWith('… ')))
      assert.equal(lines.map(back).join('\n'), text.replace(/\n$/, ''))
    }),
  )
})

test('rule 12: letters that are read from right to left do not take what follows along', () => {
  assert.equal(exposed("VALUES ('א', 1000, 20)"), "VALUES ('\u200eא\u200e', 1000, 20)")
  assert.equal(exposed('سلام 7'), '\u200eسلام\u200e 7')
})
