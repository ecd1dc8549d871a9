import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SignJWT } from 'jose'
import { type ForgingIssuer, forgingIssuer } from '../../../test/fakes/forging-issuer.ts'
import { told } from '../place.fixture.ts'
import { authority, code, place } from './directories.fixture.ts'

test('somebody signs in, becomes a person here, and is the same person the next time', async (t) => {
  const { signIn, records, store } = await place(t)
  const first = await signIn()
  assert.equal(first.identity.name, 'mara')
  assert.equal(first.identity.source, 'directory')
  assert.equal((await signIn({ preferred_username: 'renamed' })).identity.id, first.identity.id)
  assert.deepEqual(
    records.filter(({ type }) => type === 'directory.changed').map(({ data }) => data?.what),
    ['came'],
  )
  assert.equal((await store.db.selectFrom('challenges').selectAll().execute()).length, 0)
})

test('rule 1: an answer that was not asked for, or is not for us, lets nobody in', async (t) => {
  const { forging, signIn, store } = await place(t)
  const now = Math.floor(Date.now() / 1000)
  const wrong: Record<string, ForgingIssuer['claims']> = {
    nonce: { nonce: 'another' },
    'no nonce': { nonce: undefined },
    issuer: { iss: 'https://elsewhere.example' },
    audience: { aud: 'another-client' },
    'no audience': { aud: undefined },
    'several audiences and no azp': { aud: ['chaperone', 'another'] },
    expired: { exp: now - 120, iat: now - 300 },
    'not a person': { sub: undefined },
    'a long subject': { sub: 'x'.repeat(256) },
    'no name': { preferred_username: undefined },
  }
  for (const [what, claims] of Object.entries(wrong)) assert.equal(await code(signIn(claims)), 'directory_refused', what)
  const unsigned = (claims: object) =>
    `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.`
  const forged: Record<string, ForgingIssuer['sign']> = {
    none: async (claims) => unsigned(claims),
    'HS256 with the client secret': (claims) => new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from('a secret of the client')),
    'another key': async (claims) => {
      const { privateKey } = await (await import('jose')).generateKeyPair('ES256')
      return new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'k1' }).sign(privateKey)
    },
    garbage: async () => 'a.b.c',
  }
  for (const [what, sign] of Object.entries(forged)) {
    forging.sign = sign
    assert.equal(await code(signIn()), 'directory_refused', what)
  }
  forging.sign = undefined
  assert.deepEqual(await store.db.selectFrom('accounts').selectAll().execute(), [])
  assert.equal(await code(signIn()), 'ok')
})

test('an answer counts once, in the browser that asked for it, within ten minutes', async (t) => {
  const { forging, begin, back, directories, clock } = await place(t)
  const { url, cookie } = await begin()
  const answer = back(forging.approve(url))
  assert.equal(await code(directories.finish('company', answer, undefined)), 'directory_refused')
  assert.equal(
    await code(directories.finish('company', answer, (await begin()).cookie.secret)),
    'directory_refused',
    'a code put into another browser',
  )
  const other = new URL(answer)
  other.searchParams.set('state', (await begin()).url.match(/state=([^&]+)/)![1]!)
  assert.equal(await code(directories.finish('company', other, cookie.secret)), 'directory_refused', 'the state of another sign-in')
  assert.equal(forging.exchanged.length, 0, 'nothing was sent to the provider')
  assert.equal(await code(directories.finish('company', answer, cookie.secret)), 'ok')
  assert.equal(await code(directories.finish('company', answer, cookie.secret)), 'directory_refused', 'once more')
  const late = await begin()
  clock.advance(10 * 60_000)
  assert.equal(await code(directories.finish('company', back(forging.approve(late.url)), late.cookie.secret)), 'directory_refused', 'too late')
})

test('a state that was begun here and whose second half is wrong is refused, and used up', async (t) => {
  const { forging, begin, back, directories } = await place(t)
  const { url, cookie } = await begin()
  const answer = back(forging.approve(url))
  const [id] = answer.searchParams.get('state')!.split('.')
  const forged = new URL(answer)
  forged.searchParams.set('state', `${id}.${'A'.repeat(43)}`)
  assert.equal(await code(directories.finish('company', forged, cookie.secret)), 'directory_refused')
  assert.equal(await code(directories.finish('company', answer, cookie.secret)), 'directory_refused')
})

