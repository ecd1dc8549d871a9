import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { findIdentity } from '../../src/identity/directory.ts'
import { launch, noChromium, profile } from '../pages/chromium.ts'
import { begin, rig } from './rig.ts'

test('in a real browser: from another site, over the sign-in cookie, the page and its policy, back to the client; without script', {
  skip: noChromium,
}, async (t) => {
  const r = await rig(t)
  const arrived = Promise.withResolvers<URL>()
  // The client's own page, on another site than ours, and where it waits for the answer.
  const client = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost')
    if (url.pathname === '/callback') arrived.resolve(url)
    response.setHeader('content-type', 'text/html')
    response.end(
      url.pathname === '/callback'
        ? '<h1>Signed in</h1>'
        : `<a id="go" href="https://${r.web}/oauth/authorize?${flow.query.replaceAll('&', '&amp;')}">Sign in</a>`,
    )
  })
  await new Promise<void>((done) => void client.listen(0, '127.0.0.1', done))
  t.after(() => void client.close())
  const { port } = client.address() as AddressInfo
  const flow = begin({ resource: r.resource(), redirect_uri: `http://127.0.0.1:${port}/callback` })

  const browser = await launch()
  t.after(() => browser.close())
  const context = await browser.newContext({ ignoreHTTPSErrors: true, javaScriptEnabled: false })
  const identity = await findIdentity(r.home.server.parts.store.db, { name: 'boris' })
  const { secret } = await r.home.server.parts.browsers.begin(identity!)
  await context.addCookies([
    { name: '__Host-chaperone-session', value: secret, url: `https://${r.web}`, httpOnly: true, secure: true, sameSite: 'Strict' },
  ])
  const page = await context.newPage()
  await page.goto(`http://127.0.0.1:${port}/`)
  await page.click('#go')
  await page.waitForSelector('h1:text-is("Claude Code wants to act for you")')
  assert.ok(await page.getByText('Any program on this computer').isVisible())
  await page.click('button:text-is("Agree")')
  await page.waitForSelector('#alert:not([hidden])')
  await page.fill('#consent-code', await r.code('boris'))
  await page.click('button:text-is("Agree")')
  await page.waitForSelector('h1:text-is("Signed in")')
  const back = await arrived.promise
  assert.equal(back.searchParams.get('state'), flow.state)
  assert.ok(back.searchParams.get('code'))
  const left = (await context.cookies()).map(({ name }) => name)
  assert.ok(!left.includes('__Host-chaperone-oauth-none'), left.join(' '))
})

test('the consent page for whoever cannot see well, or has no mouse', { skip: noChromium }, async (t) => {
  const r = await rig(t)
  const browser = await launch()
  t.after(() => browser.close())
  const context = await profile(browser, { width: 320, height: 700 })
  const identity = await findIdentity(r.home.server.parts.store.db, { name: 'boris' })
  const { secret } = await r.home.server.parts.browsers.begin(identity!)
  await context.addCookies([
    { name: '__Host-chaperone-session', value: secret, url: `https://${r.web}`, httpOnly: true, secure: true, sameSite: 'Strict' },
  ])
  const page = await context.newPage()
  await page.goto(`https://${r.web}/oauth/authorize?${begin({ resource: r.resource() }).query}`)
  await page.waitForSelector('h1')
  assert.equal(await page.evaluate('document.documentElement.scrollWidth <= window.innerWidth'), true)
  const cdp = await context.newCDPSession(page)
  const { nodes } = (await cdp.send('Accessibility.getFullAXTree')) as unknown as {
    nodes: { ignored: boolean; role?: { value: string }; name?: { value: string } }[]
  }
  const controls = nodes.filter(({ ignored, role }) => !ignored && ['button', 'textbox', 'checkbox', 'combobox'].includes(role?.value ?? ''))
  assert.ok(controls.length >= 5)
  for (const { role, name } of controls) assert.ok(name?.value.trim(), `a ${role?.value} without a name`)
})
