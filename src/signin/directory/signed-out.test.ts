import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { fakeAuthority } from '../../../test/fakes/authority.ts'
import { forgingIssuer } from '../../../test/fakes/forging-issuer.ts'
import type { Draft } from '../../audit/record.ts'
import { directoryFaults, directorySpec } from '../../catalog/directory.ts'
import { ChaperoneError } from '../../errors.ts'
import { findIdentity } from '../../identity/directory.ts'
import { openIssuerKeys } from '../../identity/joining/issuer-keys.ts'
import { openOutgoing } from '../../vault/outbound.ts'
import { browserPlace } from '../place.fixture.ts'
import { openBackChannel } from './back-channel.ts'
import { openDirectories } from './directories.ts'
import { openProviders } from './openid.ts'
import { openRecheck } from './recheck.ts'
import { holdSignInOf, keepSignIns } from './sign-ins.ts'

const REDIRECT = 'https://chaperone.example.org/signin/with/company/callback'
const EVENTS = { 'http://schemas.openid.net/event/backchannel-logout': {} }
const RSA_512 = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-512' }
const MINUTE = 60_000
const authority = await fakeAuthority()

/** People who sign in at a provider that is told what to say, with what hears of their end. */
async function place(t: TestContext, spec: Record<string, unknown> = {}) {
  const here = await browserPlace(t)
  // Real time, so that the tokens of the provider, and ours, are of one moment.
  here.clock.advance(Date.now() - here.clock.now())
  const forging = await forgingIssuer(authority)
  t.after(() => forging.close())
  const document = (more: Record<string, unknown>, name = 'company') =>
    here.directories.set(
      name,
      directorySpec.parse({
        ...{ issuer: forging.issuer, client_id: 'chaperone', client_secret: { secret: 'company' }, ca: authority.certificate },
        ...{ allow_private: true, create: true, ...spec, ...more },
      }),
    )
  document({})
  const signIns = keepSignIns(here)
  const outgoing = openOutgoing({ clock: here.clock, env: {} })
  const failures: string[] = []
  const record: { broken: boolean; before?: (() => Promise<void>) | undefined } = { broken: false }
  const audit = {
    async append(draft: Draft) {
      if (record.broken) throw new ChaperoneError('audit_unavailable', 'The record cannot be written, so nothing may happen.')
      await record.before?.()
      return here.audit.append(draft)
    },
  }
  const parts = {
    ...here,
    audit,
    raised: async () => {},
    administratorLeft: async () => {},
    told: async () => {},
    signIns,
    providers: openProviders({ outgoing, reveal: async () => 'a secret of the client', clock: here.clock }),
    documents: () => [...here.directories].map(([name, one]) => ({ name, spec: one })),
    failed: (error: Error) => void failures.push(error.message),
  }
  const directories = openDirectories(parts)
  const keys = openIssuerKeys({ open: ({ ca, allowPrivate }) => outgoing.asFetch({ ca, allowPrivate }), clock: here.clock })
  const channel = openBackChannel({ ...parts, keys, throttle: () => {}, log: () => {} })
  const arrive = async (claims: JWTPayload = {}) => {
    forging.claims = claims
    const { url, cookie } = await directories.begin('company', { redirect: REDIRECT, next: '/requests' })
    return directories.finish('company', new URL(`${REDIRECT}?${forging.approve(url)}`), cookie.secret)
  }
  /** There and back, into a browser: the id of the session. */
  const signIn = async (claims: JWTPayload = {}) => {
    const { identity, directory, subject, factor, signIn: id } = await arrive(claims)
    await here.browsers.begin(identity, { from: { directory, subject, factor, signIn: id } })
    const row = await here.store.db.selectFrom('sessions').select('id').where('joined', 'like', `%${id}%`).executeTakeFirstOrThrow()
    return { session: row.id, identity, signIn: id! }
  }
  let ids = 0
  const claims = (more: JWTPayload = {}): JWTPayload => {
    const now = Math.floor(here.clock.now() / 1000)
    return { iss: forging.issuer, aud: 'chaperone', iat: now, exp: now + 120, jti: `logout-${++ids}`, events: EVENTS, ...more }
  }
  const signOut = async (more: JWTPayload, header?: Record<string, unknown>) =>
    channel.signedOut('company', await forging.signed(JSON.parse(JSON.stringify(claims(more))), header))
  const over = async (session: string) =>
    (await here.store.db.selectFrom('sessions').select('end_reason').where('id', '=', session).executeTakeFirstOrThrow()).end_reason
  return { ...here, forging, document, directories, channel, arrive, signIn, claims, signOut, over, failures, record, recheck: openRecheck(parts) }
}

