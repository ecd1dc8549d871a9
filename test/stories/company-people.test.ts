import assert from 'node:assert/strict'
import { request } from 'node:https'
import { test } from 'node:test'
import { openApi } from '../../src/client/api.ts'
import { beginDeviceSignIn } from '../../src/client/device-sign-in.ts'
import { fromBase32, stepAt, totpCode } from '../../src/signin/totp.ts'
import { browser, company, signInAt } from '../company/provider.ts'
import { apply, governed } from '../parts/governed.ts'

const TOKEN = 'the-token-of-the-directory-0123456789'

const tokenIn = (text: string) => /name="form-token" content="([^"]+)"/.exec(text)![1]!

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

  const signIn = (visitor: ReturnType<typeof browser>, next?: string) => signInAt({ web, issuer }, visitor, next)

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
