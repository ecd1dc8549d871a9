import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { SignJWT } from 'jose'
import { fakeAuthority } from '../../../test/fakes/authority.ts'
import { type ForgingIssuer, forgingIssuer } from '../../../test/fakes/forging-issuer.ts'
import { directorySpec } from '../../catalog/directory.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { createIdentity, findIdentity } from '../../identity/directory.ts'
import { newId } from '../../ids.ts'
import { openOutgoing } from '../../vault/outbound.ts'
import { browserPlace, told } from '../place.fixture.ts'
import { openDirectories } from './directories.ts'
import { regrant } from './gifts.ts'
import { openProviders } from './openid.ts'
import { keepSignIns } from './sign-ins.ts'

const REDIRECT = 'https://chaperone.example.org/signin/with/company/callback'
const authority = await fakeAuthority()

async function place(t: TestContext, more: Record<string, unknown> = {}) {
  const here = await browserPlace(t)
  const forging = await forgingIssuer(authority)
  t.after(() => forging.close())
  const documents = here.directories
  const document = (name: string, spec: Record<string, unknown>) =>
    documents.set(
      name,
      directorySpec.parse({
        issuer: forging.issuer,
        client_id: 'chaperone',
        client_secret: { secret: 'company' },
        ca: authority.certificate,
        allow_private: true,
        create: true,
        ...spec,
      }),
    )
  document('company', more)
  const epochs: number[] = []
  const told: string[] = []
  const directories = openDirectories({
    store: here.store,
    audit: {
      async append(draft) {
        here.records.push(draft as never)
        return { id: 'rec', seq: 1 }
      },
    },
    sessions: here.sessions,
    raised: async (epoch) => void epochs.push(epoch),
    clock: here.clock,
    told: async (_, { directory, what }) => void told.push(`${directory}: ${what}`),
    async administratorLeft(trx) {
      const left = (db: typeof trx | typeof here.store.db) =>
        db.selectFrom('identities').select('id').where('state', '=', 'active').where('roles', 'like', '%"administrator"%').executeTakeFirst()
      if ((await left(here.store.db)) && !(await left(trx))) throw new ChaperoneError('conflict', 'Nobody would be left.')
    },
    providers: openProviders({
      outgoing: openOutgoing({ clock: here.clock, env: {} }),
      reveal: async () => 'a secret of the client',
      clock: here.clock,
    }),
    signIns: keepSignIns(here),
    documents: () => [...documents].map(([name, spec]) => ({ name, spec })),
  })
  const begin = (directory = 'company', ask: { fresh?: boolean; link?: { identityId: string; sessionId: string } } = {}) =>
    directories.begin(directory, { redirect: REDIRECT, next: '/requests', ...ask })
  const back = (answer: URLSearchParams) => new URL(`${REDIRECT}?${answer}`)
  /** There and back, as an honest browser goes. */
  const signIn = async (claims: ForgingIssuer['claims'] = {}, directory = 'company') => {
    forging.claims = claims
    const { url, cookie } = await begin(directory)
    return directories.finish(directory, back(forging.approve(url)), cookie.secret)
  }
  const user = (name: string, spec: Record<string, unknown> = {}) =>
    here.store.write(async (trx) => {
      const identity = await createIdentity(trx, {
        kind: 'user',
        name,
        source: 'document',
        now: here.clock.now(),
        roles: (spec.roles as string[]) ?? [],
      })
      await trx
        .insertInto('documents')
        .values({
          id: newId('res'),
          kind: 'user',
          name,
          labels: '{}',
          spec: canonicalJson({ roles: [], traits: {}, ...spec }),
          digest: '',
          owner: null,
          applied_by: '',
          updated_at: 0,
        })
        .execute()
      return identity
    })
  return { ...here, forging, documents, document, directories, begin, back, signIn, user, epochs, told }
}

const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error) => error.code,
  )

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

test('a person who is here already is never taken over by a name or an address', async (t) => {
  const { signIn, user, store, document } = await place(t)
  const dana = await user('dana')
  assert.equal(await code(signIn({ preferred_username: 'dana', email: 'dana@example.com', email_verified: true })), 'directory_refused')
  assert.equal(await code(signIn({ preferred_username: 'DANA' })), 'directory_refused')
  document('company', { name: { claim: 'email', domain: 'example.com' } })
  assert.equal(await code(signIn({ email: 'dana@example.com' })), 'directory_refused')
  assert.equal(await code(signIn({ email: 'mara@elsewhere.example' })), 'directory_refused')
  assert.equal(await code(signIn({ email: 'mara@example.com@elsewhere.example' })), 'directory_refused')
  assert.equal((await signIn({ email: 'Mara@Example.com' })).identity.name, 'mara')
  // The same account with the address of somebody else is still the same account.
  assert.equal((await signIn({ email: 'dana@example.com' })).identity.name, 'mara')
  assert.equal((await findIdentity(store.db, { id: dana.id }))?.state, 'active')
})

test('the same sub of another issuer is somebody else', async (t) => {
  const { signIn, document } = await place(t)
  await signIn()
  const other = await forgingIssuer(authority)
  t.after(() => other.close())
  document('company', { issuer: other.issuer })
  // signIn goes to the first issuer still: its answer is not that of the document.
  assert.equal(await code(signIn()), 'directory_refused')
})

