import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock } from '../clock.ts'
import { every } from './every.ts'

test('work that fails, at once or later, ends no process: it is said, and the work is done again', async () => {
  const clock = manualClock(0)
  const said: string[] = []
  let done = 0
  const work = (): Promise<void> => {
    done++
    if (done === 1) throw new Error('at once')
    return done === 2 ? Promise.reject(new Error('later')) : Promise.resolve()
  }
  const stop = every(clock, 1_000, work, (error) => said.push((error as Error).message))
  for (let i = 0; i < 3; i++) {
    await clock.armed(1_000)
    clock.advance(1_000)
  }
  await stop()
  assert.equal(done, 3)
  assert.deepEqual(said, ['at once', 'later'])
})
