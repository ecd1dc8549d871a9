import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { request } from 'node:https'
import { after, before, describe, mock, test } from 'node:test'
import type { AuditRow } from '../../src/api/audit-contract.ts'
import { findIdentity } from '../../src/identity/directory.ts'
import { wrongCodeOf } from '../parts/factor.ts'
import { type Answered, ask, type House, house, keyAndCsr } from '../parts/house.ts'

const PAGES = [
  '/',
  '/signin',
  '/enrol',
  '/browser',
  '/requests',
  '/requests/events',
  '/requests/x',
  '/requests/x/events',
  '/account',
  '/account/delegations',
  '/requests/x/y',
  '/assets/x',
  '/favicon.ico',
]
const POSTS = [
  '/signin',
  '/signin/passkey',
  '/signin/passkey/start',
  '/signout',
  '/enrol',
  '/enrol/finish',
  '/browser',
  '/requests/x/decide',
  '/requests/x/passkey',
  '/requests/x/withdraw',
  '/requests/x/revoke',
  '/requests/x/review',
  '/account/passkeys',
  '/account/passkeys/start',
  '/account/passkeys/remove',
  '/account/browsers/forget',
  '/account/delegations/revoke',
  '/account/signout',
]

/** What the pages answer on the wire, to whoever asks without a browser. */
describe('the answers of the pages', () => {
  let home: House
  let cookie: string
  let host: string
  const rest: (() => Promise<void>)[] = []
  before(async () => {
    home = await house({ after: (work) => void rest.push(work) })
    const { parts } = home.server
    host = parts.places.web
    const dana = await findIdentity(parts.store.db, { name: 'dana' })
    cookie = `__Host-chaperone-session=${(await parts.browsers.begin(dana!)).secret}`
  })
  after(async () => {
    for (const work of rest.reverse()) await work()
  })

  /** A browser of dana's that is known; the secret of its cookie. */
  const knownBrowser = async (id: string) => {
    const { store } = home.server.parts
    const dana = await findIdentity(store.db, { name: 'dana' })
    const secret = randomBytes(32).toString('base64url')
    const times = { created_at: Date.now(), last_used_at: Date.now(), expires_at: Date.now() + 60_000, revoked_at: null }
    const values = { id, identity_id: dana!.id, secret_sha256: createHash('sha256').update(secret).digest('hex'), name: 'laptop', ...times }
    await store.write((trx) => trx.insertInto('browsers').values(values).execute())
    return secret
  }

  const get = (path: string, headers: Record<string, string> = {}) => ask(home.server.addresses.web, path, { headers: { host, ...headers } })
  const post = (path: string, headers: Record<string, string> = {}, body = 'a=1') =>
    ask(home.server.addresses.web, path, {
      method: 'POST',
      headers: { host, 'content-type': 'application/x-www-form-urlencoded', origin: `https://${host}`, ...headers },
      body,
    })

  const assertProtected = ({ headers }: Answered, what: string) => {
    const policy = headers['content-security-policy'] as string
    for (const word of ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "script-src 'self'"])
      assert.ok(policy?.includes(word), `${what}: ${word}`)
    assert.doesNotMatch(policy, /unsafe|\*|https?:/, what)
    assert.equal(headers['x-content-type-options'], 'nosniff', what)
    assert.equal(headers['x-frame-options'], 'DENY', what)
    assert.equal(headers['referrer-policy'], 'same-origin', what)
    assert.equal(headers['cross-origin-opener-policy'], 'same-origin', what)
    assert.equal(headers['access-control-allow-origin'], undefined, what)
  }

  test('every answer carries what protects it, also an error, and nothing that is somebody’s is kept', async () => {
    for (const as of [{}, { cookie }] as Record<string, string>[]) {
      for (const path of PAGES.filter((one) => one !== '/requests/events')) {
        const answer = await get(path, as)
        assertProtected(answer, path)
        if (path !== '/favicon.ico') assert.equal(answer.headers['cache-control'], 'no-store', path)
      }
    }
    for (const path of POSTS) assertProtected(await post(path, { origin: 'https://localhost:1' }), `POST ${path}`)
    const style = /href="(\/assets\/[^"]+)"/.exec((await get('/signin')).text)![1]!
    const asset = await get(style)
    assertProtected(asset, style)
    assert.match(asset.headers['cache-control'] as string, /immutable/)
  })

  test('nothing is done that another page sent: wherever it goes, with the cookies or without', async () => {
    const foreign: Record<string, string>[] = [{ origin: `https://${host.replace(/\d+$/, '1')}` }, { 'sec-fetch-site': 'same-site' }]
    for (const path of POSTS)
      for (const headers of foreign) assert.equal((await post(path, { cookie, ...headers })).status, 403, `${path} ${JSON.stringify(headers)}`)
  })

  test('without a token of its session no form does anything', async () => {
    for (const path of POSTS.filter((one) => /^\/(requests|account|signout)/.test(one))) {
      const json = path.endsWith('/passkey') || path.endsWith('/start')
      const answer = await post(
        path,
        { cookie, ...(json ? { 'content-type': 'application/json', 'x-form-token': 'x' } : {}) },
        json ? '{}' : 'token=x&id=x',
      )
      assert.equal(answer.status, 403, path)
    }
  })

  test('who is not signed in sees the same page, whatever he asks for', async () => {
    const seen = new Set<string>()
    for (const path of ['/requests', '/requests/x', '/requests/x/events', '/account', '/requests/x/y/z', '/signin/x']) {
      const answer = await get(path)
      assert.equal(answer.status, 401, path)
      seen.add(answer.text.replace(/name="next" value="[^"]*"/g, ''))
    }
    assert.equal(seen.size, 1)
    assert.equal((await get('/requests', { cookie: '__Host-chaperone-session=x' })).status, 401)
  })

  test('a navigation from elsewhere goes on by itself, once, and only to our own pages', async () => {
    const id = `/requests/req_${'0'.repeat(26)}`
    const first = await get(id, { 'sec-fetch-site': 'cross-site' })
    assert.equal(first.status, 200)
    assert.ok(first.text.includes(`content="0; url=${id}?on=1"`))
    const again = await get(`${id}?on=1`, { 'sec-fetch-site': 'cross-site' })
    assert.equal(again.status, 401)
    assert.doesNotMatch(again.text, /http-equiv="refresh"/)
    assert.ok((await get('/requests/"><x', { 'sec-fetch-site': 'cross-site' })).text.includes('url=/requests?on=1'))
    for (const site of ['none', 'same-origin']) assert.equal((await get(id, { 'sec-fetch-site': site })).status, 401)
    // Signed in, there is nothing to go round.
    assert.equal((await get('/requests', { 'sec-fetch-site': 'cross-site', cookie })).status, 200)
  })

  test('passkeys belong to one address; under another of ours there are none, whatever Host says', async () => {
    assert.match((await get('/signin')).text, /data-passkey="sign-in"/)
    const json = { 'content-type': 'application/json' }
    assert.equal((await post('/signin/passkey/start', json, '{}')).status, 200)
    for (const other of [`127.0.0.1:${host.split(':')[1]}`, 'localhost:1', 'localhost']) {
      const page = await get('/signin', { host: other })
      assert.doesNotMatch(page.text, /data-passkey/, other)
      assert.match(page.text, /not under this address/)
      assert.equal((await post('/signin/passkey/start', { ...json, host: other, origin: `https://${other}` }, '{}')).status, 501, other)
    }
  })

  test('only GET and POST are answered', async () => {
    for (const method of ['HEAD', 'PUT', 'DELETE', 'OPTIONS'])
      assert.equal((await ask(home.server.addresses.web, '/requests', { method, headers: { host, cookie } })).status, 501, method)
  })

  test('a browser is told to keep to TLS for a host name of its own, and not for localhost, which others use', async (t) => {
    assert.equal((await get('/signin')).headers['strict-transport-security'], undefined)
    const named = await house(t, { webUrl: 'https://chaperone.example' })
    const at = await ask(named.server.addresses.web, '/signin', { headers: { host: 'chaperone.example' } })
    assert.match(at.headers['strict-transport-security'] as string, /max-age=\d{7,}/)
    assert.match(at.text, /data-passkey/)
    assert.equal(named.server.parts.link('req_1'), 'https://chaperone.example/requests/req_1')
    const address = await house(t, { publicHost: ['127.0.0.1'] })
    const none = await ask(address.server.addresses.web, '/signin', { headers: { host: address.server.parts.places.web } })
    assert.match(none.text, /only an address/)
  })

  test('rule 11: one address cannot try without end', async () => {
    let refused = 0
    for (let i = 0; i < 80; i++) if ((await post('/signin', {}, 'code=000000')).status === 429) refused++
    assert.ok(refused > 0)
    // Who is signed in, or has a known browser, is not shut out by whoever else sits behind his address.
    assert.equal((await post('/requests/x/withdraw', { cookie }, 'token=wrong')).status, 403)
    const known = `__Host-chaperone-browser=${await knownBrowser('brw_known')}`
    const wrong = await wrongCodeOf(home.server.parts, 'dana')
    assert.match((await post('/signin', { cookie: known }, `code=${wrong}`)).text, /or the code is wrong/)
    // One a second comes back: on a slow machine some tries pass before there is none left again.
    while ((await post('/signin', {}, 'code=000000')).status !== 429);
  })

  test('rule 11: bad secrets at the doors are refused one and all, and leave a few records and a number', async (t) => {
    const other = await house(t)
    const at = other.server.parts.places.web
    const nonsense = 'x'.repeat(43)
    const headers = { host: at, origin: `https://${at}`, 'content-type': 'application/x-www-form-urlencoded' }
    const { dana } = other
    const csr = keyAndCsr().csr
    for (let i = 0; i < 40; i++) {
      const path = i % 2 === 0 ? '/enrol' : '/browser'
      assert.equal((await ask(other.server.addresses.web, path, { method: 'POST', headers, body: `secret=${nonsense}` })).status, 403)
      const body = JSON.stringify({ token: nonsense, csr })
      const joined = await ask(other.server.addresses.data, '/v1/join', { method: 'POST', headers: { 'content-type': 'application/json' }, body })
      assert.equal(joined.status, 403)
    }
    const { records } = await dana.api.call<{ records: AuditRow[] }>('GET', '/v1/audit?type=credential.refused&limit=200')
    assert.equal(records.length, 20)
  })

  test('rule 6: a form whose session is ended or locked while it is still being sent does nothing', async () => {
    const { parts } = home.server
    for (const how of ['ended', 'locked'] as const) {
      const dana = await findIdentity(parts.store.db, { name: 'dana' })
      const { secret } = await parts.browsers.begin(dana!)
      const { session, token } = await parts.browsers.open(secret)
      const id = `brw_${how}`
      await knownBrowser(id)
      const [first, rest] = [`id=${id}&`, `token=${encodeURIComponent(token)}`]
      const at = home.server.addresses.web.lastIndexOf(':')
      const answered = Promise.withResolvers<number>()
      const out = request({
        host: home.server.addresses.web.slice(0, at),
        port: home.server.addresses.web.slice(at + 1),
        path: '/account/browsers/forget',
        method: 'POST',
        rejectUnauthorized: false,
        agent: false,
        headers: {
          host,
          origin: `https://${host}`,
          cookie: `__Host-chaperone-session=${secret}`,
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': first.length + rest.length,
        },
      })
      out.on('response', (answer) => answered.resolve(answer.resume().statusCode ?? 0)).on('error', answered.reject)
      const opened = Promise.withResolvers<void>()
      const open = parts.browsers.open
      mock.method(parts.browsers, 'open', (given: string) => open(given).finally(() => setImmediate(opened.resolve)), { times: 1 })
      out.write(first)
      await opened.promise
      if (how === 'ended') await parts.sessions.end(session.id, 'killed')
      else await home.dana.api.call('POST', '/v1/locks', { kind: 'session', target: session.id, reason: 'stolen' })
      out.end(rest)
      assert.equal(await answered.promise, 401, how)
      const row = await parts.store.db.selectFrom('browsers').select('revoked_at').where('id', '=', id).executeTakeFirstOrThrow()
      assert.equal(row.revoked_at, null, how)
    }
  })
})
