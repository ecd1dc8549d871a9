import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openProfiles } from '../../src/client/profile.ts'
import { startFixture } from '../mcp/fixture/fixture.ts'
import { house } from '../parts/house.ts'

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))
const TOKEN = 'ghp_0123456789abcdefghijABCDEFGHIJ456789'

test('servers of the clients on a computer move behind Chaperone, with their secrets, and back', async (t) => {
  const { dir, dana, apply, enrol } = await house(t)
  const fixture = await startFixture()
  t.after(() => fixture.close())
  await apply(
    'kind: role\nname: all\nspec: { allow: [{ mcp: any, can: any }] }\n---\nkind: user\nname: dana\nspec: { roles: [admin, all] }\n---\nkind: user\nname: boris\nspec: { roles: [all] }\n',
  )
  const homeOf = async (name: string, profile: typeof dana.profile) => {
    const home = join(dir, name)
    await openProfiles(join(home, 'chaperone')).save(profile, { use: true })
    await mkdir(join(home, '.cursor'))
    const text = `{\n  // mine\n  "mcpServers": {\n    "notes": { "url": "${fixture.url}", "headers": { "Authorization": "Bearer ${TOKEN}" } },\n  },\n}\n`
    await writeFile(join(home, '.cursor', 'mcp.json'), text)
    const chaperone = (...args: string[]) =>
      new Promise<{ out: string; err: string; code: number }>((done) => {
        const env = { HOME: home, PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, CHAPERONE_HOME: join(home, 'chaperone'), NO_COLOR: '1' }
        execFile(process.execPath, [bin, 'mcp', 'import', ...args], { cwd: home, env, timeout: 60_000 }, (error, out, err) =>
          done({ out, err, code: error ? Number(error.code) : 0 }),
        )
      })
    return { file: join(home, '.cursor', 'mcp.json'), text, chaperone, home }
  }

  const admin = await homeOf('dana-home', dana.profile)
  const before = await admin.chaperone('--scan')
  assert.equal(before.code, 1)
  assert.match(before.out, /notes +cursor +direct +headers\.Authorization \(by its name\)/)
  assert.doesNotMatch(before.out + before.err, new RegExp(TOKEN))
  assert.equal(await readFile(admin.file, 'utf8'), admin.text)

  const moved = await admin.chaperone('notes')
  assert.equal(moved.code, 0, moved.out + moved.err)
  assert.match(moved.out, /notes: goes through Chaperone now/)
  assert.doesNotMatch(moved.out + moved.err, new RegExp(TOKEN))
  const after = await readFile(admin.file, 'utf8')
  assert.doesNotMatch(after, new RegExp(TOKEN))
  assert.match(after, /\/\/ mine[\s\S]*"connect"/)
  const { secrets } = await dana.api.call<{ secrets: { name: string }[] }>('GET', '/v1/secrets')
  assert.deepEqual(
    secrets.map(({ name }) => name),
    ['mcp/notes/authorization'],
  )
  const document = await dana.api.call<{ spec: { headers: unknown } }>('GET', '/v1/documents/mcp/notes')
  assert.deepEqual(document.spec.headers, { Authorization: { secret: 'mcp/notes/authorization' } })
  // What was looked at came with the secret, from the vault.
  assert.doesNotMatch(JSON.stringify(await dana.api.call('GET', '/v1/audit')), new RegExp(TOKEN))

  const undone = await admin.chaperone('--undo')
  assert.equal(undone.code, 0, undone.err)
  assert.equal(await readFile(admin.file, 'utf8'), admin.text)

  // Without the right to add servers it is asked for, and nothing on his computer changes.
  const boris = await enrol('boris')
  const user = await homeOf('boris-home', boris.profile)
  const asked = await user.chaperone('--all', '--json')
  assert.equal(asked.code, 0, asked.err)
  assert.equal(JSON.parse(asked.out).asked[0].name, 'notes')
  assert.equal(await readFile(user.file, 'utf8'), user.text)
  const text = JSON.stringify(await dana.api.call('GET', '/v1/requests'))
  assert.match(text, /notes/)
  assert.doesNotMatch(text, new RegExp(TOKEN))
})
