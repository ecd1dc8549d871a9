import assert from 'node:assert/strict'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Finding } from '../../src/client/bypass/finding.ts'
import { openProfiles } from '../../src/client/profile.ts'
import { startFixture } from '../mcp/fixture/fixture.ts'
import { house } from '../parts/house.ts'
import { chaperone } from '../parts/process.ts'

const TOKEN = 'ghp_0123456789abcdefghijABCDEFGHIJ456789'

test('doctor bypass finds every door of a computer, says how to close each, and is content when they are closed', async (t) => {
  const { dana, apply, dir } = await house(t)
  const fixture = await startFixture()
  let closed = false
  const close = async () => {
    if (!closed) await fixture.close()
    closed = true
  }
  t.after(close)
  await apply(
    `kind: mcp\nname: notes\nspec: { url: "${fixture.url}" }\n---\nkind: postgres\nname: orders\nspec: { address: "127.0.0.1:1", databases: [orders], users: [app] }\n`,
  )
  const home = join(dir, 'home')
  await openProfiles(join(home, 'chaperone')).save(dana.profile, { use: true })
  await mkdir(join(home, '.cursor'))
  const client = join(home, '.cursor', 'mcp.json')
  await writeFile(
    client,
    JSON.stringify({ mcpServers: { direct: { url: fixture.url }, local: { command: 'npx', args: ['thing'], env: { API_TOKEN: TOKEN } } } }),
  )
  await writeFile(join(home, '.pgpass'), '127.0.0.1:1:*:app:the-old-password\n')
  const doctor = async (more: NodeJS.ProcessEnv = {}) => {
    const { code, out, err } = await chaperone(['doctor', 'bypass', '--json'], {
      cwd: home,
      env: { HOME: home, CHAPERONE_HOME: join(home, 'chaperone'), ...more },
    })
    assert.doesNotMatch(out + err, new RegExp(`${TOKEN}|the-old-password`))
    return { code, found: JSON.parse(out) as Finding[] }
  }
  const { code, found } = await doctor({ DEPLOY_TOKEN: TOKEN })
  assert.equal(code, 8)
  const open = found.filter(({ state }) => state === 'open')
  assert.deepEqual(
    open.map(({ what, where }) => [what.replace(home, '~'), where]),
    [
      ['mcp/notes', fixture.url],
      ['~/.cursor/mcp.json', 'direct'],
      ['~/.cursor/mcp.json', 'local'],
      ['environment', 'DEPLOY_TOKEN'],
      ['~/.pgpass', '127.0.0.1:1'],
    ],
  )
  for (const { fix, what } of open) assert.ok(fix, what)
  assert.equal(found.find(({ what }) => what === 'postgres/orders')!.state, 'closed')

  await close()
  await rm(join(home, '.pgpass'))
  const { code: written, err } = await chaperone(['mcp', 'config', 'cursor', 'notes', '--file', client], {
    cwd: home,
    env: { HOME: home, CHAPERONE_HOME: join(home, 'chaperone') },
  })
  assert.equal(written, 0, err)
  // The copy that was made of the file has the token still, and is a door like the file.
  await writeFile(client, JSON.stringify({ mcpServers: {} }))
  const copies = (await doctor()).found.filter(({ state }) => state === 'open')
  assert.match(copies.map(({ fix }) => fix).join(), /^rm '.*before-chaperone/)
  for (const { what } of copies) await rm(what)
  const last = await doctor()
  assert.equal(last.code, 0)
  assert.ok(last.found.every(({ state }) => state === 'closed'))
})
