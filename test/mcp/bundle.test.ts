import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmod, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { strFromU8, unzipSync } from 'fflate'
import { type BundleOptions, bundle } from '../../src/client/config/bundle.ts'
import { openProfiles } from '../../src/client/profile.ts'
import { house } from '../parts/house.ts'
import { folder } from '../parts/process.ts'
import { sayYes } from '../parts/say-yes.ts'
import { spoken } from '../parts/spoken.ts'
import { startFixture } from './fixture/fixture.ts'

/** As Claude Desktop installs it: into a folder of its own, below which nothing of Chaperone is. */
async function installed(t: TestContext, options: Omit<BundleOptions, 'version'>) {
  const dir = await folder(t)
  const zip = await bundle({ version: '0.1.0', ...options })
  for (const [name, bytes] of Object.entries(unzipSync(zip))) {
    await mkdir(dirname(join(dir, 'extension', name)), { recursive: true })
    await writeFile(join(dir, 'extension', name), strFromU8(bytes))
  }
  const home = join(dir, 'home')
  await mkdir(home)
  await mkdir(join(dir, 'bin'))
  await writeFile(join(dir, 'bin', 'xdg-open'), '#!/bin/sh\nexit 0\n')
  await chmod(join(dir, 'bin', 'xdg-open'), 0o755)
  return {
    dir: join(dir, 'extension'),
    home,
    size: zip.length,
    start: (more: NodeJS.ProcessEnv = {}) =>
      spoken(t, process.execPath, [join(dir, 'extension', 'server', 'start.js')], {
        cwd: home,
        // What its user did not enter, Claude Desktop leaves as it is written.
        env: {
          HOME: home,
          PATH: join(dir, 'bin'),
          CHAPERONE_BUNDLE_PROFILE: `${'$'}{user_config.profile}`,
          CHAPERONE_BUNDLE_SERVER: '',
          ...more,
        },
      }),
  }
}

const CONFIG = (url: string) =>
  `kind: role\nname: all\nspec: { allow: [{ mcp: any, can: any }] }\n---\nkind: user\nname: boris\nspec: { roles: [all] }\n---\nkind: mcp\nname: notes\nspec: { url: "${url}" }\n`

test('a bundle in an empty folder, on a computer without Chaperone, signs its person in and speaks MCP through to a server', async (t) => {
  const { server, dana, apply, enrol } = await house(t)
  const fixture = await startFixture()
  t.after(() => fixture.close())
  await apply(CONFIG(fixture.url))
  await enrol('boris')
  const { address, bundles } = dana.profile
  const { start, home, size } = await installed(t, { mcp: 'notes', first: { address, authorities: bundles.server } })
  assert.ok(size < 200_000, `${size} bytes`)
  const claude = start()
  const asked = claude.ask('tools/list')
  const [, url, code] = await claude.said(/you are not signed in: sign in at (\S+) \(code (\S+)\)/)
  assert.match(url!, /^https:\/\/[^/]+\/device\?code=/)
  await sayYes(server, 'boris', code!)
  const { result } = await asked
  assert.ok((result!.tools as unknown[]).length > 0)
  const called = await claude.ask('tools/call', { name: 'greet', arguments: { name: 'Boris' } })
  assert.match(JSON.stringify(called.result), /Boris/)
  assert.equal(await claude.end(), 0, claude.text())
  const [saved] = await openProfiles(join(home, '.config', 'chaperone')).list()
  assert.equal(saved!.identity.name, 'boris')

  // Started again it has a sign-in; and a profile that its user entered narrows it.
  await apply('kind: profile\nname: nothing\nspec: { limits: { tools: [notes/none_of_them] } }\n')
  const again = start({ CHAPERONE_BUNDLE_PROFILE: 'nothing' })
  assert.deepEqual((await again.ask('tools/list')).result!.tools, [])
  assert.equal(await again.end(), 0, again.text())
  assert.doesNotMatch(again.text(), /sign in/)
})

test('a bundle that does not know where Chaperone is says what to enter, and takes the line that names a server', async (t) => {
  const { server, apply, enrol } = await house(t)
  const fixture = await startFixture()
  t.after(() => fixture.close())
  await apply(CONFIG(fixture.url))
  await enrol('boris')
  const { start } = await installed(t, {})
  const lost = start()
  const { error } = await lost.ask('tools/list')
  assert.match(
    error!.message,
    /You are not signed in\. It is not known which Chaperone is yours\. In the settings of this extension, enter under Server the line/,
  )
  await lost.end()
  const found = start({ CHAPERONE_BUNDLE_SERVER: server.parts.places.line!, PATH: '/nonexistent' })
  // No browser there: whoever asks is told at once where to sign in.
  const told = await found.ask('tools/list')
  const [, code] = /Sign in at \S+ \(code (\S+)\), then call again/.exec(told.error!.message)!
  await sayYes(server, 'boris', code!)
  await found.said(/signed in\n/)
  assert.ok(((await found.ask('tools/list')).result!.tools as unknown[]).length > 0)
  assert.equal(await found.end(), 0)
})

test('what keeps a bundle from starting is said in MCP itself', async (t) => {
  const { start, dir } = await installed(t, {})
  await rm(join(dir, 'server', 'chaperone', 'errors.js'))
  const broken = start()
  const { error } = await broken.ask('initialize')
  assert.match(error!.message, /could not start: .*errors\.js/)
  assert.equal(await broken.end(), 8)

  // Only what asks for something is answered; whatever else a client sends takes nobody down.
  const [method, jsonrpc] = ['initialize', '2.0']
  const lines = [
    'null',
    '"text"',
    '{',
    { jsonrpc, method: 7, id: 1 },
    { jsonrpc, method: 'notifications/initialized' },
    { jsonrpc, method, id: null },
  ]
  const sent = [...lines, { jsonrpc, method, id: 5 }].map((one) => (typeof one === 'string' ? one : JSON.stringify(one)))
  const { status, stdout } = spawnSync(process.execPath, [join(dir, 'server', 'start.js')], { input: `${sent.join('\n')}\n`, encoding: 'utf8' })
  const answers = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { readonly id: unknown })
  assert.deepEqual([status, answers.map(({ id }) => id)], [8, [5]])
})

test('the same bundle has the same bytes, and all that is in it is our own', async (t) => {
  const first = { address: 'chaperone.example.com:7443', authorities: '-----BEGIN CERTIFICATE-----' }
  const one = await bundle({ version: '0.1.0', first })
  assert.deepEqual(await bundle({ version: '0.1.0', first }), one)
  const { dir } = await installed(t, { first })
  assert.deepEqual((await readdir(join(dir, 'server'))).sort(), ['carried.json', 'chaperone', 'package.json', 'start.js'])
  assert.ok(!(await readdir(join(dir, 'server', 'chaperone'))).includes('node_modules'))
})