const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error) => error.code,
  )

test('a logout token that names a session of the provider ends what came of that one, and of no other', async (t) => {
  const { signIn, signOut, over, records } = await place(t)
  const [one, two, other] = [
    await signIn({ sid: 's-1' }),
    await signIn({ sid: 's-2' }),
    await signIn({ sid: 's-1', sub: 'u-2', preferred_username: 'otto' }),
  ]
  await signOut({ sid: 's-1', sub: 'u-1' }, { typ: 'logout+jwt' })
  assert.deepEqual([await over(one.session), await over(two.session), await over(other.session)], ['provider', null, null])
  assert.deepEqual(
    records.filter(({ data }) => data?.what === 'signed out there').map(({ actor, data }) => [actor?.name, data?.sid, data?.signIns]),
    [['mara', 's-1', [one.signIn]]],
  )
  await signOut({ sid: 's-2' })
  assert.equal(await over(two.session), 'provider')
})

test('a logout token that names a person ends all that came of his sign-ins, and nobody else’s', async (t) => {
  const { signIn, signOut, over } = await place(t)
  const [one, two, other] = [await signIn({ sid: 's-1' }), await signIn(), await signIn({ sub: 'u-2', preferred_username: 'otto' })]
  await signOut({ sub: 'u-1' })
  assert.deepEqual([await over(one.session), await over(two.session), await over(other.session)], ['provider', 'provider', null])
})

test('a sign-in that named no session of the provider ends with any logout of its person', async (t) => {
  const { signIn, signOut, over } = await place(t)
  const one = await signIn()
  await signOut({ sub: 'u-1', sid: 's-9' })
  assert.equal(await over(one.session), 'provider')
})

test('with a session end its children, what was agreed to in it also when its browser was left before, and nothing begins by it any more', async (t) => {
  const { signIn, signOut, over, sessions, store, browsers } = await place(t)
  const { session, identity, signIn: id } = await signIn({ sid: 's-1' })
  const chain = [{ identity: identity.id }]
  const child = await sessions.start({ identityId: identity.id, chain, how: 'client', lifeMs: 8 * 60 * MINUTE, parentId: session })
  const agreed = await sessions.start({ identityId: identity.id, chain, how: 'oauth', lifeMs: 8 * 60 * MINUTE, givenIn: session })
  const below = await sessions.start({ identityId: identity.id, chain, how: 'exchange', lifeMs: 8 * 60 * MINUTE, parentId: agreed.id })
  const own = await sessions.start({ identityId: identity.id, chain, how: 'login', lifeMs: 8 * 60 * MINUTE })
  await sessions.end(session, 'logout')
  assert.deepEqual([await over(child.id), await over(agreed.id)], ['logout', null])
  await signOut({ sid: 's-1' })
  assert.deepEqual([await over(agreed.id), await over(below.id)], ['provider', 'provider'])
  assert.equal(await over(own.id), null, 'what he opened with a code of his own is not the company’s')
  const from = { directory: 'company', subject: 'u-1', factor: false, signIn: id }
  assert.equal(await code(browsers.begin(identity, { from })), 'session_ended')
  assert.equal(await code(store.write((trx) => holdSignInOf(trx, session))), 'session_ended')
})

test('a logout that arrives while its person is on the way in ends that sign-in too; who comes afterwards comes in', async (t) => {
  for (const [comes, said] of [
    [{ sid: 's-1' }, { sid: 's-1', sub: 'u-1' }],
    [{ sid: 's-1' }, { sub: 'u-1' }],
    [{}, { sub: 'u-1', sid: 's-9' }],
  ] as const) {
    const { arrive, signOut, forging, clock, store } = await place(t)
    forging.sign = async (claims) => {
      const token = await forging.signed(claims)
      // The provider has said who it is, and nobody here knows yet.
      clock.advance(1)
      await signOut(said)
      return token
    }
    assert.equal(await code(arrive(comes)), 'session_ended', JSON.stringify(said))
    assert.deepEqual(await store.db.selectFrom('directory_signins').selectAll().execute(), [])
    forging.sign = undefined
    clock.advance(1)
    assert.equal(await code(arrive(comes)), 'ok')
  }
})

