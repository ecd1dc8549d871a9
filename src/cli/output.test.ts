import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Column, jsonText, printable, table } from './output.ts'

interface Row {
  readonly id: string
  readonly words: string
}
const columns: readonly Column<Row>[] = [
  { title: 'WORDS', of: (row) => row.words },
  { title: 'ID', of: (row) => row.id, whole: true },
]
const rows: readonly Row[] = [{ words: 'w'.repeat(60), id: 'rec_01m824f1tvh95w12s4xwg7sz1p' }]

test('a narrow terminal cuts what can be cut, and never an id', () => {
  const [, cut] = table(rows, columns, 50).split('\n')
  assert.equal(cut, `${'w'.repeat(17)}…  rec_01m824f1tvh95w12s4xwg7sz1p`)
  assert.equal([...cut!].length, 50)
  const [, wrapped] = table(rows, columns, 20).split('\n')
  assert.equal(wrapped, `${'w'.repeat(7)}…  rec_01m824f1tvh95w12s4xwg7sz1p`)
})

test('where there is no width, nothing is cut', () => {
  assert.match(table(rows, columns, undefined), /w{60} {2}rec_01m824f1tvh95w12s4xwg7sz1p/)
})

test('columns that are all whole are left as they are', () => {
  assert.match(table(rows, [{ title: 'ID', of: (row) => row.id, whole: true }], 10), /rec_01m824f1tvh95w12s4xwg7sz1p/)
})

test('JSON for a program is harmless at a terminal as well, and the same value', () => {
  const value = { text: 'a\u001b[2J\u009b31m\u202e\u200b\u{e0041}\nü日', list: [1, 'b'] }
  const text = jsonText(value, 2)
  assert.deepEqual(JSON.parse(text), value)
  assert.match(text, /\\u009b31m\\u202e\\u200b\\udb40\\udc41\\nü日/)
  assert.doesNotMatch(text.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]/u)
})

test('no command prints JSON of its own: a stream as little as a listing', async () => {
  for (const file of (await readdir(import.meta.dirname)).filter((name) => name.endsWith('.ts')))
    for (const [i, text] of (await readFile(join(import.meta.dirname, file), 'utf8')).split('\n').entries())
      if (!file.endsWith('.test.ts') && /\b(?:line|write)\(.*JSON\.stringify\(/.test(text))
        assert.match(text, /printable(?:Lines)?\(/, `${file}:${i + 1} goes around jsonText`)
})

test('text of others does nothing at a terminal, and no sequence of control characters hides a part of it', () => {
  const text = printable("UPDATE u SET url = 'https://corp.example/\u001b]0;@evil.example/x;DROP\u0007' \u009b2J\u001b[8mWHERE\u202e id = 1")
  assert.doesNotMatch(text, /[\p{Cc}\u202e]/u)
  assert.match(text, /@evil\.example\/x;DROP/)
  assert.match(text, /WHERE id = 1$/)
})
