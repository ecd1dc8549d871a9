import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stoppable } from './terminal.ts'

test('a signal ends the work that it may end, and afterwards nothing holds signals back any more', async () => {
  const before = process.listenerCount('SIGTERM')
  const ended = await stoppable((stop) => {
    const heard = new Promise((resolve) => stop.addEventListener('abort', () => resolve(stop.reason)))
    process.kill(process.pid, 'SIGTERM')
    return heard
  })
  assert.equal(ended, 'SIGTERM')
  await assert.rejects(stoppable(() => Promise.reject(new Error('it went wrong'))))
  assert.equal(process.listenerCount('SIGTERM'), before)
})