test('an administrator links a person by a document; two documents for one account let nobody in', async (t) => {
  const { signIn, user, document } = await place(t)
  document('company', { create: false })
  assert.equal(await code(signIn()), 'directory_refused')
  const dana = await user('dana', { account: { directory: 'company', subject: 'u-9' } })
  await user('boris', { account: { directory: 'company', user_name: 'b.orlov@example.com' } })
  assert.equal((await signIn({ sub: 'u-9', preferred_username: 'whatever' })).identity.id, dana.id)
  assert.equal((await signIn({ sub: 'u-10', preferred_username: 'B.Orlov@example.com' })).identity.name, 'boris')
  // Somebody who is given the name later, by the company or by himself.
  assert.equal(await code(signIn({ sub: 'u-11', preferred_username: 'b.orlov@example.com' })), 'directory_refused')
  await user('one', { account: { directory: 'company', subject: 'u-12' } })
  await user('two', { account: { directory: 'company', subject: 'u-12' } })
  assert.equal(await code(signIn({ sub: 'u-12' })), 'directory_refused')
})

test('a person links an account himself, from a session that still lives', async (t) => {
  const { enrolled, browsers, forging, begin, back, directories, sessions } = await place(t, { create: false })
  const dana = await enrolled('dana')
  const web = await browsers.open(dana.session.secret)
  const link = { identityId: dana.identity.id, sessionId: web.session.id }
  const go = async (claims = {}) => {
    forging.claims = claims
    const { url, cookie } = await begin('company', { link })
    return directories.finish('company', back(forging.approve(url)), cookie.secret)
  }
  const linked = await go()
  assert.deepEqual([linked.linked, linked.identity.id], [true, dana.identity.id])
  assert.equal(await code(go({ sub: 'u-2' })), 'conflict', 'a second one')
  await sessions.end(web.session.id, 'logout')
  assert.equal(await code(go({ sub: 'u-3' })), 'session_ended')
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

test('rule 6: a group that is lost takes only its roles away, at the next sign-in', async (t) => {
  const { signIn, user, store, documents, epochs } = await place(t, {
    roles: { eng: ['developer', 'reader'], ops: ['operator', 'reader'], '*': ['everybody'] },
    traits: { team: 'department' },
  })
  await user('dana', { roles: ['auditor'], account: { directory: 'company', subject: 'u-1' } })
  const roles = async () => (await findIdentity(store.db, { name: 'dana' }))?.roles
  const first = await signIn({ groups: ['eng', 'ops', 'constructor', '__proto__'], department: 'payments' })
  assert.deepEqual(first.identity.roles, ['auditor', 'everybody', 'developer', 'reader', 'operator'])
  assert.deepEqual(first.identity.traits, { team: 'payments' })
  const raised = epochs.length
  await signIn({ groups: ['ops', 'eng'], department: 'payments' })
  assert.equal(epochs.length, raised, 'nothing changed, so no epoch')
  await signIn({ groups: ['eng'], department: 'search' })
  assert.deepEqual(await roles(), ['auditor', 'everybody', 'developer', 'reader'])
  assert.equal(epochs.length, raised + 1)
  await signIn({ groups: undefined })
  assert.deepEqual(await roles(), ['auditor', 'everybody'])
  assert.deepEqual((await findIdentity(store.db, { name: 'dana' }))?.traits, {})
  // The document is gone: what it gave is gone.
  const spec = documents.get('company')
  await store.reduce((trx) => regrant(trx, 'company', spec as never, 1))
  assert.deepEqual(await roles(), ['auditor', 'everybody'])
  await store.reduce((trx) => regrant(trx, 'company', undefined, 1))
  assert.deepEqual(await roles(), ['auditor'])
})

test('groups that a token leaves out for their number are not taken for none', async (t) => {
  const { signIn } = await place(t, { roles: { eng: ['developer'] } })
  assert.match(await told(signIn({ _claim_names: { groups: 'src1' } })), /too many groups/)
  assert.equal(await code(signIn({ groups: { eng: true } })), 'directory_refused')
})

test('who is disabled here does not come in, whatever the directory says', async (t) => {
  const { signIn, store } = await place(t)
  const { identity } = await signIn()
  await store.db.updateTable('identities').set({ state: 'disabled' }).where('id', '=', identity.id).execute()
  assert.equal(await code(signIn()), 'identity_disabled')
  await store.db.updateTable('identities').set({ state: 'active' }).where('id', '=', identity.id).execute()
  await store.db.updateTable('accounts').set({ active: 0 }).execute()
  assert.equal(await code(signIn()), 'identity_disabled')
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

test('two first sign-ins at once make one person', async (t) => {
  const { signIn, store } = await place(t)
  const both = await Promise.all([signIn(), signIn()])
  assert.equal(new Set(both.map(({ identity }) => identity.id)).size, 1)
  assert.equal((await store.db.selectFrom('accounts').selectAll().execute()).length, 1)
})

test('the last administrator by a group of the directory keeps it when the directory says otherwise: he comes in, and it is a refusal in the record', async (t) => {
  const { signIn, document, records, store, told } = await place(t, { roles: { Admins: ['administrator'] } })
  const first = await signIn({ groups: ['Admins'] })
  assert.deepEqual(first.identity.roles, ['administrator'])
  const again = await signIn({ groups: [] })
  assert.deepEqual(again.identity.roles, ['administrator'])
  const last = records.filter(({ type }) => type === 'directory.changed').at(-1) as { outcome?: unknown; data?: Record<string, unknown> }
  assert.deepEqual([last.outcome, last.data?.refused], [{ status: 'refused', reason: 'conflict' }, 'nobody would be left to administer'])
  assert.deepEqual(told, ['company: roles and traits'])
  // What is known of his groups stays too: a document that is applied later must not take by itself what was refused here.
  assert.equal((await store.db.selectFrom('accounts').select('groups').executeTakeFirstOrThrow()).groups, '["Admins"]')
  document('company', { roles: { Admins: ['administrator'] } })
  await signIn({ sub: 'u-2', preferred_username: 'other', groups: ['Admins'] })
  assert.deepEqual((await signIn({ groups: [] })).identity.roles, [], 'with another one he goes')
})
