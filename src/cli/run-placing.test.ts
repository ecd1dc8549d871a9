import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hidden } from './run-placing.ts'

test('rule 5: the program of a run sees neither the profile nor the key or token by which its machine joins', async () => {
  const paths = await hidden({ identity: 'bot.json', keyFile: 'machine.key', tokenFile: '/var/run/token' })
  for (const path of ['bot.json', 'machine.key', '/var/run/token']) assert.ok(paths.includes(path), path)
})
