import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { beginDeviceSignIn, serverOf } from '../../src/client/device-sign-in.ts'
import { begin, CLAUDE } from '../oauth/rig.ts'
import { launch, noChromium, profile } from './chromium.ts'
import { visitor } from './visitor.ts'
import { type World, world } from './world.ts'

/** What brings the rest of the pages: a company to sign in at, and a client that asks its person. */
const MORE = `
kind: directory
name: company
spec: { title: Example Inc., issuer: "https://id.example.com", client_id: chaperone }
---
kind: mcp
name: files
spec: { url: "https://files.example.com/mcp" }
---
kind: oauth-client
name: claude-code
spec: { client_id: "${CLAUDE}", client_name: Claude Code, redirect_uris: ["http://localhost/callback"] }
`

/** WCAG 2.2, level AA, as far as a machine can tell: names, headings, landmarks, contrast, focus, keyboard, a narrow screen. */
describe('the pages for whoever cannot see well, or has no mouse', { skip: noChromium }, () => {
  let browser: Browser
  let w: World
  const rest: (() => Promise<void>)[] = []
  const paths = { call: '', role: '', taken: '' }
  before(async () => {
    w = await world({ after: (work) => void rest.push(work) })
    await w.apply(MORE)
    browser = await launch()
    const { parts } = w.server
    await w.boris.api.call('GET', '/v1/whoami')
    const boris = parts.sessions.list().find((session) => session.principal.name === 'boris')!
    const ask = async (role: string, breakGlass: boolean) =>
      `/requests/${(await parts.requests.ask(boris, { role, forMs: 600_000, reason: 'the shop is down', purpose: 'night shift', breakGlass })).id}`
    const sql = `UPDATE customers\n  SET plan = 'gold', note = '\u200b${'x'.repeat(200)}'\nWHERE id = 42 -- a remark`
    Object.assign(paths, { call: `/requests/${await w.park(sql)}`, role: await ask('writer', false), taken: await ask('fixer', true) })
  })
  after(async () => {
    await browser?.close()
    for (const work of rest.reverse()) await work()
  })
  const { signedIn, link, follow, state } = visitor(() => ({ w, browser }))

  /** Each kind of page, with everything that folds unfolded, and what it looks like after an error. */
  async function each(work: (page: Page, what: string) => Promise<void>): Promise<void> {
    const unfold = (page: Page) => page.evaluate(`for (const one of document.querySelectorAll('details')) one.open = true`)
    const stranger = await (await profile(browser)).newPage()
    for (const path of ['/signin', '/enrol', '/browser', '/device']) {
      await stranger.goto(`${w.web}${path}`)
      await work(stranger, path)
    }
    await follow(stranger, `${w.web}/enrol#${await w.invite('erik')}`)
    await stranger.waitForSelector('svg.qr')
    await unfold(stranger)
    await work(stranger, 'enrol, the code')
    await follow(stranger, await link('dana', w.dana))
    await stranger.waitForURL(`${w.web}/signin`)
    await stranger.fill('#code', await w.wrongCode('dana'))
    await stranger.click('button:text-is("Sign in")')
    await stranger.waitForSelector('#alert:not([hidden])')
    await work(stranger, 'sign-in, refused')
    const page = await signedIn('dana', stranger.context())
    for (const path of ['/requests', paths.call, paths.role, paths.taken, '/account', '/account/delegations', '/requests/nothing']) {
      await page.goto(`${w.web}${path}`)
      await unfold(page)
      await work(page, path)
    }
    await page.goto(`${w.web}${paths.call}`)
    await page.click('button:text-is("Approve")')
    await page.waitForSelector('#alert:not([hidden])')
    await work(page, 'a decision without a code')
    await page.goto(`${w.web}/oauth/authorize?${begin({ resource: `${w.web}/mcp/files` }).query}`)
    await unfold(page)
    await work(page, 'consent')
    await page.click('button:text-is("Agree")')
    await page.waitForSelector('#alert:not([hidden])')
    await work(page, 'consent without a code')
    await page.goto(`${w.web}/device`)
    await work(page, '/device, signed in')
    const terminal = await beginDeviceSignIn(await serverOf(w.server.parts.places.line, () => assert.fail('it is named')))
    rest.push(async () => terminal.close())
    await page.fill('#user_code', terminal.code)
    await page.keyboard.press('Enter')
    await page.waitForSelector('#device-code')
    await work(page, 'a terminal')
    await page.click('button:text-is("Yes, this is my terminal")')
    await page.waitForSelector('#alert:not([hidden])')
    await work(page, 'a terminal without a code')
    await stranger.context().close()
  }

  test('every control has a name, every page a title, a language, one main heading, and headings and landmarks in order', async () => {
    const titles = new Map<string, string>()
    await each(async (page, what) => {
      const cdp = await page.context().newCDPSession(page)
      const { nodes } = (await cdp.send('Accessibility.getFullAXTree')) as unknown as { nodes: Node[] }
      const seen = nodes.filter(({ ignored }) => !ignored)
      const of = (...roles: string[]) => seen.filter(({ role }) => roles.includes(role?.value ?? ''))
      const controls = of('button', 'link', 'textbox', 'checkbox', 'combobox', 'DisclosureTriangle', 'image', 'img')
      assert.ok(controls.length > 0, what)
      for (const { role, name } of controls) assert.ok(name?.value?.trim(), `${what}: a ${role?.value} without a name`)
      const buttons = of('button').map(({ name }) => name?.value)
      assert.deepEqual(buttons.length, new Set(buttons).size, `${what}: two buttons that sound alike: ${buttons.join(', ')}`)
      for (const role of ['main', 'banner', 'contentinfo']) assert.equal(of(role).length, 1, `${what}: ${role}`)
      const levels = of('heading').map(({ properties = [] }) => Number(properties.find(({ name }) => name === 'level')?.value.value))
      assert.equal(levels.filter((level) => level === 1).length, 1, `${what}: one main heading`)
      levels.forEach((level, i) => {
        assert.ok(level <= (levels[i - 1] ?? 0) + 1, `${what}: headings ${levels.join(' ')}`)
      })
      assert.equal(await page.evaluate('document.documentElement.lang'), 'en')
      const title = await page.title()
      const heading = await page.textContent('h1')
      assert.ok(title.length > 'Chaperone'.length + 3, what)
      if (titles.has(title)) assert.equal(titles.get(title), heading, `${title} names two pages`)
      titles.set(title, heading ?? '')
      // What is said to be wrong is heard at once, and says what it is about.
      assert.equal(await page.locator('[role=alert]').count(), 1, what)
      await cdp.detach()
    })
  })

  test('what is written stands out, in light and in dark; a screen of 320 pixels needs no sideways scrolling, and what is touched is large enough', async () => {
    await each(async (page, what) => {
      for (const colorScheme of ['dark', 'light'] as const) {
        await page.emulateMedia({ colorScheme })
        assert.deepEqual(await page.evaluate(FAINT), [], `${what}, ${colorScheme}`)
      }
      const before = page.viewportSize()!
      await page.setViewportSize({ width: 320, height: 800 })
      assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= 320, what)
      assert.deepEqual(await page.evaluate(SMALL), [], what)
      // Letters of twice the size, in a window of half the width (WCAG 1.4.4).
      await page.setViewportSize({ width: 640, height: 800 })
      await page.evaluate("document.documentElement.style.fontSize = '200%'")
      assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= 640, `${what}, letters of twice the size`)
      await page.evaluate("document.documentElement.style.fontSize = ''")
      await page.setViewportSize(before)
    })
  })

  test('the keyboard reaches everything, in the order in which it is read, and one sees where it is', async () => {
    await each(async (page, what) => {
      const expected = await page.evaluate<number>(MARK)
      await page.evaluate('document.activeElement?.blur(), getSelection()?.removeAllRanges(), window.scrollTo(0, 0)')
      const order: number[] = []
      // One more: between the last and the first it leaves the page.
      for (let i = 0; i <= expected && order.length < expected; i++) {
        await page.keyboard.press('Tab')
        const { mark, shown } = await page.evaluate<{ mark: number; shown: boolean }>(FOCUSED)
        if (mark === -1) continue
        order.push(mark)
        assert.ok(shown, `${what}: the focus is not seen on number ${mark}`)
      }
      const sorted = [...order].sort((a, b) => a - b)
      const start = order.indexOf(0)
      assert.deepEqual([...order.slice(start), ...order.slice(0, start)], sorted, what)
      assert.equal(new Set(order).size, expected, what)
    })
  })

  test('with the keyboard alone one comes in, reads what will run, and decides', async () => {
    const id = await w.park('UPDATE customers SET keyed = 1')
    const context = await profile(browser)
    const page = await context.newPage()
    await page.goto(await link('dana', w.dana))
    // The secret is in its field, and the button that goes on has the focus.
    await page.keyboard.press('Enter')
    await page.waitForURL(`${w.web}/signin`)
    const toward = async (selector: string) => {
      for (let i = 0; i < 40; i++) {
        if (await page.evaluate(`document.activeElement.matches(${JSON.stringify(selector)})`)) return
        await page.keyboard.press('Tab')
      }
      assert.fail(`the keyboard does not reach ${selector}`)
    }
    await toward('#code')
    await page.keyboard.type(await w.code('dana'))
    await page.keyboard.press('Enter')
    await page.waitForURL(`${w.web}/requests`)
    await toward(`a[href="/requests/${id}"]`)
    await page.keyboard.press('Enter')
    await page.waitForURL(`${w.web}/requests/${id}`)
    await toward('#approve-code')
    await page.keyboard.press('Enter')
    await page.waitForSelector('#alert:not([hidden])')
    assert.ok(await page.evaluate(`document.activeElement.closest('#alert') !== null`), 'the focus goes to what went wrong')
    await toward('#approve-code')
    await page.keyboard.type(await w.code('dana'))
    await page.keyboard.press('Enter')
    await page.waitForSelector('.state.approved')
    assert.equal(await state(id), 'approved')
    await context.close()
  })
})

