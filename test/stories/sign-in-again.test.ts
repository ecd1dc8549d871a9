import assert from 'node:assert/strict'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openProfiles } from '../../src/client/profile.ts'
import { findIdentity } from '../../src/identity/directory.ts'
import { startFixture } from '../mcp/fixture/fixture.ts'
import { launch, noChromium, profile } from '../pages/chromium.ts'
import { SESSION } from '../pages/visitor.ts'
import { codeOf } from '../parts/factor.ts'
import { house } from '../parts/house.ts'
import { sayYes } from '../parts/say-yes.ts'
import { spoken } from '../parts/spoken.ts'

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))

/** A computer at which boris was signed in until a moment ago. `opens`: what its xdg-open does with a page. */
async function computer(t: TestContext, opens = 'exit 0') {
  const { server, apply, enrol, dir } = await house(t)
  const fixture = await startFixture()
  t.after(() => fixture.close())
  await apply(
    `kind: role\nname: all\nspec: { allow: [{ mcp: any, can: any }] }\n---\nkind: user\nname: boris\nspec: { roles: [all] }\n---\nkind: mcp\nname: notes\nspec: { url: "${fixture.url}" }\n---\nkind: mcp\nname: more\nspec: { url: "${fixture.url}" }\n`,
  )
  const boris = await enrol('boris')
  const home = join(dir, 'home')
  await openProfiles(home).save({ ...boris.profile, notAfter: 1, sessionUntil: 1 }, { use: true })
  const opened = join(dir, 'opened')
  await writeFile(opened, '')
  await mkdir(join(dir, 'bin'))
  await writeFile(join(dir, 'bin', 'xdg-open'), `#!/bin/sh\nprintf '%s\\n' "$*" >> '${opened}'\n${opens}\n`)
  await chmod(join(dir, 'bin', 'xdg-open'), 0o755)
  const env = { PATH: `${join(dir, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin`, CHAPERONE_HOME: home, HOME: dir }
  return {
    server,
    home,
    opened: async () => (await readFile(opened, 'utf8')).split('\n').filter((one) => one !== ''),
    shim: (name: string, capabilities: object = {}) =>
      spoken(t, process.execPath, [bin, 'mcp', 'connect', name, '--client', 'cursor'], { env, capabilities }),
  }
}

const PAGE = /sign in at (\S+) \(code (\S+)\)/

test('an expired sign-in is renewed in the browser from inside the client, and the call that waits goes on', { skip: noChromium }, async (t) => {
  const { server, shim, opened, home } = await computer(t)
  const browser = await launch()
  t.after(() => browser.close())
  const cursor = shim('notes')
  const asked = cursor.ask('tools/list')
  const [, url] = await cursor.said(PAGE)

  // The page that was opened, in a browser where boris is signed in.
  const { secret } = await server.parts.browsers.begin((await findIdentity(server.parts.store.db, { name: 'boris' }))!)
  const context = await profile(browser)
  await context.addCookies([
    { name: SESSION, value: secret, url: `https://${server.parts.places.web}`, httpOnly: true, secure: true, sameSite: 'Strict' },
  ])
  const page = await context.newPage()
  await page.goto(url!)
  await page.click('button:text-is("Go on")')
  await page.fill('#device-code', await codeOf(server.parts, 'boris'))
  await page.click('button:text-is("Yes, this is my terminal")')
  await page.waitForSelector('text=is signed in')

  const { result, error } = await asked
  assert.ok((result?.tools as unknown[])?.length > 0, JSON.stringify(error))
  const saved = await openProfiles(home).load()
  assert.equal(saved.identity.name, 'boris')
  assert.ok(saved.notAfter > Date.now())
  assert.deepEqual(await opened(), [url])
  assert.equal(await cursor.end(), 0, cursor.text())
})

test('two servers of a client that start at the same moment open one page, and one yes is for both', async (t) => {
  const { server, shim, opened } = await computer(t)
  const [one, other] = [shim('notes'), shim('more')]
  const asked = [one.ask('tools/list'), other.ask('tools/list')]
  const [[, url, code], [, same]] = await Promise.all([one.said(PAGE), other.said(PAGE)])
  assert.equal(same, url)
  await sayYes(server, 'boris', code!)
  for (const { result, error } of await Promise.all(asked)) assert.ok((result?.tools as unknown[])?.length > 0, JSON.stringify(error))
  assert.deepEqual(await opened(), [url])
  assert.deepEqual([await one.end(), await other.end()], [0, 0])
})

test('one that was killed while its page was open keeps nobody from another page', async (t) => {
  const { server, shim, opened } = await computer(t)
  const killed = shim('notes')
  killed.ask('tools/list').catch(() => undefined)
  const [, first] = await killed.said(PAGE)
  killed.child.kill('SIGKILL')
  await killed.end()
  const next = shim('notes')
  const asked = next.ask('tools/list')
  const [, second, code] = await next.said(PAGE)
  assert.notEqual(second, first)
  await sayYes(server, 'boris', code!)
  assert.ok(((await asked).result?.tools as unknown[])?.length > 0)
  assert.ok((await opened()).includes(second!))
})

test('where no browser can be opened, a client that can shows the page itself, in the form that MCP has for it', async (t) => {
  const { shim } = await computer(t, 'exit 3')
  const cursor = shim('notes', { elicitation: { url: {} } })
  const asked = cursor.ask('tools/list')
  const [, url, code] = await cursor.said(PAGE)
  await cursor.said(/no browser could be opened: open https:\S+ yourself/)
  const { error } = await asked
  assert.equal(error!.code, -32042)
  const [elicitation] = error!.data!.elicitations as { mode: string; url: string; elicitationId: string }[]
  assert.deepEqual([elicitation!.mode, elicitation!.url, elicitation!.elicitationId], ['url', url, code])
})
