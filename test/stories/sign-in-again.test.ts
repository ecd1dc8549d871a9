import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openProfiles } from '../../src/client/profile.ts'
import { findIdentity } from '../../src/identity/directory.ts'
import { startFixture } from '../mcp/fixture/fixture.ts'
import { ask, house } from '../parts/house.ts'

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))

test('an expired sign-in is renewed from inside the client: the browser opens, the person says yes, and the call that waits goes on', async (t) => {
  const { server, apply, enrol, dir } = await house(t)
  const fixture = await startFixture()
  t.after(() => fixture.close())
  await apply(
    `kind: role\nname: all\nspec: { allow: [{ mcp: any, can: any }] }\n---\nkind: user\nname: boris\nspec: { roles: [all] }\n---\nkind: mcp\nname: notes\nspec: { url: "${fixture.url}" }\n`,
  )
  const boris = await enrol('boris')
  const home = join(dir, 'home')
  await openProfiles(home).save({ ...boris.profile, notAfter: 1, sessionUntil: 1 }, { use: true })

  // What opens pages on this computer, and is shown one.
  const opened = join(dir, 'opened')
  await mkdir(join(dir, 'bin'))
  await writeFile(join(dir, 'bin', 'xdg-open'), `#!/bin/sh\nprintf '%s' "$*" > '${opened}'\n`)
  await chmod(join(dir, 'bin', 'xdg-open'), 0o755)
  const env = { PATH: `${join(dir, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin`, CHAPERONE_HOME: home, HOME: dir }
  const shim = spawn(process.execPath, [bin, 'mcp', 'connect', 'notes', '--client', 'cursor'], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  t.after(async () => void shim.kill('SIGKILL'))
  let said = ''
  const page = new Promise<{ url: string; code: string }>((done) => {
    shim.stderr.on('data', (chunk: Buffer) => {
      said += chunk
      const [, url, code] = /sign in at (\S+) \(code (\S+)\)/.exec(said) ?? []
      if (url !== undefined && code !== undefined) done({ url, code })
    })
  })
  const answered = new Promise<{ id: number; result?: { tools: unknown[] } }>((done) => {
    let out = ''
    shim.stdout.on('data', (chunk: Buffer) => {
      out += chunk
      if (out.endsWith('\n')) done(JSON.parse(out))
    })
  })
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'x', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': {},
  }
  shim.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: { _meta } })}\n`)

  const { url, code } = await page
  assert.match(url, /^https:\/\/[^/]+\/device\?code=/)
  const identity = await findIdentity(server.parts.store.db, { name: 'boris' })
  const { secret } = await server.parts.browsers.begin(identity!)
  const cookie = `__Host-chaperone-session=${secret}`
  const form = async (path: string, fields: Record<string, string>) =>
    ask(server.addresses.web, path, {
      method: 'POST',
      headers: { cookie, 'content-type': 'application/x-www-form-urlencoded', origin: `https://${server.addresses.web}` },
      body: new URLSearchParams(fields).toString(),
    })
  const token = /name="token" value="([^"]+)"/.exec((await ask(server.addresses.web, '/device', { headers: { cookie } })).text)![1]!
  const decided = await form('/device/decide', { token, user_code: code, verdict: 'yes', code: boris.code() })
  assert.match(decided.text, /is signed in/)

  const answer = await answered
  assert.equal(answer.id, 1)
  assert.ok(answer.result!.tools.length > 0, JSON.stringify(answer))
  assert.equal(await readFile(opened, 'utf8'), url)
  const saved = await openProfiles(home).load()
  assert.equal(saved.identity.name, 'boris')
  assert.ok(saved.notAfter > Date.now())
  shim.stdin.end()
  const [exit] = shim.exitCode === null ? await once(shim, 'exit') : [shim.exitCode]
  assert.equal(exit, 0, said)
})
