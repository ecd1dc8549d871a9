import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inMemory, limits, usualSize } from './bounds.ts'

const MiB = 1024 ** 2

test('a file system in memory holds an eighth of the memory that there is for this process, and at most 1 GiB', () => {
  assert.equal(usualSize(24_000 * MiB, 0), 1024 * MiB)
  assert.equal(usualSize(2_000 * MiB, 0), 250 * MiB)
  assert.equal(usualSize(24_000 * MiB, 512 * MiB), 64 * MiB, 'of a container')
  assert.equal(usualSize(512 * MiB, 2 ** 63), 64 * MiB, 'a container without a limit')
  assert.deepEqual(inMemory('/tmp', 0), ['--size', '4096', '--tmpfs', '/tmp'], '0 would be none')
  assert.deepEqual(inMemory('/tmp', undefined), ['--tmpfs', '/tmp'])
})

const NOW = `Limit                     Soft Limit           Hard Limit           Units
Max core file size        0                    unlimited            bytes
Max processes             96365                96365                processes
Max file locks            unlimited            unlimited            locks
`

test('processes are counted only where they are counted by themselves: in a fence, since Linux 5.14', () => {
  const of = (kernel: string, fenced = true) => limits({ fenced, kernel, now: NOW })
  assert.deepEqual(of('6.18.0-1-amd64'), ['--core=1:1', '--nproc=4096:4096'])
  assert.deepEqual(of('5.14.0'), ['--core=1:1', '--nproc=4096:4096'])
  assert.deepEqual(of('5.10.0-26-amd64'), ['--core=1:1'])
  assert.deepEqual(of('6.18.0', false), ['--core=1:1'])
})

test('no limit is raised: whoever may not would not start at all', () => {
  const now = NOW.replace('unlimited            bytes', '0                    bytes')
    .replaceAll('96365', '100')
    .replace('unlimited            locks', '7                    locks')
  assert.deepEqual(limits({ fenced: true, locks: 5n, kernel: '6.18.0', now }), ['--core=0:0', '--nproc=100:100'])
  assert.deepEqual(limits({ locks: 5n, kernel: '6.18.0', now: NOW }), ['--core=1:1', '--locks=5:5'])
})
