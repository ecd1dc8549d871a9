import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { openDeviceSignin } from './device.ts'
import { openSecondStep } from './directory/second-step.ts'
import { browserPlace } from './place.fixture.ts'

const DIRECTORY = { issuer: 'https://id.example.com', client_id: 'x' }

async function place(t: TestContext) {
  const here = await browserPlace(t)
  const { store, clock, directories, browsers } = here
  /** Dana has an app of her own, and an account of the directory. */
  const dana = await here.enrolled('dana')
  const account = (directory: string) =>
    store.db
      .insertInto('accounts')
      .values({
        ...{ id: `acc_${directory}`, directory, subject: 'u-1', identity_id: dana.identity.id, external_id: null, user_name: 'dana', email: null },
        ...{ data: '{}', groups: '[]', active: 1, created_at: 0, updated_at: 0, last_login_at: null, deleted_at: null },
      })
      .execute()
  const cameBy = async (directory: string, factor: boolean) =>
    (await browsers.open((await browsers.begin(dana.identity, { from: { directory, subject: 'u-1', factor } })).secret)).session
  const own = async () => (await browsers.open((await browsers.begin(dana.identity)).secret)).session
  return { ...here, dana, account, cameBy, own, clock, directories }
}

const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error) => error.code,
  )

test('factor: directory: the sign-in at the company of a moment ago is the second step, and nothing of ours replaces it', async (t) => {
  const { dana, account, cameBy, own, clock, directories, standingOf, signin, passkeys, ownCounts } = await place(t)
  directories.set('company', { ...DIRECTORY, factor: 'directory' })
  await account('company')
  const vouched = await cameBy('company', true)
  assert.deepEqual(await standingOf(vouched), { needs: 'directory', begin: 'no', only: 'company' })
  clock.advance(5 * 60_000 + 1)
  assert.equal((await standingOf(vouched)).needs, 'again')
  assert.equal((await standingOf(await cameBy('company', false))).needs, 'unvouched')
  // A session that a code of ours began, and one of another directory, are no way around it.
  assert.equal((await standingOf(await own())).needs, 'again')
  directories.set('other', { ...DIRECTORY, factor: 'either' })
  assert.equal((await standingOf(await cameBy('other', true))).needs, 'again')
  const session = await own()
  assert.equal(await code(signin.factor(session, dana.code())), 'factor_required')
  assert.equal(session.factorAt, undefined)
  const answer = { challenge: 'chl_x', response: {} } as never
  assert.equal(await code(passkeys.factor(session, answer, {}, { rpId: 'x', origin: 'https://x' })), 'factor_required')
  // As soon as the document says otherwise her own counts again.
  directories.set('company', { ...DIRECTORY, factor: 'either' })
  assert.equal(await code(ownCounts(dana.identity.id)), 'ok')
  assert.equal((await standingOf(session)).needs, 'factor')
  assert.equal(await code(signin.factor(session, dana.code())), 'ok')
})

test('factor: directory: a terminal is signed in by that and by no code', async (t) => {
  const { account, cameBy, directories, standingOf, records, ...here } = await place(t)
  directories.set('company', { ...DIRECTORY, factor: 'directory' })
  await account('company')
  const devices = openDeviceSignin({ ...here, standingOf, audit: { append: async (draft) => ({ id: 'rec', seq: records.push(draft) }) } })
  const { generateKeyPairSync } = await import('node:crypto')
  const { makeCsr } = await import('../ca/make-csr.ts')
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { device, code: shown } = await devices.begin({ csr: makeCsr(keys.privateKey, keys.publicKey), host: 'laptop', cameFrom: '192.0.2.1' })
  const plain = await cameBy('company', false)
  const { id } = await devices.look(plain, shown)
  await assert.rejects(devices.decide(plain, id, 'yes', 'totp'), { code: 'factor_required', message: /said nothing of a second factor/ })
  assert.equal(await code(devices.decide(await here.own(), id, 'yes', 'totp')), 'factor_required')
  await devices.decide(await cameBy('company', true), id, 'yes', undefined)
  assert.equal((await devices.poll(device)).state, 'signed in')
})

test('factor: own and either: who has none sets one up just after the company vouched for him, and a document that is gone vouches for nobody', async (t) => {
  const { person, browsers, store, records, directories, standingOf, clock } = await place(t)
  directories.set('company', { ...DIRECTORY, factor: 'either' })
  const mara = await person('mara')
  const cameBy = async (factor: boolean) =>
    (await browsers.open((await browsers.begin(mara, { from: { directory: 'company', subject: 'u-2', factor } })).secret)).session
  const vouched = await cameBy(true)
  assert.deepEqual(await standingOf(vouched), { needs: 'directory', begin: 'yes' })
  const plain = await cameBy(false)
  assert.deepEqual(await standingOf(plain), { needs: 'nothing', begin: 'yes' })
  directories.delete('company')
  assert.equal((await standingOf(await cameBy(true))).needs, 'nothing')
  clock.advance(5 * 60_000 + 1)
  assert.deepEqual(await standingOf(plain), { needs: 'again', begin: 'late' })
  const step = openSecondStep({ store, clock, standingOf, audit: { append: async (draft) => ({ id: 'rec', seq: records.push(draft) }) } })
  assert.equal(await code(step.begin(plain)), 'factor_required')
})
