import assert from 'node:assert/strict'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { findIdentity } from '../../src/identity/directory.ts'
import type { Member } from '../parts/house.ts'
import { profile } from './chromium.ts'
import type { World } from './world.ts'

export const SESSION = '__Host-chaperone-session'

/** What people do in a browser, in the words of the tests. Both are asked for late: a suite makes them in `before`. */
export function visitor(parts: () => { readonly w: World; readonly browser: Browser }) {
  const factor = async (name: string, member: Member) => member.api.call('POST', '/v1/factor', { code: await parts().w.code(name) })
  return {
    /** A link that makes a browser known. */
    async link(name: string, member: Member): Promise<string> {
      await factor(name, member)
      return (await member.api.call<{ url: string }>('POST', '/v1/browsers/link', {})).url
    },

    /** Opens a link that carries a secret: nothing happens until the person says so. */
    async follow(page: Page, url: string): Promise<void> {
      await page.goto('about:blank')
      await page.goto(url)
      assert.equal(await page.inputValue('#secret'), url.slice(url.indexOf('#') + 1))
      assert.ok(!page.url().includes('#'))
      await page.click('button:text-is("Go on")')
    },

    /** A profile of its own in which somebody is signed in. (How he comes in by himself is tested where it is told.) */
    async signedIn(name: string, context?: BrowserContext): Promise<Page> {
      const { w, browser } = parts()
      const identity = await findIdentity(w.server.parts.store.db, { name })
      const { secret } = await w.server.parts.browsers.begin(identity!)
      const page = await (context ?? (await profile(browser))).newPage()
      await page.context().addCookies([{ name: SESSION, value: secret, url: w.web, httpOnly: true, secure: true, sameSite: 'Strict' }])
      return page
    },

    state: async (id: string): Promise<string> =>
      (await parts().w.server.parts.store.db.selectFrom('requests').select('state').where('id', '=', id).executeTakeFirstOrThrow()).state,

    async approve(page: Page, code: string): Promise<void> {
      await page.fill('#approve-code', code)
      // The page that stands there already has an alert, too: what comes back is a new one.
      await Promise.all([page.waitForEvent('load'), page.click('button:text-is("Approve")')])
    },
  }
}
