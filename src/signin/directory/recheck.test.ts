import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forgingIssuer } from '../../../test/fakes/forging-issuer.ts'
import { directoryFaults, directorySpec } from '../../catalog/directory.ts'
import { findIdentity } from '../../identity/directory.ts'
import { authority, code, MINUTE, place } from './signed-out.fixture.ts'

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
