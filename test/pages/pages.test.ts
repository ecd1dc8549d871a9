import assert from 'node:assert/strict'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { after, before, describe, test } from 'node:test'
import type { Browser } from 'playwright-core'
import { fakeAuthority } from '../fakes/authority.ts'
import { ask } from '../parts/house.ts'
import { authenticator, launch, noChromium, profile } from './chromium.ts'
import { SESSION, visitor } from './visitor.ts'
import { codeNow, secretOf, type World, world } from './world.ts'

const HOSTILE = `</pre><script>document.title='taken'</script><img src=x onerror="document.title='taken'">"'&amp;\u202e`

/** In a real browser, against a whole server: what a person sees and can do, and what somebody else cannot. */
describe('approving in the browser', { skip: noChromium }, () => {
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

  const { link, follow, signedIn, state, approve } = visitor(() => ({ w, browser }))

  test('rule 12: a stolen cookie alone decides nothing and enrols no key', async () => {
    const id = await w.park('UPDATE customers SET stolen = true')
    const page = await signedIn('dana')
    // The person has just decided about another one, with a factor of this very minute.
    await page.goto(`${w.web}/requests/${await w.park('UPDATE customers SET other = 1')}`)
    await approve(page, await w.code('dana'))
    await page.waitForSelector('.state.approved')
    const cookies = await page.context().cookies()
    const thief = await profile(browser)
    await thief.addCookies(cookies)
    const stolen = await thief.newPage()
    await stolen.goto(`${w.web}/requests/${id}`)
    await approve(stolen, '')
    assert.match((await stolen.textContent('#alert'))!, /Give a code/)
    assert.equal(await state(id), 'pending')
    await authenticator(stolen)
    await stolen.goto(`${w.web}/account`)
    await stolen.click('summary:has-text("Add a passkey")')
    await stolen.fill('#key-name', 'mine now')
    await stolen.click('button[data-passkey=add]')
    await stolen.waitForSelector('#alert:not([hidden])')
    assert.deepEqual(await w.server.parts.store.db.selectFrom('passkeys').select('id').where('name', '=', 'mine now').execute(), [])
    await thief.close()
  })

  test('rule 12: what is decided is what was shown: a page that is older than its request decides nothing, and uses up no code', async () => {
    const id = await w.park('UPDATE customers SET shown = 1')
    const page = await signedIn('dana')
    await page.goto(`${w.web}/requests/${id}`)
    await page.evaluate(`for (const one of document.querySelectorAll('input[name=seen]')) one.value = '${'0'.repeat(64)}'`)
    const code = await w.code('dana')
    await approve(page, code)
    assert.match((await page.textContent('#alert'))!, /has changed/)
    assert.equal(await state(id), 'pending')
    await approve(page, code)
    await page.waitForSelector('.state.approved')
  })

  test('rule 12: nobody decides about what his own agent asks for; he sees it, and may take it back', async () => {
    const id = await w.park('UPDATE customers SET own = 1')
    const page = await signedIn('boris')
    await page.goto(`${w.web}/requests/${id}`)
    assert.match((await page.textContent('main'))!, /Nobody decides about what his own agent asks for/)
    assert.equal(await page.locator('form[action$="/decide"]').count(), 0)
    const { seen } = await w.server.parts.requests.show(
      w.server.parts.sessions.list().find((one) => one.how === 'browser' && one.principal.name === 'boris')!,
      id,
    )
    // The form that he was not given.
    await page.evaluate(`
      const form = document.querySelector('form[action$="/withdraw"]')
      form.action = form.action.replace('withdraw', 'decide')
      for (const [name, value] of Object.entries({ seen: '${seen}', verdict: 'approve', code: '${await w.code('boris')}' })) {
        const field = document.createElement('input')
        Object.assign(field, { name, value })
        form.append(field)
      }
      form.submit()`)
    await page.waitForSelector('#alert:not([hidden])')
    assert.equal(await state(id), 'pending')
    await page.click('button:has-text("Withdraw it")')
    await page.waitForSelector('.state.withdrawn')
  })

  test('a link that was sent on shows the sign-in in another browser, and one for a browser works once', async () => {
    const id = await w.park('UPDATE customers SET leaked = 1')
    const stranger = await (await profile(browser)).newPage()
    const [real, made] = [`${w.web}/requests/${id}`, `${w.web}/requests/req_${'0'.repeat(26)}`]
    const texts: string[] = []
    for (const url of [real, made]) {
      await stranger.goto(url)
      texts.push((await stranger.content()).replaceAll(url.slice(-30), 'ID'))
    }
    assert.equal(texts[0], texts[1])
    const url = await link('dana', w.dana)
    await follow(stranger, url)
    await stranger.waitForURL(`${w.web}/signin`)
    const second = await (await profile(browser)).newPage()
    await follow(second, url)
    await second.waitForSelector('#alert:not([hidden])')
    assert.match((await second.textContent('#alert'))!, /unknown, used or expired/)
  })

  test('who has no right to a request sees what does not exist', async () => {
    const id = await w.park('UPDATE customers SET hidden = 1')
    const page = await (await profile(browser)).newPage()
    const secret = await w.invite('erik')
    await follow(page, `${w.web}/enrol#${secret}`)
    await page.waitForSelector('svg.qr')
    await page.click('summary')
    await page.fill('#code', codeNow(secretOf((await page.textContent('details pre'))!)))
    await page.click('button:has-text("Sign in")')
    await page.waitForURL(`${w.web}/requests`)
    const seen = []
    for (const path of [id, `req_${'0'.repeat(26)}`, 'nonsense']) {
      const answer = await page.goto(`${w.web}/requests/${path}`)
      seen.push([answer!.status(), await page.content()])
    }
    assert.equal(seen[0]![0], 404, String(seen[0]![1]))
    assert.deepEqual(seen[0], seen[1])
    assert.deepEqual(seen[0], seen[2])
  })

  test('a click on a link elsewhere just works for who is signed in', async (t) => {
    const id = await w.park('UPDATE customers SET clicked = 1')
    const page = await signedIn('dana')
    const chat = await otherSite(`<a href="${w.web}/requests/${id}">decide</a>`)
    t.after(chat.close)
    await page.goto(chat.url.replace('localhost', '127.0.0.1'))
    await page.click('a')
    await page.waitForSelector('.runs')
    assert.equal(await page.textContent('.runs pre'), 'UPDATE customers SET clicked = 1')
  })

  test('another page of the same site, with the cookies and the very form, decides nothing', async (t) => {
    const id = await w.park('UPDATE customers SET forged = 1')
    const page = await signedIn('dana')
    await page.goto(`${w.web}/requests/${id}`)
    const fields: Record<string, string> = { code: await w.code('dana') }
    for (const name of ['token', 'seen', 'verdict']) fields[name] = (await page.getAttribute(`input[name=${name}]`, 'value'))!
    const form = (more: Record<string, string>) =>
      `<form method="post" action="${w.web}/requests/${id}/decide">${Object.entries({ ...fields, ...more }).map(([name, value]) => `<input name="${name}" value="${value}">`)}<button>go</button></form>`
    // On another port of the same host: for SameSite=Strict that is the same site, so the cookies are sent.
    const evil = await otherSite(form({}))
    t.after(evil.close)
    await page.goto(evil.url)
    const [answer] = await Promise.all([page.waitForResponse((response) => response.url().endsWith('/decide')), page.click('button')])
    assert.ok((await answer.request().allHeaders()).cookie?.includes(SESSION), 'else this proves nothing')
    assert.equal(answer.status(), 403)
    assert.equal(await state(id), 'pending')
    // Of our own origin, without the token of this session.
    await page.goto(`${w.web}/requests/${id}`)
    await page.evaluate(`document.querySelector('main input[name=token]').setAttribute('value', 'x')`)
    await approve(page, await w.code('dana'))
    assert.match((await page.textContent('#alert'))!, /not of your session/)
    assert.equal(await state(id), 'pending')
  })

  test('what others wrote is text, wherever it stands, and what cannot be seen is written out', async () => {
    const { parts } = w.server
    await w.boris.api.call('GET', '/v1/whoami')
    const boris = parts.sessions.list().find((session) => session.principal.name === 'boris')!
    const asked = await parts.requests.ask(boris, { role: 'writer', forMs: 600_000, reason: HOSTILE, purpose: HOSTILE })
    const id = await w.park(`UPDATE customers SET name = '${HOSTILE.replaceAll("'", "''")}' -- \u200b${'\n'.repeat(60)}, admin = true`, {
      title: HOSTILE,
    })
    const page = await signedIn('dana')
    for (const one of [id, asked.id]) {
      await page.goto(`${w.web}/requests/${one}`)
      await page.waitForSelector('main h1')
      assert.doesNotMatch(await page.title(), /taken/)
      assert.equal(await page.locator('main script, main img').count(), 0)
    }
    assert.ok((await page.textContent('main'))!.includes(`onerror="document.title='taken'">"'&amp;⟨U+202E⟩`))
    await page.goto(`${w.web}/requests/${id}`)
    assert.deepEqual(await page.locator('.runs pre').last().locator('.odd').allTextContents(), ['⟨U+202E⟩', '⟨U+200B⟩', '⟨59 empty lines⟩'])
  })

  test('rule 12: letters that run from right to left do not change the order in which the rest is read', async () => {
    const sql = "UPDATE customers SET (name, credit, debt) = ('א', 20, 1000)"
    const id = await w.park(sql)
    const page = await signedIn('dana')
    await page.goto(`${w.web}/requests/${id}`)
    await page.waitForSelector('.runs pre')
    // As text: the compiler here knows nothing of a browser's objects.
    const seen = await page.evaluate<string>(`(() => {
      const letters = []
      const texts = document.createTreeWalker(document.querySelector('.runs pre'), NodeFilter.SHOW_TEXT)
      while (texts.nextNode()) {
        const text = texts.currentNode
        for (let i = 0; i < text.length; i++) {
          const range = document.createRange()
          range.setStart(text, i)
          range.setEnd(text, i + 1)
          letters.push({ at: range.getBoundingClientRect().left, letter: text.data[i] })
        }
      }
      return letters.sort((a, b) => a.at - b.at).map(({ letter }) => letter).join('')
    })()`)
    assert.equal(seen, sql)
  })

  test('an open page shows by itself that somebody else has decided; what is being typed is not lost', async () => {
    const id = await w.park('UPDATE customers SET watched = 1')
    const [one, two] = [await signedIn('dana'), await signedIn('dana')]
    const typing = await one.context().newPage()
    await one.goto(`${w.web}/requests/${id}`)
    await typing.goto(`${w.web}/requests/${id}`)
    await typing.fill('#approve-code', '123')
    await two.goto(`${w.web}/requests/${id}`)
    await approve(two, await w.code('dana'))
    await one.waitForSelector('.state.approved')
    await typing.waitForSelector('#alert:not([hidden])')
    assert.equal(await typing.inputValue('#approve-code'), '123')
  })

  test('rule 6: a session that is ended elsewhere is over in the browser at once, its stream too', async () => {
    const page = await signedIn('dana')
    await page.goto(`${w.web}/requests`)
    const { sessions } = await w.dana.api.call<{ sessions: { id: string; how: string }[] }>('GET', '/v1/sessions')
    const mine = sessions.filter((one) => one.how === 'browser')
    const over = page.waitForEvent('requestfinished', (request) => request.url().endsWith('/events')).catch(() => undefined)
    for (const { id } of mine) await w.dana.api.call('DELETE', `/v1/sessions/${id}`)
    await over
    const answer = await page.goto(`${w.web}/requests`)
    assert.equal(answer!.status(), 401)
    assert.equal(await page.textContent('h1'), 'Sign in')
  })

  test('the cookies open nothing but the pages, and neither a certificate nor a token opens a page', async () => {
    const page = await signedIn('dana')
    const cookie = (await page.context().cookies()).map(({ name, value }) => `${name}=${value}`).join('; ')
    const { addresses } = w.server
    for (const path of ['/mcp', '/mcp/files', '/metrics?x', '/v1/whoami']) {
      const answer = await ask(addresses.web, path, { headers: { cookie, host: 'localhost' }, method: path.startsWith('/mcp') ? 'POST' : 'GET' })
      assert.equal(answer.status, path.startsWith('/metrics') ? 200 : 401, path)
    }
    assert.equal((await ask(addresses.data, '/v1/whoami', { headers: { cookie } })).status, 401)
    const { key, certificate } = w.dana.profile
    const withKey = { key, cert: certificate }
    assert.equal((await ask(addresses.web, '/requests', withKey)).status, 401)
    assert.notEqual((await ask(addresses.data, '/requests', { ...withKey, headers: { cookie } })).status, 200)
  })

  test('it works without JavaScript, passkeys apart', async () => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, javaScriptEnabled: false })
    const page = await context.newPage()
    const url = await link('dana', w.dana)
    await page.goto(`${w.web}/browser`)
    await page.fill('#secret', url)
    await page.click('button')
    await page.fill('#code', await w.code('dana'))
    await page.click('button:has-text("Sign in")')
    await page.waitForURL(`${w.web}/requests`)
    const id = await w.park('UPDATE customers SET plain = 1')
    await page.goto(`${w.web}/requests/${id}`)
    assert.equal(await page.locator('button[data-passkey]:visible').count(), 0)
    await approve(page, await w.code('dana'))
    await page.waitForSelector('.state.approved')
    await context.close()
  })

  test('no page can be framed, none loads anything from elsewhere, and a narrow screen needs no sideways scrolling', async (t) => {
    const page = await signedIn('dana', await profile(browser, { width: 360, height: 740 }))
    const foreign: string[] = []
    page.on('request', (request) => {
      if (!request.url().startsWith(w.web)) foreign.push(request.url())
    })
    const complaints: string[] = []
    page.on('console', (message) => void (message.type() === 'error' && complaints.push(message.text())))
    const id = await w.park(`UPDATE customers SET long = '${'x'.repeat(300)}'`)
    for (const path of ['/requests', `/requests/${id}`, '/account']) {
      await page.goto(`${w.web}${path}`)
      assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= 360, path)
      // Every field has a label, every control a name.
      assert.deepEqual(
        await page.evaluate(
          `[...document.querySelectorAll('input:not([type=hidden]), select, textarea')].filter((field) => field.labels.length !== 1).map((field) => field.name)`,
        ),
        [],
      )
    }
    assert.deepEqual([foreign, complaints], [[], []])
    const framer = await otherSite(`<iframe src="${w.web}/signin"></iframe>`)
    t.after(framer.close)
    await page.goto(framer.url)
    const frame = page.frames().find((one) => one !== page.mainFrame())!
    await frame.waitForLoadState()
    assert.equal(await frame.locator('form').count(), 0)
  })
})

/** A page at `https://localhost` on another port. */
async function otherSite(body: string): Promise<{ url: string; close: () => Promise<void> }> {
  const authority = await fakeAuthority()
  const { key, certificate } = await authority.issue(['localhost'])
  const server = createServer({ key, cert: certificate }, (_, response) => {
    response.setHeader('Content-Type', 'text/html')
    response.end(`<!doctype html>${body}`)
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}/`,
    close: () =>
      new Promise((done) => {
        server.close(() => done())
        server.closeAllConnections()
      }),
  }
}