test('a logout of one session, and of another person, stops nobody else who is on the way in', async (t) => {
  const { arrive, signOut, forging, clock } = await place(t)
  for (const said of [{ sid: 's-2', sub: 'u-1' }, { sub: 'u-2' }]) {
    forging.sign = async (claims) => {
      clock.advance(1)
      await signOut(said)
      return forging.signed(claims)
    }
    assert.equal(await code(arrive({ sid: 's-1' })), 'ok', JSON.stringify(said))
  }
})

test('a document that names another issuer now: its u-1 is not the u-1 of before', async (t) => {
  const { signIn, over, channel, claims, document } = await place(t)
  const { session } = await signIn({ sid: 's-1' })
  const other = await forgingIssuer(authority)
  t.after(() => other.close())
  document({ issuer: other.issuer })
  for (const who of [{ sub: 'u-1' }, { sid: 's-1' }]) await channel.signedOut('company', await other.signed({ ...claims(who), iss: other.issuer }))
  assert.equal(await over(session), null)
})

test('rule 1: a logout token that is not exactly one ends nothing', async (t) => {
  const { signIn, signOut, over, channel, claims, forging, records } = await place(t)
  const { session } = await signIn({ sid: 's-1' })
  const now = Math.floor(Date.now() / 1000)
  const wrong: Record<string, JWTPayload> = {
    'another issuer': { iss: 'https://elsewhere.example' },
    'another audience': { aud: 'somebody-else' },
    expired: { exp: now - 60 },
    'no end': { exp: undefined as never },
    'no beginning': { iat: undefined as never },
    'of tomorrow': { iat: now + 3600, exp: now + 7200 },
    'of yesterday': { iat: now - 86_400 },
    'no name': { jti: undefined as never },
    'a name that is no text': { jti: 7 as never },
    'no events': { events: undefined },
    'another event': { events: { 'http://schemas.openid.net/event/other': {} } },
    'events that are a list': { events: ['http://schemas.openid.net/event/backchannel-logout'] },
    'an event that is no object': { events: { 'http://schemas.openid.net/event/backchannel-logout': true } },
    'a nonce': { nonce: 'n' },
    nobody: { sid: undefined, sub: undefined },
    'a sid that is no text': { sid: 7 as never },
  }
  for (const [what, more] of Object.entries(wrong)) assert.equal(await code(signOut({ sid: 's-1', ...more })), 'directory_refused', what)
  assert.equal(await code(signOut({ sid: 's-1' }, { typ: 'at+jwt' })), 'directory_refused', 'typ')
  assert.equal(await code(signOut({ sid: 's-1' }, { kid: 'of nobody' })), 'directory_refused', 'kid')
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const { privateKey } = await generateKeyPair('ES256')
  const publicKey = new TextEncoder().encode(JSON.stringify(await exportJWK((await generateKeyPair('ES256')).publicKey)))
  const forged: Record<string, string> = {
    none: `${part({ alg: 'none' })}.${part(claims({ sid: 's-1' }))}.`,
    'HS256 with the client secret': await new SignJWT(claims({ sid: 's-1' }))
      .setProtectedHeader({ alg: 'HS256' })
      .sign(Buffer.from('a secret of the client')),
    'HS256 with a public key': await new SignJWT(claims({ sid: 's-1' })).setProtectedHeader({ alg: 'HS256', kid: 'k1' }).sign(publicKey),
    'another key': await new SignJWT(claims({ sid: 's-1' })).setProtectedHeader({ alg: 'ES256', kid: 'k1' }).sign(privateKey),
    garbage: 'a.b.c',
    long: 'a'.repeat(20_000),
  }
  for (const [what, token] of Object.entries(forged)) assert.equal(await code(channel.signedOut('company', token)), 'directory_refused', what)
  assert.equal(await code(channel.signedOut('elsewhere', await forging.signed(claims({ sid: 's-1' })))), 'not_found')
  assert.equal(await over(session), null)
  assert.equal(
    records.filter(({ type, data }) => type === 'credential.refused' && data?.how === 'back-channel logout').length,
    Object.keys(wrong).length + Object.keys(forged).length + 3,
  )
  await signOut({ sid: 's-1' })
  assert.equal(await over(session), 'provider')
})

