import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:https'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openApi } from '../../src/client/api.ts'
import { beginDeviceSignIn } from '../../src/client/device-sign-in.ts'
import { fromBase32, stepAt, totpCode } from '../../src/signin/totp.ts'
import { fakeAuthority } from '../fakes/authority.ts'
import { apply, governed } from '../parts/governed.ts'

const TOKEN = 'the-token-of-the-directory-0123456789'

/** A browser without a screen: cookies by host, redirects one at a time. */
function browser(as: string) {
  const jars = new Map<string, Map<string, string>>()
  const ask = (url: string, form?: Record<string, string>, headers: Record<string, string> = {}) => {
    const { host, origin } = new URL(url)
    const jar = jars.get(host) ?? new Map<string, string>()
    jars.set(host, jar)
    const body = form && new URLSearchParams(form).toString()
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string; location: string | undefined }>()
    const sent = request(
      url,
      {
        method: form ? 'POST' : 'GET',
        rejectUnauthorized: false,
        agent: false,
        headers: {
          cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; '),
          'x-as': as,
          ...(body === undefined
            ? {}
            : { origin, 'content-type': 'application/x-www-form-urlencoded', 'content-length': String(Buffer.byteLength(body)) }),
          ...headers,
        },
      },
      (answer) => {
        for (const cookie of answer.headers['set-cookie'] ?? []) {
          const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
          if (value === '') jar.delete(name)
          else jar.set(name, value)
        }
        let text = ''
        answer.on('data', (chunk) => {
          text += chunk
        })
        answer.on('end', () =>
          resolve({ status: answer.statusCode!, text, location: answer.headers.location && new URL(answer.headers.location, url).href }),
        )
      },
    )
    sent.once('error', reject)
    sent.end(body)
    return promise
  }
  return { ask, jars }
}

const tokenIn = (text: string) => /name="form-token" content="([^"]+)"/.exec(text)![1]!
const unescaped = (text: string) => text.replaceAll('&amp;', '&')

async function company(t: TestContext, redirect: string, people: Record<string, Record<string, unknown>>) {
  const authority = await fakeAuthority()
  const { key, chain } = await authority.issue(['127.0.0.1'])
  const child = spawn(process.execPath, [fileURLToPath(new URL('../fakes/company-provider.ts', import.meta.url))], {
    stdio: ['pipe', 'pipe', process.env.COMPANY_DEBUG ? 'inherit' : 'ignore'],
  })
  t.after(async () => {
    const ended = once(child, 'exit')
    child.kill()
    await ended
  })
  child.stdin.end(JSON.stringify({ key, cert: chain, redirect, people }))
  const lines = createInterface(child.stdout)
  const [issuer] = (await once(lines, 'line')) as [string]
  return { issuer, ca: authority.certificate }
}