interface Node {
  readonly ignored: boolean
  readonly role?: { readonly value: string }
  readonly name?: { readonly value?: string }
  readonly properties?: readonly { readonly name: string; readonly value: { readonly value: unknown } }[]
}

// As text: the compiler here knows nothing of a browser's objects.

/** Visible texts, and edges of fields, with too little contrast (WCAG 1.4.3, 1.4.11). */
const FAINT = `(() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number)
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a))
  const luminance = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
  const contrast = (one, other) => { const [a, b] = [luminance(one), luminance(other)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05) }
  const ground = (element) => {
    const all = []
    for (let one = element; one; one = one.parentElement) all.push(numbers(getComputedStyle(one).backgroundColor))
    const dark = matchMedia('(prefers-color-scheme: dark)').matches
    return all.reverse().reduce((under, color) => over(color, under), dark ? [0, 0, 0] : [255, 255, 255])
  }
  const faint = []
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement
    if (texts.currentNode.data.trim() === '' || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue
    const style = getComputedStyle(element)
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700)
    const under = ground(element)
    const ratio = contrast(over(numbers(style.color), under), under)
    if (ratio < (large ? 3 : 4.5)) faint.push(texts.currentNode.data.trim().slice(0, 40) + ' ' + ratio.toFixed(2))
  }
  for (const field of document.querySelectorAll('input:not([type=hidden]):not([type=checkbox]), select, textarea')) {
    if (!field.checkVisibility()) continue
    const under = ground(field.parentElement)
    const ratio = contrast(over(numbers(getComputedStyle(field).borderTopColor), under), under)
    if (ratio < 3) faint.push('the edge of ' + field.id + ' ' + ratio.toFixed(2))
  }
  return faint
})()`

/** What is touched and is smaller than 24 pixels each way, links within a text apart (WCAG 2.5.8). */
const SMALL = `[...document.querySelectorAll('button, input:not([type=hidden]), select, textarea, summary, nav a, .plain a, .brand')]
  .filter((one) => one.checkVisibility())
  .map((one) => [one, one.type === 'checkbox' ? one.labels[0].getBoundingClientRect() : one.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 23.5 || height < 23.5)
  .map(([one, { width, height }]) => one.outerHTML.slice(0, 80) + ' ' + width.toFixed(1) + 'x' + height.toFixed(1))`

/** Numbers what can have the focus as it stands in the document. Returns how many there are. */
const MARK = `(() => {
  const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')]
    .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled)
  all.forEach((one, i) => { one.dataset.mark = String(i) })
  return all.length
})()`

const FOCUSED = `(() => {
  const one = document.activeElement
  const style = getComputedStyle(one)
  const { left, top, width, height } = one.getBoundingClientRect()
  const inside = left > -1 && top + height > 0 && left < innerWidth && top < innerHeight && width > 0
  return { mark: Number(one.dataset.mark ?? -1), shown: inside && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 }
})()`
