import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forgingIssuer } from '../../../test/fakes/forging-issuer.ts'
import { findIdentity } from '../../identity/directory.ts'
import { told } from '../place.fixture.ts'
import { authority, code, place } from './directories.fixture.ts'
import { regrant } from './gifts.ts'

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
  // Nor one whose name is written alike: in lower case the sign for Kelvin is a k.
  await user('mike', { account: { directory: 'company', user_name: 'mike' } })
  assert.equal(await code(signIn({ sub: 'u-13', preferred_username: 'mi\u212ae' })), 'directory_refused')
  document('company', { create: true, name: { claim: 'email', domain: 'work.example' } })
  for (const email of ['erik@wor\u212a.example', 'eri\u212a@work.example'])
    assert.equal(await code(signIn({ sub: 'u-14', email, email_verified: true })), 'directory_refused', email)
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
