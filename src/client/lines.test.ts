import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { readLines } from './lines.ts'

const linesOf = async (chunks: readonly string[], limit = 10) => {
  const lines: string[] = []
  for await (const line of readLines(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), limit)) lines.push(line.toString())
  return lines
}

test('lines are found across chunks, the last one also without an end', async () => {
  assert.deepEqual(await linesOf(['ab', 'c\nd', 'e\n', '\nf']), ['abc', 'de', '', 'f'])
})

test('rule 11: a line over the limit is skipped and named, and the next one is read', async () => {
  assert.deepEqual(await linesOf(['12345', '678901', '2345\nok\n', 'x'.repeat(11)]), ['too_long', 'ok', 'too_long'])
})
