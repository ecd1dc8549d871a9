import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { unifiedDiff } from './unified-diff.ts'

/** Applies a diff, as patch(1) would; throws where it does not fit. */
function patch(text: string, diff: string): string {
  const before = text === '' ? [] : text.replace(/\n$/, '').split('\n')
  const after: string[] = []
  let at = 0
  for (const line of diff.split('\n').slice(0, -1)) {
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@$/.exec(line)
    if (hunk) {
      const start = hunk[2] === '0' ? Number(hunk[1]) : Number(hunk[1]) - 1
      while (at < start) after.push(before[at++]!)
      continue
    }
    const [sign, rest] = [line[0], line.slice(1)]
    if (sign !== '+') assert.equal(before[at++], rest)
    if (sign !== '-') after.push(rest)
  }
  return [...after, ...before.slice(at)].map((line) => `${line}\n`).join('')
}

test('a diff shows changed lines with three lines around them', () => {
  const lines = (n: number) => Array.from({ length: n }, (_, i) => `line ${i + 1}\n`).join('')
  assert.equal(
    unifiedDiff(lines(20), lines(20).replace('line 10\n', 'line ten\n')),
    '@@ -7,7 +7,7 @@\n line 7\n line 8\n line 9\n-line 10\n+line ten\n line 11\n line 12\n line 13\n',
  )
  assert.equal(unifiedDiff('', 'a\n'), '@@ -0,0 +1 @@\n+a\n')
  assert.equal(unifiedDiff('a\n', ''), '@@ -1 +0,0 @@\n-a\n')
  assert.equal(unifiedDiff(lines(5), lines(5)), '')
})

test('applying a diff to the old text gives the new one, whatever the texts', () => {
  const text = fc.array(fc.constantFrom('a', 'b', 'c', 'd', ''), { maxLength: 40 }).map((lines) => lines.map((line) => `${line}\n`).join(''))
  fc.assert(fc.property(text, text, (before, after) => assert.equal(patch(before, unifiedDiff(before, after)), after)))
})

test('texts too long to compare line by line are shown as replaced, in bounded time', () => {
  const lines = (word: string) => Array.from({ length: 5_000 }, (_, i) => `${word} ${i}\n`).join('')
  const diff = unifiedDiff(lines('a'), lines('b'))
  assert.equal(diff.split('\n').length, 10_002)
})
