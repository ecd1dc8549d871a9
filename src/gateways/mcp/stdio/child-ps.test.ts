import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { askPs, readPs, tells } from './child-ps.ts'

test('what ps tells is read: of a zombie nothing, and of a word only the whole of it', () => {
  const all = readPs(`  1     0     1     0  21344 Ss   /sbin/launchd
  501   420   501   501   5120 S+   node /opt/agent run HOME=/Users/dana CHAPERONE_RUN=0a1b2c PATH=/usr/bin
  502   501   502   501   5120 S    sleep 5 CHAPERONE_RUN=0a1b2c3d
  503   501   503   501      0 Z    (sh)
`)
  assert.deepEqual(
    all.map(({ pid, parent, group, uid, rss }) => [pid, parent, group, uid, rss]),
    [
      [1, 0, 1, 0, 21344 * 1024],
      [501, 420, 501, 501, 5120 * 1024],
      [502, 501, 502, 501, 5120 * 1024],
    ],
  )
  assert.deepEqual(
    all.filter((one) => tells(one, 'CHAPERONE_RUN=0a1b2c')).map(({ pid }) => pid),
    [501],
  )
})

test('a process is found by its environment where there is no /proc to look into', { skip: !existsSync('/bin/ps') && 'no ps' }, async (t) => {
  const variable = `CHAPERONE_RUN=test-${process.pid}`
  const child = spawn('tail', ['-f', '/dev/null'], {
    env: { PATH: process.env.PATH, CHAPERONE_RUN: `test-${process.pid}`, LAST: 'x' },
    stdio: 'ignore',
  })
  t.after(() => child.kill('SIGKILL'))
  await once(child, 'spawn')
  const found = (await askPs()).filter((one) => tells(one, variable))
  assert.deepEqual(
    found.map(({ pid, parent }) => [pid, parent]),
    [[child.pid, process.pid]],
  )
})
