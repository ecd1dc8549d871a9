import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { folder } from './parts/process.ts'

/** An id that no system knows a name for; only root can take it on. */
const NOBODYS = 54_321
const { HOME: _home, XDG_DATA_HOME: _data, XDG_CONFIG_HOME: _config, CHAPERONE_HOME: _own, ...env } = process.env
const program = fileURLToPath(new URL('../bin/chaperone.js', import.meta.url))
const options = { skip: process.getuid?.() === 0 ? false : 'only root can start a program as a user without a name' }

const start = (args: readonly string[], more: Readonly<Record<string, string>> = {}) =>
  spawn(process.execPath, [program, ...args], { uid: NOBODYS, gid: NOBODYS, env: { ...env, ...more }, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] })

async function said(child: ReturnType<typeof start>): Promise<string> {
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      text += chunk
    })
  await once(child, 'close')
  return text
}

test('a user without a home folder, as in a container, is told what to say', options, async () => {
  for (const args of [['up'], ['whoami']]) assert.match(await said(start(args)), /no home folder.*\[usage\]\n.*--data-dir DIR.*CHAPERONE_HOME=DIR/)
})

test('and needs none where he has said it', options, async (t) => {
  const dir = await folder(t)
  await chmod(dir, 0o777)
  assert.match(await said(start(['whoami'], { CHAPERONE_HOME: join(dir, 'client') })), /not signed in/)
  const any = '127.0.0.1:0'
  const server = start(['up', '--data-dir', join(dir, 'data'), '--listen', any, '--web-listen', any, '--postgres-listen', any])
  t.after(() => void server.kill())
  let text = ''
  for await (const chunk of server.stdout) {
    text += chunk
    if (text.includes('Leave this running')) break
  }
  assert.match(text, /Chaperone is ready/)
})

test('a folder of another user is named, and is no fault of Chaperone', options, async (t) => {
  const dir = await folder(t)
  await chmod(dir, 0o700)
  const child = start(['whoami'], { CHAPERONE_HOME: join(dir, 'client') })
  assert.match(await said(child), /client\S*: this user may not\. \[unavailable_here\]\n.*CHAPERONE_HOME=DIR/)
  assert.equal(child.exitCode, 8)
})
