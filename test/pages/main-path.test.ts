import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Browser } from 'playwright-core'
import { startPostgres } from '../../src/demo/postgres.ts'
import { toChaperoneError } from '../../src/errors.ts'
import { ask } from '../parts/house.ts'
import { authenticator, launch, noChromium, profile } from './chromium.ts'
import { visitor } from './visitor.ts'
import { codeNow, secretOf, type World, world } from './world.ts'

/** What everybody does on the pages, over both stores: in a real browser, and by what a browser sends. */

const dir = await mkdtemp(join(tmpdir(), 'chaperone-pages-'))
const began = await startPostgres({ dir }).catch(toChaperoneError)
after(async () => {
  if ('stop' in began) await began.stop()
  await rm(dir, { recursive: true, force: true, maxRetries: 10 })
})

const inBrowser = { skip: noChromium }
const STORES = [
  { kept: 'SQLite', options: {}, skip: false },
  {
    kept: 'PostgreSQL',
    options: 'stop' in began ? { store: began.superuserUrl } : {},
    skip: 'stop' in began ? false : `no PostgreSQL here: ${began.message}`,
  },
]

for (const { kept, options, skip } of STORES) {
  describe(`approving in the browser, kept in ${kept}`, { skip }, () => {
    let browser: Browser
    let w: World
    const rest: (() => Promise<void>)[] = []
    before(async () => {
      w = await world({ after: (work) => void rest.push(work) }, options)
      if (noChromium === false) browser = await launch()
    })
    after(async () => {
      await browser?.close()
      for (const work of rest.reverse()) await work()
    })

    const { link, follow, signedIn, state, approve } = visitor(() => ({ w, browser }))

    test(
      'an invitation opened in a browser enrols a second factor, makes the browser known, and signs in; its secret is in no request line',
      inBrowser,
      async () => {
        const secret = await w.invite('erik')
        const page = await (await profile(browser)).newPage()
        const asked: string[] = []
        page.on('request', (request) => asked.push(`${request.url()} ${request.headers().referer ?? ''}`))
        await follow(page, `${w.web}/enrol#${secret}`)
        await page.waitForSelector('svg.qr')
        assert.equal(page.url(), `${w.web}/enrol`)
        await page.click('summary')
        const totp = secretOf((await page.textContent('details pre'))!)
        await page.fill('#code', codeNow(totp))
        await page.click('button:has-text("Sign in")')
        await page.waitForURL(`${w.web}/requests`)
        assert.ok((await page.textContent('header'))?.includes('Sign out erik'))
        assert.deepEqual(
          asked.filter((line) => line.includes(secret) && !line.startsWith(`${w.web}/enrol#`)),
          [],
        )
        await follow(page, `${w.web}/enrol#${secret}`)
        await page.waitForSelector('#alert:not([hidden])')
        assert.match((await page.textContent('#alert'))!, /unknown, used or expired/)
      },
    )

    test('a link to a request leads through the sign-in to exactly what will run; a code approves it, and it runs once', inBrowser, async () => {
      const id = await w.park("UPDATE customers SET plan = 'gold'\nWHERE id = 42")
      const page = await (await profile(browser)).newPage()
      await follow(page, await link('dana', w.dana))
      await page.waitForURL(`${w.web}/signin`)
      await page.goto(`${w.web}/requests/${id}`)
      assert.equal((await page.content()).includes('customers'), false, 'not signed in, it says nothing of the request')
      await page.fill('#code', await w.code('dana'))
      await page.click('button:has-text("Sign in")')
      await page.waitForURL(`${w.web}/requests/${id}`)
      // Laid out it may stand above; the last is as it was written.
      assert.equal(await page.locator('.runs pre').last().textContent(), "UPDATE customers SET plan = 'gold'\nWHERE id = 42")
      assert.match((await page.textContent('main'))!, /report-bot, an agent of boris/)
      await approve(page, await w.wrongCode('dana'))
      assert.match((await page.textContent('#alert'))!, /code is wrong/)
      assert.equal(await state(id), 'pending')
      await approve(page, '')
      assert.match((await page.textContent('#alert'))!, /Give a code/)
      await approve(page, await w.code('dana'))
      await page.waitForSelector('.state.approved')
      const vote = await w.server.parts.store.db.selectFrom('request_votes').selectAll().where('request_id', '=', id).executeTakeFirstOrThrow()
      assert.deepEqual([vote.verdict, vote.how], ['approve', 'browser'])
      assert.equal(await w.run("UPDATE customers SET plan = 'gold'\nWHERE id = 42"), 'ran')
      await page.waitForSelector('.state.used')
      assert.notEqual(await w.run("UPDATE customers SET plan = 'gold'\nWHERE id = 42"), 'ran')
      assert.equal(await page.locator('form[action$="/decide"]').count(), 0)
    })

    test('a denial needs its own code as well, and its reason is kept', inBrowser, async () => {
      const id = await w.park('DELETE FROM customers')
      const page = await signedIn('dana')
      await page.goto(`${w.web}/requests/${id}`)
      await page.click('summary:has-text("Deny")')
      await page.fill('#reason', 'not on a Sunday')
      await page.click('button.no:text-is("Deny")')
      await page.waitForSelector('#alert:not([hidden])')
      assert.equal(await page.inputValue('#reason'), 'not on a Sunday')
      await page.fill('#deny-code', await w.code('dana'))
      await page.click('button.no:text-is("Deny")')
      await page.waitForSelector('.state.denied')
      assert.match((await page.textContent('main'))!, /not on a Sunday/)
    })

    test('a passkey is added with a code, signs in in another browser by itself, and says yes to one request', inBrowser, async () => {
      const page = await signedIn('dana')
      const first = await authenticator(page)
      await page.goto(`${w.web}/account`)
      await page.click('summary:has-text("Add a passkey")')
      await page.fill('#key-name', 'laptop')
      await page.fill('#key-code', await w.wrongCode('dana'))
      await page.click('button[data-passkey=add]')
      await page.waitForSelector('#alert:not([hidden])')
      await page.fill('#key-code', await w.code('dana'))
      await page.click('button[data-passkey=add]')
      await page.waitForSelector('strong:text-is("laptop")')
      const { credentials } = await first.cdp.send('WebAuthn.getCredentials', { authenticatorId: first.id })
      assert.equal(credentials.length, 1)

      const id = await w.park('UPDATE customers SET plan = NULL')
      const other = await (await profile(browser)).newPage()
      const second = await authenticator(other)
      await second.cdp.send('WebAuthn.addCredential', {
        authenticatorId: second.id,
        credential: { ...credentials[0]!, signCount: credentials[0]!.signCount + 1 },
      })
      await other.goto(`${w.web}/requests/${id}`)
      assert.equal(await other.locator('#code').count(), 0, 'no field for a code in a browser that nobody knows')
      await other.click('button[data-passkey=sign-in]')
      await other.waitForURL(`${w.web}/requests/${id}`)
      await other.click('button[data-passkey=factor]:has-text("Approve")')
      await other.waitForSelector('.state.approved')
      const used = await w.server.parts.store.db.selectFrom('passkeys').select(['counter', 'last_used_at']).executeTakeFirstOrThrow()
      assert.ok(used.counter > credentials[0]!.signCount)

      // The first one is now a copy that counts less.
      await page.goto(`${w.web}/requests/${await w.park('UPDATE customers SET plan = 1')}`)
      await page.click('button[data-passkey=factor]:has-text("Approve")')
      await page.waitForSelector('#alert:not([hidden])')
      assert.match((await page.textContent('#alert'))!, /not accepted/)
      await page.goto(`${w.web}/account`)
      await page.click('button[aria-label="Remove laptop"]')
      await page.waitForSelector('p:text-is("None yet.")')
    })

    test('what was taken in an emergency is taken away again, and looked at, each with a code of its own', inBrowser, async () => {
      const { parts } = w.server
      await w.boris.api.call('GET', '/v1/whoami')
      const boris = parts.sessions.list().find((session) => session.principal.name === 'boris')!
      const { id } = await parts.requests.ask(boris, { role: 'fixer', forMs: 600_000, breakGlass: true, reason: 'the shop is down' })
      const own = await signedIn('boris')
      await own.goto(`${w.web}/requests/${id}`)
      assert.equal(await own.locator('form[action$="/review"], form[action$="/revoke"]').count(), 0, 'nobody looks at his own')

      const page = await signedIn('dana')
      await page.goto(`${w.web}/requests/${id}`)
      assert.match((await page.textContent('main'))!, /Break-glass, taken/)
      const send = async (what: string, text: string, code: string) => {
        const form = page.locator(`form[action$="/${what}"]`)
        if (!(await form.isVisible())) await page.click(`details:has(form[action$="/${what}"]) > summary`)
        await form.locator('textarea').fill(text)
        await form.locator('input.code').fill(code)
        await Promise.all([page.waitForEvent('load'), form.locator('button').click()])
      }
      await send('revoke', 'the shop is up', '')
      assert.match((await page.textContent('#alert'))!, /Give a code/)
      assert.equal(await state(id), 'approved')
      assert.equal(await page.inputValue('form[action$="/revoke"] textarea'), 'the shop is up', 'what was typed is kept')
      await send('revoke', 'the shop is up', await w.code('dana'))
      await page.waitForSelector('.state.revoked')

      // The code that has just revoked counts for nothing else.
      await send('review', 'one statement, a good one', '')
      assert.match((await page.textContent('#alert'))!, /Give a code/)
      const reviewer = async () => (await parts.requests.show(boris, id)).reviewedBy
      assert.equal(await reviewer(), undefined)
      await send('review', 'one statement, a good one', await w.code('dana'))
      await page.waitForSelector('dd:has-text("looked at by dana")')
      assert.notEqual(await reviewer(), undefined)
      assert.equal(await page.locator('form[action$="/review"]').count(), 0)
    })

    /** A browser without a window: its cookies, and what it sends. */
    function sender() {
      const headers = { host: w.server.parts.places.web, origin: w.web, 'content-type': 'application/x-www-form-urlencoded' }
      const cookies = new Map<string, string>()
      return async (path: string, fields?: Record<string, string>) => {
        const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
        const answer = await ask(w.server.addresses.web, path, {
          headers: { ...headers, ...(cookie === '' ? {} : { cookie }) },
          ...(fields ? { method: 'POST', body: new URLSearchParams(fields).toString() } : {}),
        })
        for (const line of answer.headers['set-cookie'] ?? []) {
          const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!
          if (value === '') cookies.delete(name!)
          else cookies.set(name!, value!)
        }
        return answer
      }
    }

    test('the same by what a browser sends: a link, a code, a form with its token, and out again', async () => {
      const send = sender()
      const value = (text: string, name: string) => new RegExp(`name="${name}" value="([^"]*)"`).exec(text)![1]!

      const sql = 'UPDATE customers SET sent = 1'
      const id = await w.park(sql)
      assert.equal((await send('/browser', { secret: await link('dana', w.dana) })).status, 303)
      assert.equal((await send(`/requests/${id}`)).status, 401)
      const came = await send('/signin', { code: await w.code('dana'), next: `/requests/${id}` })
      assert.deepEqual([came.status, came.headers.location], [303, `/requests/${id}`])
      assert.ok((await send('/requests')).text.includes(id))
      const { text } = await send(`/requests/${id}`)
      const form = { token: value(text, 'token'), seen: value(text, 'seen'), verdict: 'approve' }
      assert.equal((await send(`/requests/${id}/decide`, form)).status, 403)
      assert.equal(await state(id), 'pending')
      assert.equal((await send(`/requests/${id}/decide`, { ...form, code: await w.code('dana') })).status, 303)
      assert.equal(await state(id), 'approved')
      assert.equal(await w.run(sql), 'ran')
      assert.match((await send(`/requests/${id}`)).text, /has run, once/)
      assert.equal((await send('/account')).status, 200)
      assert.equal((await send('/signout', { token: form.token })).status, 303)
      assert.equal((await send('/requests')).status, 401)
    })

    test('where a role allows one session, the page says who holds it, and ends that one only when told to; its own is replaced', async () => {
      await w.apply(
        'kind: role\nname: single\nspec: { sessions: { concurrent: 1 } }\n---\nkind: user\nname: boris\nspec: { roles: [analyst, single] }\n',
      )
      const send = sender()
      assert.equal((await send('/browser', { secret: await link('boris', w.boris) })).status, 303)
      const full = await send('/signin', { code: await w.code('boris') })
      assert.equal(full.status, 429)
      assert.match(full.text, /boris may have one session at a time.*name="end"/s)
      assert.equal((await w.boris.api.call<{ name: string }>('GET', '/v1/whoami')).name, 'boris', 'nothing was ended')
      assert.equal((await send('/signin', { code: await w.code('boris'), end: 'oldest' })).status, 303)
      await assert.rejects(w.boris.api.call('GET', '/v1/whoami'), 'the oldest is over')
      // The page is lost, the browser is the same.
      assert.equal((await send('/signin', { code: await w.code('boris') })).status, 303)
      assert.equal((await send('/requests')).status, 200)
      const open = await w.server.parts.store.db
        .selectFrom('web_sessions')
        .innerJoin('identities', 'identities.id', 'identity_id')
        .select('session_id')
        .where('identities.name', '=', 'boris')
        .where('browser_id', 'is not', null)
        .execute()
      assert.equal(open.length, 1)
    })
  })
}
