import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Api, openApi } from '../../src/client/api.ts'
import { beginDeviceSignIn } from '../../src/client/device-sign-in.ts'
import { browser, company, signInAt } from '../company/provider.ts'
import { apply, governed } from '../parts/governed.ts'

const tokenIn = (text: string) => /name="form-token" content="([^"]+)"/.exec(text)![1]!

/** Her next call says so; one that was on its way on a connection that is cut learns nothing of the reason. */
async function assertOver(api: Api): Promise<void> {
  const call = () =>
    api.call('GET', '/v1/whoami').then(
      () => 'ok',
      (error: { code?: string }) => error.code,
    )
  const first = await call()
  assert.notEqual(first, 'ok')
  assert.equal(first === 'session_ended' ? first : await call(), 'session_ended')
}

/** Mara has signed in at her company, in a browser and from there in her terminal. */
async function signedIn(t: TestContext, more = '') {
  const { server, dana } = await governed(t)
  const web = `https://${server.parts.places.web}`
  const logout = `${web}/signin/with/company/logout`
  const { issuer, ca, stop } = await company(
    t,
    `${web}/signin/with/company/callback`,
    { 'emp-1': { preferred_username: 'mara', groups: ['Engineering'], amr: ['pwd', 'otp'] } },
    { logout, authorities: dana.profile.bundles.server },
  )
  await dana.api.call('PUT', '/v1/secrets/company', { value: 'the-secret-of-the-application' })
  const document = `kind: directory
name: company
spec:
  issuer: ${issuer}
  client_id: chaperone
  client_secret: { secret: company }
  scopes: [openid, profile, groups]
  create: true
  allow_private: true
  factor: either
${more}  ca: |
${ca.replace(/^/gm, '    ')}
`
  await apply(dana, document)
  const mara = browser('emp-1')
  await signInAt({ web, issuer }, mara, '/device')
  const terminal = await beginDeviceSignIn({ address: dana.profile.address, authorities: dana.profile.bundles.server })
  const token = tokenIn((await mara.ask(`${web}/device`)).text)
  await mara.ask(`${web}/device`, { token, user_code: terminal.code })
  await mara.ask(`${web}/device/decide`, { token, user_code: terminal.code, verdict: 'yes' })
  const profile = await terminal.finish(new AbortController().signal)
  terminal.close()
  const api: Api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
  t.after(async () => api.close())
  await api.call('GET', '/v1/whoami')
  assert.equal((await mara.ask(`${web}/account`)).status, 200)
  const ended = async () =>
    (
      await server.parts.store.db.selectFrom('sessions').select(['how', 'end_reason']).where('end_reason', 'is not', null).orderBy('how').execute()
    ).map(({ how, end_reason }) => `${how} ${end_reason}`)
  return { server, dana, web, issuer, stop, mara, api, ended, logout }
}

test('who signs out at the company is signed out here within a second, in the browser and in the terminal (Back-Channel Logout)', async (t) => {
  const { web, issuer, mara, api, ended } = await signedIn(t)
  const asked = await mara.ask(`${issuer}/session/end`)
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(asked.text)![1]!
  const began = performance.now()
  // The provider answers its browser when we have answered it.
  await mara.ask(`${issuer}/session/end/confirm`, { xsrf, logout: 'yes' })
  t.diagnostic(`ended within ${Math.round(performance.now() - began)} ms`)
  await assertOver(api)
  assert.equal((await mara.ask(`${web}/account`)).status, 401)
  assert.deepEqual(await ended(), ['browser provider', 'login provider'])
})

test('the address of the back channel answers as the specification has it', async (t) => {
  const { logout, mara } = await signedIn(t)
  const origin = new URL(logout).origin
  const junk = await mara.ask(logout, { logout_token: 'a.b.c' }, { origin })
  assert.deepEqual([junk.status, junk.headers['cache-control'], JSON.parse(junk.text).error], [400, 'no-store', 'invalid_request'])
  assert.equal((await mara.ask(logout, { other: 'x' })).status, 400)
  assert.equal((await mara.ask(logout)).status, 405)
  const elsewhere = await mara.ask(logout.replace('/company/', '/nobody/'), { logout_token: 'a.b.c' })
  assert.equal(elsewhere.status, 400)
  assert.equal((await mara.ask(`${origin}/account`)).status, 200, 'nobody was signed out by that')
})

test('who is disabled at a company without a back channel is out with the next look (recheck)', async (t) => {
  const { server, issuer, mara, api, ended } = await signedIn(t, '  recheck: 15m\n')
  const { store, recheck } = server.parts
  const due = () => store.write((trx) => trx.updateTable('directory_signins').set({ next_at: 1 }).execute())
  await due()
  await recheck.round()
  await api.call('GET', '/v1/whoami')
  await mara.ask(`${issuer}/disable/emp-1`, {})
  await due()
  await recheck.round()
  await assertOver(api)
  assert.deepEqual(await ended(), ['browser provider', 'login provider'])
})

test('a company whose provider is gone keeps its people until the grace is over, and no longer', async (t) => {
  const { server, stop, api, ended } = await signedIn(t, '  recheck: 1m\n  recheck_grace: 1m\n')
  const { store, recheck, clock } = server.parts
  const due = (checkedAt: number) => store.write((trx) => trx.updateTable('directory_signins').set({ next_at: 1, checked_at: checkedAt }).execute())
  await stop()
  await due(clock.now())
  await recheck.round()
  await api.call('GET', '/v1/whoami')
  await due(clock.now() - 120_000)
  await recheck.round()
  await assertOver(api)
  assert.deepEqual(await ended(), ['browser unchecked', 'login unchecked'])
})
