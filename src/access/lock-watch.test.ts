import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock } from '../clock.ts'
import type { LockTable } from '../store/tables.ts'
import { makeLockWatch } from './lock-watch.ts'

const lock = (id: string, target_kind: LockTable['target_kind'], target: string, expires_at: number | null = null) =>
  ({ id, target_kind, target, expires_at }) as LockTable

function opened() {
  const clock = manualClock(0)
  const locks = makeLockWatch(clock)
  const seen: string[] = []
  locks.watch((resources) => seen.push([...resources].sort().join()))
  const since = () => seen.splice(0)
  return { clock, locks, since }
}

test('who listens is told of the resource on which a lock falls or is lifted, also when it lies on a tool of it', () => {
  const { locks, since } = opened()
  locks.look([lock('1', 'resource', 'files'), lock('2', 'tool', 'mail/send'), lock('3', 'identity', 'agt_bot')])
  assert.deepEqual(since(), ['files,mail'])
  locks.look([lock('2', 'tool', 'mail/send')])
  assert.deepEqual(since(), ['files'])
  locks.look([lock('2', 'tool', 'mail/send')])
  assert.deepEqual(since(), [])
})

test('a lock that comes to its end is told of as well, at that moment, though no epoch rises', () => {
  const { clock, locks, since } = opened()
  locks.look([lock('1', 'resource', 'files', 1000), lock('2', 'tool', 'mail/send', 3000), lock('3', 'identity', 'agt_bot', 500)])
  since()
  clock.advance(999)
  assert.deepEqual(since(), [])
  clock.advance(1)
  assert.deepEqual(since(), ['files'])
  // It is in what is read of the store until it is read again.
  locks.look([lock('1', 'resource', 'files', 1000), lock('2', 'tool', 'mail/send', 3000)])
  assert.deepEqual(since(), [])
  clock.advance(2000)
  assert.deepEqual(since(), ['mail'])
  locks.look([lock('4', 'resource', 'files', 9000)])
  since()
  locks.close()
  clock.advance(9000)
  assert.deepEqual(since(), [])
})
