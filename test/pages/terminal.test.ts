import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { openApi } from '../../src/client/api.ts'
import { beginDeviceSignIn, serverOf } from '../../src/client/device-sign-in.ts'
import { authenticator, launch, noChromium, profile } from './chromium.ts'
import { visitor } from './visitor.ts'
import { type World, world } from './world.ts'

/** A terminal is signed in from a real browser, with each kind of second step; and then does what takes one. */
describe('a terminal, signed in from a browser', { skip: noChromium }, () => {
  let browser: Browser
  let w: World
  const rest: (() => Promise<void>)[] = []
  before(async () => {
    w = await world({ after: (work) => void rest.push(work) })
    browser = await launch()
  })
  after(async () => {
    await browser?.close()
    for (const work of rest.reverse()) await work()
  })
  const { signedIn } = visitor(() => ({ w, browser }))

  /** The terminal asks; the person opens its page and types the code there. */
  async function asked(page: Page) {
    // The line for agents names the server as well as the one for people.
    const line = `${w.server.parts.places.line}&for=https%3A%2F%2Fexample.org`
    const terminal = await beginDeviceSignIn(await serverOf(line, () => assert.fail('it is named')))
    await page.goto(terminal.url)
    return {
      terminal,
      typeCode: async () => {
        await page.fill('#user_code', terminal.code)
        await page.click('button:text-is("Go on")')
        await page.waitForSelector(`dd.code:has-text("${terminal.code}")`)
      },
      /** What the terminal is then. */
      signedIn: async () => {
        await page.waitForSelector('h1:text-is("Done")')
        const held = await terminal.finish(new AbortController().signal)
        terminal.close()
        const row = await w.server.parts.store.db.selectFrom('sessions').selectAll().where('id', '=', held.session).executeTakeFirstOrThrow()
        const api = openApi({ address: held.address, authorities: held.bundles.server, identity: held })
        // What takes a second factor takes none beside that of the browser.
        await api.call('PUT', '/v1/secrets/of-the-terminal', { value: 'a secret that is nobody’s' }).finally(() => api.close())
        return [held.identity.name, row.factor_by]
      },
    }
  }

  test('with a code of the authenticator app; a wrong one signs nobody in', async () => {
    const page = await signedIn('dana')
    const { typeCode, signedIn: done } = await asked(page)
    await typeCode()
    await page.click('button:text-is("Yes, this is my terminal")')
    await page.waitForSelector('#alert:not([hidden])')
    await page.fill('#device-code', await w.wrongCode('dana'))
    await page.click('button:text-is("Yes, this is my terminal")')
    await page.waitForSelector('#alert:has-text("wrong")')
    await page.fill('#device-code', await w.code('dana'))
    await page.click('button:text-is("Yes, this is my terminal")')
    assert.deepEqual(await done(), ['dana', 'totp'])
  })

  test('with a passkey, in a browser where nobody was signed in: one for the sign-in, one for this very terminal', async () => {
    const first = await signedIn('dana')
    const { cdp, id } = await authenticator(first)
    await first.goto(`${w.web}/account`)
    await first.click('summary:has-text("Add a passkey")')
    await first.fill('#key-name', 'laptop')
    await first.fill('#key-code', await w.code('dana'))
    await first.click('button[data-passkey=add]')
    await first.waitForSelector('strong:text-is("laptop")')
    const { credentials } = await cdp.send('WebAuthn.getCredentials', { authenticatorId: id })

    const page = await (await profile(browser)).newPage()
    const second = await authenticator(page)
    await second.cdp.send('WebAuthn.addCredential', {
      authenticatorId: second.id,
      credential: { ...credentials[0]!, signCount: credentials[0]!.signCount + 1 },
    })
    const { typeCode, signedIn: done } = await asked(page)
    await page.click('button[data-passkey=sign-in]')
    await page.waitForSelector('#user_code')
    await typeCode()
    await page.click('button[data-passkey=factor]')
    assert.deepEqual(await done(), ['dana', 'passkey'])
  })
})
