import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import fc from 'fast-check'
import { shellWord } from './shell-word.ts'

test('a shell reads the word as it was, and nothing of it as a command', () => {
  const all = fc.sample(fc.string({ unit: fc.constantFrom(...'\'"\\$`;&|\n *~!#é') }), 200)
  const out = execFileSync('/bin/sh', ['-c', `printf '%s\\0' ${all.map(shellWord).join(' ')}`], { encoding: 'utf8' })
  assert.deepEqual(out.split('\0').slice(0, -1), all)
})
