import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'

const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)

test('a command that only waits goes on: nothing else holds its process between two questions', async () => {
  const script = `
    const { sleepAwake } = await import(${url('./sleep.ts')})
    const { systemClock } = await import(${url('../clock.ts')})
    await sleepAwake(systemClock, 5, new AbortController().signal)
    console.log('went on')`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script])
  assert.equal(stdout, 'went on\n')
})
