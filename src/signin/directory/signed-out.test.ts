import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { forgingIssuer } from '../../../test/fakes/forging-issuer.ts'
import { holdSignInOf, keepSignIns } from './sign-ins.ts'
import { authority, code, MINUTE, place, RSA_512 } from './signed-out.fixture.ts'

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
