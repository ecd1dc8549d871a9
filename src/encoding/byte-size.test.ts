import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import { parseByteSize } from './byte-size.ts'

test('sizes are read as people write them', () => {
  for (const [text, bytes] of [
    ['1B', 1],
    ['512MiB', 512 * 1024 * 1024],
    ['64 kB', 64_000],
    ['1.5GiB', 1.5 * 1024 ** 3],
    ['2TB', 2e12],
  ] as const)
    assert.equal(parseByteSize(text), bytes)
})

test('what has two readings, or is nothing, is refused', () => {
  for (const text of [
    '',
    '512',
    '512m',
    '512Mb',
    '0MiB',
    '0.0001B',
    '-1MiB',
    '1e3MiB',
    '1MiB ',
    ' 1MiB',
    '1,5GiB',
    'MiB',
    '999999999999TiB',
    '1KB',
    '1iB',
  ])
    assert.throws(
      () => parseByteSize(text),
      (error) => error instanceof ChaperoneError && error.code === 'invalid_document',
      text,
    )
})