test('the answer of one provider is not taken for that of another (mix-up)', async (t) => {
  const { forging, begin, back, directories, document } = await place(t)
  const other = await forgingIssuer(authority)
  t.after(() => other.close())
  document('other', { issuer: other.issuer })
  const { url, cookie } = await begin('other')
  const answer = other.approve(url)
  // The same state at the address of the first, whose code it is then.
  assert.equal(await code(directories.finish('company', back(answer), cookie.secret)), 'directory_refused')
  const again = await begin('company')
  const wrong = forging.approve(again.url)
  wrong.set('iss', other.issuer)
  assert.equal(await code(directories.finish('company', back(wrong), again.cookie.secret)), 'directory_refused', 'iss of another')
  const once = await begin('company')
  const without = forging.approve(once.url)
  without.delete('iss')
  assert.equal(await code(directories.finish('company', back(without), once.cookie.secret)), 'directory_refused', 'no iss although it was promised')
  assert.equal(forging.exchanged.length + other.exchanged.length, 0)
})

test('a document that was changed while somebody was away is another provider', async (t) => {
  const { forging, begin, back, directories, document } = await place(t)
  const { url, cookie } = await begin()
  document('company', { client_id: 'another' })
  assert.equal(await code(directories.finish('company', back(forging.approve(url)), cookie.secret)), 'directory_refused')
})

test('metadata of another issuer, or without S256, is refused', async (t) => {
  const { forging, signIn } = await place(t)
  forging.metadata = (document) => ({ ...document, issuer: `${forging.issuer}/` })
  assert.equal(await code(signIn()), 'directory_refused')
  forging.metadata = (document) => ({ ...document, code_challenge_methods_supported: ['plain'] })
  assert.equal(await code(signIn()), 'directory_refused')
})

test('keys are read again at once when a token names a new one; pinned ones never are', async (t) => {
  const { forging, signIn, document } = await place(t)
  await signIn()
  await forging.rotate()
  assert.equal(await code(signIn()), 'ok')
  const { exportJWK, generateKeyPair } = await import('jose')
  const pinned = await generateKeyPair('ES256', { extractable: true })
  document('company', { jwks: { keys: [{ ...(await exportJWK(pinned.publicKey)), kid: 'p', alg: 'ES256' }] } })
  assert.equal(await code(signIn()), 'directory_refused')
  forging.sign = (claims) => new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'p' }).sign(pinned.privateKey)
  assert.equal(await code(signIn()), 'ok')
})

test('rule 1: claims must fit; who is turned away reads his own claim and not the rule', async (t) => {
  const { signIn, document } = await place(t, { allow: { hd: ['example.com', '*.example.com'], email_verified: true, groups: ['eng', 'ops-*'] } })
  const good = { hd: 'sub.example.com', email_verified: true, groups: ['x', 'ops-eu'] }
  assert.equal(await code(signIn(good)), 'ok')
  for (const [claim, value] of [
    ['hd', 'example.com.evil.example'],
    ['hd', undefined],
    ['email_verified', 'true'],
    ['email_verified', false],
    ['groups', ['ENG']],
    ['groups', []],
  ] as const) {
    const said = await told(signIn({ ...good, [claim]: value }))
    assert.match(said, /directory_refused/, claim)
    assert.match(said, new RegExp(claim))
    assert.doesNotMatch(said, /ops-|\*\./)
  }
  document('company', { allow: { constructor: '*' } })
  assert.equal(await code(signIn()), 'directory_refused')
})

test('an address that its provider has not verified neither names anybody nor lets him in', async (t) => {
  const { signIn, document } = await place(t, { name: { claim: 'email', domain: 'example.com' } })
  const mallory = { sub: 'u-66', email: 'boss@example.com' }
  for (const email_verified of [false, 'false']) assert.equal(await code(signIn({ ...mallory, email_verified })), 'directory_refused')
  document('company', { allow: { email: '*@example.com' } })
  assert.equal(await code(signIn({ ...mallory, email_verified: false })), 'directory_refused')
  assert.equal(await code(signIn({ ...mallory, email_verified: true })), 'ok')
  document('company', {})
  assert.equal(
    await code(signIn({ sub: 'u-67', preferred_username: 'tom', email: 'x@example.net', email_verified: false })),
    'ok',
    'nothing rests on it',
  )
})

test("the directory's second factor counts only where its document says so, when its token does, and of this moment", async (t) => {
  const { signIn, document, clock } = await place(t)
  const now = () => Math.floor(clock.now() / 1000)
  const factor = async (claims: Record<string, unknown>) => (await signIn({ auth_time: now(), ...claims })).factor
  assert.equal(await factor({ amr: ['pwd', 'mfa'] }), false)
  for (const kind of ['either', 'directory']) {
    document('company', { factor: kind })
    assert.equal(await factor({ amr: ['pwd'] }), false)
    assert.equal(await factor({ amr: 'mfa' }), true)
    assert.equal(await factor({ amr: ['pwd', 'otp'] }), true)
    assert.equal(await factor({ acr: '1' }), false)
    // A cookie of this morning at the provider: its token still says `mfa`.
    for (const auth_time of [now() - 91, now() + 31, undefined, Number.MAX_SAFE_INTEGER])
      assert.equal(await factor({ amr: 'mfa', auth_time }), false, String(auth_time))
  }
})
