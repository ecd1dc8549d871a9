import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { hidden } from './run-placing.ts'

test('rule 5: the program of a run sees neither the profile nor the key or token by which its machine joins', async () => {
  const paths = await hidden({ identity: 'bot.json', keyFile: 'machine.key', tokenFile: '/var/run/token' })
  for (const path of ['bot.json', 'machine.key', '/var/run/token']) assert.ok(paths.includes(path), path)
})

test('rule 5: nor the ways to the key store of its person: the session bus wherever it is, the key ring, the service manager', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'chaperone-runtime-'))
  const before = { XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR, DBUS_SESSION_BUS_ADDRESS: process.env.DBUS_SESSION_BUS_ADDRESS }
  t.after(() => {
    rmSync(dir, { recursive: true })
    for (const [name, value] of Object.entries(before))
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
  })
  for (const name of ['bus', 'keyring', 'systemd', 'elsewhere']) writeFileSync(join(dir, name), '')
  process.env.XDG_RUNTIME_DIR = dir
  process.env.DBUS_SESSION_BUS_ADDRESS = `unix:path=${join(dir, 'elsewhere')},guid=0`
  const paths = await hidden({})
  for (const name of ['bus', 'keyring', 'systemd', 'elsewhere']) assert.ok(paths.includes(join(dir, name)), name)
})
