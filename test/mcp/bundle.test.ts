import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { strFromU8, unzipSync } from 'fflate'
import { bundle } from '../../src/client/config/bundle.ts'
import { folder } from '../parts/process.ts'

const files = (zip: Uint8Array) => new Map(Object.entries(unzipSync(zip)).map(([name, bytes]) => [name, strFromU8(bytes)]))

test('a bundle starts the shim of the installation that it finds, with its input and output', async (t) => {
  const dir = await folder(t)
  const fake = join(dir, 'chaperone')
  await writeFile(fake, '#!/bin/sh\necho "$@"\n/bin/cat\nexit 7\n')
  await chmod(fake, 0o755)
  await mkdir(join(dir, 'server'))
  for (const [name, text] of files(bundle({ version: '0.1.0', server: 'prod/orders', command: fake }))) await writeFile(join(dir, name), text)
  // As Claude Desktop leaves it where nothing was filled in.
  const env = { PATH: dirname(process.execPath), CHAPERONE_COMMAND: `${'$'}{user_config.command}` }
  const child = spawn(process.execPath, [join(dir, 'server', 'start.js')], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.end('{"jsonrpc":"2.0"}\n')
  let out = ''
  for await (const chunk of child.stdout) out += chunk
  assert.equal(out, 'mcp connect prod/orders --client claude-desktop\n{"jsonrpc":"2.0"}\n')
  const code = child.exitCode ?? (await new Promise((done) => child.once('exit', done)))
  assert.equal(code, 7)
})

test('the same bundle has the same bytes, and nothing in it is secret', () => {
  const one = bundle({ version: '0.1.0' })
  assert.deepEqual(bundle({ version: '0.1.0' }), one)
  assert.deepEqual([...files(one).keys()].sort(), ['manifest.json', 'server/package.json', 'server/start.js'])
})