test('a person of the company signs in, signs in her terminal, gets a second step, and is stopped when she leaves', async (t) => {
  const { server, dana } = await governed(t)
  const web = `https://${server.parts.places.web}`
  const { issuer, ca } = await company(t, `${web}/signin/with/company/callback`, {
    'emp-1': { preferred_username: 'mara', email: 'mara@example.com', groups: ['Engineering'], amr: ['pwd', 'otp'] },
    'emp-2': { preferred_username: 'outsider', groups: [] },
  })
  await dana.api.call('PUT', '/v1/secrets/company', { value: 'the-secret-of-the-application' })
  await dana.api.call('PUT', '/v1/secrets/scim', { value: TOKEN })
  await apply(
    dana,
    `
kind: role
name: developer
spec: { allow: [ { chaperone: any, verbs: [audit.read] } ] }
---
kind: directory
name: company
spec:
  title: Example Inc.
  issuer: ${issuer}
  client_id: chaperone
  client_secret: { secret: company }
  scopes: [openid, profile, email, groups]
  allow: { groups: [Engineering, Finance] }
  roles: { Engineering: [developer] }
  create: true
  allow_private: true
  factor: either
  scim: { token: { secret: scim } }
  ca: |
${ca.replace(/^/gm, '    ')}
`,
  )

  /** There and back; what the last page says. */
  const signIn = async (visitor: ReturnType<typeof browser>, next = '/requests') => {
    const sent = await visitor.ask(`${web}/signin/with`, { directory: 'company', next })
    let url: string | undefined = unescaped(/http-equiv="refresh" content="0; url=([^"]+)"/.exec(sent.text)?.[1] ?? assert.fail(sent.text))
    assert.ok(url.startsWith(issuer))
    while (url && !url.startsWith(web)) url = (await visitor.ask(url)).location
    // As a browser does it: the answer comes from another site, so what is Strict stays behind, and our page asks once more.
    const landed = await visitor.ask(url!, undefined, { 'sec-fetch-site': 'cross-site' })
    const again = `${web}${unescaped(/content="0; url=([^"]+)"/.exec(landed.text)?.[1] ?? assert.fail(landed.text))}`
    const done = await visitor.ask(again, undefined, { 'sec-fetch-site': 'same-origin' })
    return { done, url: url! }
  }

  const stranger = browser('emp-2')
  const turned = await signIn(stranger)
  assert.match(turned.done.text, /You may not come in/)
  assert.doesNotMatch(turned.done.text, /Finance/)

  const mara = browser('emp-1')
  assert.match((await mara.ask(`${web}/signin`)).text, /Sign in with Example Inc\./)
  const { done, url } = await signIn(mara, '/device')
  assert.deepEqual([done.status, done.location], [303, `${web}/device`])
  // The same answer once more, and in another browser.
  assert.match((await mara.ask(url)).text, /was not begun in this browser/)
  assert.match((await browser('emp-1').ask(url)).text, /was not begun in this browser/)

  // Her terminal.
  const terminal = await beginDeviceSignIn({ address: dana.profile.address, authorities: dana.profile.bundles.server })
  const token = tokenIn((await mara.ask(`${web}/device`)).text)
  const guessed = await mara.ask(`${web}/device`, { token, user_code: 'BCDF-GHJK' })
  assert.match(guessed.text, /No terminal waits with this code/)
  const asked = await mara.ask(`${web}/device`, { token, user_code: terminal.code.toLowerCase() })
  assert.match(asked.text, /127\.0\.0\.1/)
  assert.ok(asked.text.includes(terminal.code))
  const said = await mara.ask(`${web}/device/decide`, { token, user_code: terminal.code, verdict: 'yes' })
  assert.match(said.text, /is signed in/)
  const profile = await terminal.finish(new AbortController().signal)
  terminal.close()
  assert.equal(profile.identity.name, 'mara')
  const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
  t.after(async () => api.close())
  const session = await server.parts.store.db.selectFrom('sessions').selectAll().where('id', '=', profile.session).executeTakeFirstOrThrow()
  assert.deepEqual([session.how, session.factor_by, JSON.parse(session.joined!).subject], ['login', 'directory', 'emp-1'])

  // A second step of her own.
  const begun = await mara.ask(`${web}/account/second-step`, { token })
  const secret = /<details>.*?<pre>([A-Z2-7]+)<\/pre>/s.exec(begun.text)![1]!
  const invitation = /name="secret" value="([^"]+)"/.exec(begun.text)![1]!
  const code = totpCode(fromBase32(secret)!, stepAt(Date.now()))
  const enrolled = await mara.ask(`${web}/enrol/finish`, { secret: invitation, code })
  assert.equal(enrolled.status, 303)
  assert.doesNotMatch((await mara.ask(`${web}/account`)).text, /Second step/)

  // She leaves.
  const scim = async (method: string, path: string, body?: unknown) => {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: { id: string; Resources: { id: string }[] } }>()
    const sent = request(
      `${web}/scim/v2/company${path}`,
      { method, rejectUnauthorized: false, agent: false, headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/scim+json' } },
      (answer) => {
        let text = ''
        answer.on('data', (chunk) => {
          text += chunk
        })
        answer.on('end', () => resolve({ status: answer.statusCode!, body: text === '' ? undefined : JSON.parse(text) }))
      },
    )
    sent.once('error', reject)
    sent.end(body === undefined ? undefined : JSON.stringify(body))
    return promise
  }
  const made = await scim('POST', '/Users', { userName: 'mara', externalId: 'emp-1', active: true })
  assert.equal(made.status, 201)
  const began = performance.now()
  const left = await scim('PATCH', `/Users/${made.body.id}`, { Operations: [{ op: 'Replace', path: 'active', value: 'False' }] })
  assert.equal(left.status, 200)
  const took = performance.now() - began
  t.diagnostic(`stopped within ${Math.round(took)} ms`)
  await assert.rejects(api.call('GET', '/v1/whoami'), (error: { code?: string }) => ['session_ended', 'identity_disabled'].includes(error.code ?? ''))
  assert.equal((await mara.ask(`${web}/account`)).status, 401)
  assert.match((await signIn(browser('emp-1'))).done.text, /disabled or deleted/)
})
