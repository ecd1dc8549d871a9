import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WebSession } from '../signin/browser.ts'
import { BROWSER_COOKIE, clearCookie, cookieIn, SESSION_COOKIE, setCookie } from './cookies.ts'
import { decisionIn } from './decide.ts'
import { assertOwn, assertToken, readForm, readJson } from './forms.ts'
import { browserName, nextIn } from './visit.ts'

const OURS = 'https://chaperone.example:7444'
const post = (headers: Record<string, string>, body: string | ReadableStream = '') =>
  new Request(`${OURS}/signin`, { method: 'POST', headers, body, duplex: 'half' } as RequestInit)
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

test('only our own pages post: another port, another scheme, null, or nothing said, and it is refused', () => {
  assertOwn(post({ origin: OURS, 'sec-fetch-site': 'same-origin' }))
  assertOwn(post({ origin: OURS }))
  const wrong = [
    {},
    { 'sec-fetch-site': 'same-origin' },
    { origin: 'null' },
    { origin: 'https://chaperone.example' },
    { origin: 'https://chaperone.example:9999' },
    { origin: 'http://chaperone.example:7444' },
    { origin: 'https://evil.example' },
    { origin: OURS, 'sec-fetch-site': 'same-site' },
    { origin: OURS, 'sec-fetch-site': 'cross-site' },
  ]
  for (const headers of wrong)
    assert.throws(() => assertOwn(post(headers as Record<string, string>)), { code: 'foreign_origin' }, JSON.stringify(headers))
})

test('a form is of the very session', () => {
  const web = { token: 'abc' } as WebSession
  assertToken(web, 'abc')
  for (const given of ['', 'abd', 'abcd', undefined, null]) assert.throws(() => assertToken(web, given), { code: 'foreign_origin' })
})

test('a form is read in one way: nothing twice, nothing of another type, nothing huge', async () => {
  assert.deepEqual(
    [...(await readForm(post(FORM, 'a=1&b=x+y%0A')))],
    [
      ['a', '1'],
      ['b', 'x y\n'],
    ],
  )
  await assert.rejects(readForm(post(FORM, 'verdict=deny&verdict=approve')), { code: 'ambiguous' })
  await assert.rejects(readForm(post({ 'content-type': 'text/plain' }, 'a=1')), { code: 'malformed' })
  await assert.rejects(readForm(post({ 'content-type': 'multipart/form-data; boundary=x' }, '')), { code: 'malformed' })
  await assert.rejects(readForm(post(FORM, `a=${'x'.repeat(70_000)}`)), { code: 'too_large' })
  await assert.rejects(readForm(post(FORM, Array.from({ length: 40 }, (_, i) => `f${i}=1`).join('&'))), { code: 'too_large' })
  await assert.rejects(readJson(post(FORM, '{}')), { code: 'malformed' })
  await assert.rejects(readJson(post({ 'content-type': 'application/json' }, '{"a":1,"a":2}')), { code: 'ambiguous' })
  await assert.rejects(readJson(post({ 'content-type': 'application/json' }, '[]')), { code: 'malformed' })
})

test('a cookie is of this host alone, unreadable for scripts, and sent by our own pages only', () => {
  const set = setCookie(SESSION_COOKIE, { secret: 'x'.repeat(43), expiresAt: 61_500 }, 1000)
  assert.equal(set, `__Host-chaperone-session=${'x'.repeat(43)}; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Strict`)
  assert.match(clearCookie(BROWSER_COOKIE), /^__Host-chaperone-browser=; Path=\/; Max-Age=0; Secure; HttpOnly; SameSite=Strict$/)
})

test('a cookie that is there twice is not there', () => {
  assert.equal(cookieIn(`a=1; ${SESSION_COOKIE}=s; b=2`, SESSION_COOKIE), 's')
  assert.equal(cookieIn(`${SESSION_COOKIE}=s; ${SESSION_COOKIE}=t`, SESSION_COOKIE), undefined)
  for (const header of [null, '', SESSION_COOKIE, `x${SESSION_COOKIE}=s`]) assert.equal(cookieIn(header, SESSION_COOKIE), undefined)
})

test('after signing in it goes on to one of our own pages, never elsewhere', () => {
  for (const path of ['/requests', '/account', `/requests/req_${'0'.repeat(26)}`]) assert.equal(nextIn(path), path)
  for (const path of [
    '//evil.example',
    'https://evil.example',
    '/\\evil.example',
    '/requests/../x',
    '/requests?x',
    '/signout',
    '',
    undefined,
    null,
    `/requests/req_${'0'.repeat(26)}\n`,
  ])
    assert.equal(nextIn(path), '/requests', String(path))
})

test('a decision says yes or no, to what was shown, for a time that is one', () => {
  const field = (fields: Readonly<Record<string, string | undefined>>) => (name: string) => fields[name]
  const basic = { verdict: 'approve', seen: 'a'.repeat(64) }
  assert.deepEqual(decisionIn(field(basic)), { verdict: 'approve', seen: 'a'.repeat(64), how: 'browser' })
  assert.deepEqual(decisionIn(field({ ...basic, for: '60000', below: 'yes', reason: ' a\r\nb ' })), {
    ...basic,
    forMs: 60_000,
    below: true,
    reason: 'a\nb',
    how: 'browser',
  })
  for (const wrong of [
    { verdict: 'yes' },
    { verdict: '' },
    { seen: '' },
    { seen: 'x' },
    { for: '-1' },
    { for: '1e9' },
    { for: '0' },
    { reason: 'x'.repeat(501) },
  ])
    assert.throws(() => decisionIn(field({ ...basic, ...wrong })), { code: 'usage' }, JSON.stringify(wrong))
})

test('a browser is called what it calls itself, in two words', () => {
  assert.equal(
    browserName('Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36'),
    'Chrome on Linux',
  )
  assert.equal(browserName('Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) Gecko/20100101 Firefox/150.0'), 'Firefox on macOS')
  assert.equal(browserName('<script>'), 'A browser')
  assert.equal(browserName(null), 'A browser')
})