test('only the ways of signing that the guide names are believed, whatever else a key of the provider could do', async (t) => {
  const { channel, claims, document } = await place(t)
  const { privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true })
  document({ jwks: { keys: [{ ...(await exportJWK(publicKey)), kid: 'r1' }] } })
  const sign = (alg: string) => new SignJWT(claims({ sub: 'u-1' })).setProtectedHeader({ alg, kid: 'r1' })
  const again = await crypto.subtle.importKey('pkcs8', await crypto.subtle.exportKey('pkcs8', privateKey), RSA_512, false, ['sign'])
  assert.equal(await code(channel.signedOut('company', await sign('RS512').sign(again))), 'directory_refused')
  assert.equal(await code(channel.signedOut('company', await sign('RS256').sign(privateKey))), 'ok')
})

test('a logout token counts once: sent again after the person came back, it ends nothing', async (t) => {
  const { signIn, channel, claims, forging, over, record, records } = await place(t)
  await signIn()
  const token = await forging.signed(claims({ sub: 'u-1' }))
  // At two nodes: neither has used it up when the other looks.
  const both = Promise.withResolvers<void>()
  let there = 0
  record.before = () => {
    if (++there === 2) both.resolve()
    return both.promise
  }
  const atOnce = await Promise.all([code(channel.signedOut('company', token)), code(channel.signedOut('company', token))])
  assert.deepEqual(atOnce.sort(), ['directory_refused', 'ok'])
  record.before = undefined
  const told = () => records.filter(({ data }) => data?.what === 'signed out there').length
  const before = told()
  const again = await signIn()
  assert.equal(await code(channel.signedOut('company', token)), 'directory_refused')
  assert.equal(await over(again.session), null)
  assert.equal(told(), before, 'nothing is recorded that did not happen')
})

test('of two directories at one provider, a logout of one ends nothing of the other', async (t) => {
  const { signIn, over, channel, claims, forging, document } = await place(t)
  const { session } = await signIn({ sid: 's-1' })
  document({ client_id: 'partners' }, 'partners')
  for (const who of [{ sub: 'u-1' }, { sid: 's-1' }]) await channel.signedOut('partners', await forging.signed({ ...claims(who), aud: 'partners' }))
  assert.equal(await over(session), null)
  assert.equal(await code(channel.signedOut('partners', await forging.signed(claims({ sid: 's-1' })))), 'directory_refused', 'a token of the other')
})

test('rule 3: a logout that cannot be recorded is not done, and is done when the provider says it again', async (t) => {
  const { signIn, channel, claims, forging, over, record } = await place(t)
  const { session } = await signIn()
  const token = await forging.signed(claims({ sub: 'u-1' }))
  record.broken = true
  assert.equal(await code(channel.signedOut('company', token)), 'audit_unavailable')
  record.broken = false
  assert.equal(await over(session), null)
  await channel.signedOut('company', token)
  assert.equal(await over(session), 'provider')
})

test('an end that broke off half-way is gone through again by a round', async (t) => {
  const { signIn, over, store, keyring, clock, recheck } = await place(t)
  const { session, identity, signIn: id } = await signIn()
  const broken = keepSignIns({ store, clock, keyring, sessions: { end: async () => assert.fail('the process ends here') } })
  await assert.rejects(broken.end([{ id, identity_id: identity.id }], 'provider'))
  assert.equal(await over(session), null)
  clock.advance(2 * MINUTE)
  await recheck.round()
  assert.equal(await over(session), 'provider')
})

test('recheck: the provider is asked with the newest refresh token, its yes changes the roles, and its no ends the sessions', async (t) => {
  const { signIn, over, recheck, clock, forging, store, records } = await place(t, { recheck: '15m', roles: { Ops: ['operator'] } })
  forging.refreshing = 'yes'
  const { session, identity } = await signIn({ groups: ['Ops'] })
  const roles = async () => (await findIdentity(store.db, { id: identity.id }))?.roles
  assert.deepEqual(await roles(), ['operator'])
  await recheck.round()
  assert.deepEqual(forging.refreshed, [], 'not before its time')
  clock.advance(15 * MINUTE)
  await Promise.all([recheck.round(), recheck.round()])
  assert.deepEqual(forging.refreshed, ['refresh-1'], 'of two nodes one asks')
  forging.claims = { groups: [] }
  clock.advance(15 * MINUTE)
  await recheck.round()
  assert.deepEqual(forging.refreshed, ['refresh-1', 'refresh-2'])
  assert.deepEqual(await roles(), [])
  assert.equal(await over(session), null)
  forging.refreshing = { status: 400, error: 'invalid_grant' }
  clock.advance(15 * MINUTE)
  await recheck.round()
  assert.equal(await over(session), 'provider')
  assert.equal(records.filter(({ data }) => data?.what === 'let in no more').length, 1)
  clock.advance(15 * MINUTE)
  await recheck.round()
  assert.equal(forging.refreshed.length, 3, 'who is out is not asked about')
})

test('recheck: who may not come in any more by the rule of the document is out', async (t) => {
  const { signIn, over, recheck, clock, forging } = await place(t, { recheck: '15m', allow: { groups: ['Ops'] } })
  forging.refreshing = 'yes'
  const { session } = await signIn({ groups: ['Ops'] })
  forging.claims = { groups: ['Guests'] }
  clock.advance(15 * MINUTE)
  await recheck.round()
  assert.equal(await over(session), 'provider')
})

test('recheck: a provider that cannot be asked ends nothing within its grace, and everything after it', async (t) => {
  for (const said of ['down', { status: 503, error: 'server_error' }, { status: 401, error: 'invalid_client' }] as const) {
    const { signIn, over, recheck, clock, forging, failures } = await place(t, { recheck: '15m', recheck_grace: '30m' })
    forging.refreshing = 'yes'
    const { session } = await signIn()
    forging.refreshing = said
    for (let minutes = 15; minutes <= 40; minutes += 5) {
      clock.advance((minutes === 15 ? 15 : 5) * MINUTE)
      await recheck.round()
      assert.equal(await over(session), null, `${JSON.stringify(said)} at ${minutes}`)
    }
    assert.ok(failures.length >= 5)
    clock.advance(5 * MINUTE)
    await recheck.round()
    assert.equal(await over(session), 'unchecked')
  }
})

test('recheck: after a silence a yes counts from its own moment', async (t) => {
  const { signIn, over, recheck, clock, forging } = await place(t, { recheck: '15m', recheck_grace: '30m' })
  forging.refreshing = 'yes'
  const { session } = await signIn()
  forging.refreshing = 'down'
  clock.advance(40 * MINUTE)
  await recheck.round()
  forging.refreshing = 'yes'
  clock.advance(2 * MINUTE)
  await recheck.round()
  forging.refreshing = 'down'
  clock.advance(44 * MINUTE)
  await recheck.round()
  assert.equal(await over(session), null)
})

test('recheck: a sign-in without a refresh token is refused, and a token is kept sealed, and only where it is asked for', async (t) => {
  const { arrive, signIn, document, forging, store } = await place(t, { recheck: '15m' })
  assert.equal(await code(arrive()), 'directory_refused')
  assert.deepEqual(await store.db.selectFrom('accounts').selectAll().execute(), [])
  forging.refreshing = 'yes'
  const row = async (id: string) =>
    store.db.selectFrom('directory_signins').select(['refresh', 'next_at']).where('id', '=', id).executeTakeFirstOrThrow()
  const asked = await row((await signIn()).signIn)
  assert.equal(Buffer.from(asked.refresh!).includes('refresh-'), false)
  document({ recheck: undefined })
  assert.deepEqual(await row((await signIn()).signIn), { refresh: null, next_at: null })
})

test('recheck: a refresh token is shown to no other issuer than the one that gave it', async (t) => {
  const { signIn, over, recheck, clock, forging, document } = await place(t, { recheck: '15m' })
  forging.refreshing = 'yes'
  const { session } = await signIn()
  const other = await forgingIssuer(authority)
  t.after(() => other.close())
  document({ issuer: other.issuer })
  clock.advance(15 * MINUTE)
  await recheck.round()
  assert.deepEqual([other.refreshed, await over(session)], [[], 'unchecked'])
})

test('recheck: nobody is asked about whose sessions are all over', async (t) => {
  const { signIn, sessions, recheck, clock, forging } = await place(t, { recheck: '15m' })
  forging.refreshing = 'yes'
  const { session } = await signIn()
  await sessions.end(session, 'logout')
  clock.advance(15 * MINUTE)
  await recheck.round()
  assert.deepEqual(forging.refreshed, [])
})

test('a directory document says how often, within bounds, and only with a provider', () => {
  const of = (more: object) => directorySpec.safeParse({ issuer: 'https://id.example.com', client_id: 'c', ...more }).success
  assert.deepEqual(
    ['15m', '1m', '12h', '30s', '13h', 'often'].map((recheck) => of({ recheck })),
    [true, true, true, false, false, false],
  )
  const spec = directorySpec.parse({ recheck: '15m', scim: { token: { secret: 's' } } })
  assert.equal(
    directoryFaults(spec).some(({ path }) => path[0] === 'recheck'),
    true,
  )
})
