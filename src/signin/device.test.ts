import assert from 'node:assert/strict'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { makeCsr } from '../ca/make-csr.ts'
import { codeOf, DEVICE_LIMITS, openDeviceSignin } from './device.ts'
import { browserPlace } from './place.fixture.ts'

async function place(t: TestContext) {
  const here = await browserPlace(t)
  const devices = openDeviceSignin({ ...here, audit: { append: async (draft) => ({ id: 'rec', seq: here.records.push(draft) }) } })
  const dana = await here.enrolled('dana')
  const { session } = await here.browsers.open(dana.session.secret)
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const pair = { csr: makeCsr(keys.privateKey, keys.publicKey) }
  const begin = (cameFrom = '192.0.2.1') => devices.begin({ csr: pair.csr, host: 'laptop', cameFrom })
  return { ...here, devices, dana, session, keys, begin }
}

const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error) => error.code,
  )

test('a terminal is signed in by the person who compares its code and gives a factor', async (t) => {
  const { devices, session, begin, store, keys, dana } = await place(t)
  const { device, code: shown } = await begin()
  assert.match(shown, /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/)
  assert.deepEqual(await devices.poll(device), { state: 'pending', intervalMs: DEVICE_LIMITS.intervalMs })
  const asking = await devices.look(session, shown.toLowerCase().replace('-', ' '))
  assert.deepEqual([asking.code, asking.cameFrom, asking.host], [shown, '192.0.2.1', 'laptop'])
  assert.equal(await devices.needs(session), 'factor')
  await devices.decide(session, asking.id, 'yes', 'totp')
  const polled = await devices.poll(device)
  assert.equal(polled.state, 'signed in')
  if (polled.state !== 'signed in') return
  assert.deepEqual([polled.as.identity.id, polled.as.identity.name], [dana.identity.id, 'dana'])
  const row = await store.db.selectFrom('sessions').selectAll().where('id', '=', polled.as.session).executeTakeFirstOrThrow()
  assert.deepEqual([row.how, row.factor_by, row.came_from], ['login', 'totp', '192.0.2.1'])
  // For the key that was shown, and no other.

  const own = keys.publicKey.export({ type: 'spki', format: 'der' })
  assert.deepEqual(new X509Certificate(polled.as.certificate).publicKey.export({ type: 'spki', format: 'der' }), own)
  assert.equal(await code(devices.poll(device)), 'factor_invalid', 'once')
})

test("rule 5: the store holds neither the terminal's secret nor its code", async (t) => {
  const { begin, store } = await place(t)
  const { device, code: shown } = await begin()
  const text = JSON.stringify(await store.db.selectFrom('device_logins').selectAll().execute())
  assert.ok(!text.includes(device) && !text.includes(shown))
})

test('a yes from a session that was ended before the terminal asked again signs nobody in', async (t) => {
  const { devices, session, sessions, begin, store } = await place(t)
  const { device, code: shown } = await begin()
  const { id } = await devices.look(session, shown)
  await devices.decide(session, id, 'yes', 'totp')
  await sessions.end([session.id], 'killed')
  assert.equal(await code(devices.poll(device)), 'factor_invalid')
  assert.equal(await code(devices.poll(device)), 'factor_invalid', 'and the yes is used up')
  assert.deepEqual(await store.db.selectFrom('sessions').select('id').where('ended_at', 'is', null).execute(), [])
})

test('without a factor there is no yes, and a no is final', async (t) => {
  const { devices, session, begin } = await place(t)
  const { device, code: shown } = await begin()
  const { id } = await devices.look(session, shown)
  assert.equal(await code(devices.decide(session, id, 'yes', undefined)), 'factor_required')
  assert.equal((await devices.poll(device)).state, 'pending')
  await devices.decide(session, id, 'no', undefined)
  assert.equal(await code(devices.decide(session, id, 'yes', 'totp')), 'not_found')
  assert.equal(await code(devices.poll(device)), 'factor_invalid')
})

test('who came by a directory and has no factor yet says yes only just after he signed in there', async (t) => {
  const { devices, browsers, person, clock, begin, store, directories } = await place(t)
  directories.set('company', { issuer: 'https://id.example.com', client_id: 'x', factor: 'either' })
  const mara = await person('mara')
  const signIn = async (factor: boolean) => {
    const { secret } = await browsers.begin(mara, { from: { directory: 'company', subject: 'u-1', factor } })
    return (await browsers.open(secret)).session
  }
  const plain = await signIn(false)
  assert.equal(await devices.needs(plain), 'nothing')
  const { device, code: shown } = await begin()
  const { id } = await devices.look(plain, shown)
  clock.advance(5 * 60_000 + 1)
  assert.equal(await devices.needs(plain), 'again')
  assert.equal(await code(devices.decide(plain, id, 'yes', undefined)), 'factor_required')
  await devices.decide(await signIn(false), id, 'yes', undefined)
  const polled = await devices.poll(device)
  assert.equal(polled.state, 'signed in')
  if (polled.state !== 'signed in') return
  const row = await store.db.selectFrom('sessions').selectAll().where('id', '=', polled.as.session).executeTakeFirstOrThrow()
  assert.deepEqual([row.factor_by, JSON.parse(row.joined!).document], [null, 'company'])
  assert.deepEqual(
    await store.db.selectFrom('devices').selectAll().where('identity_id', '=', mara.id).execute(),
    [],
    'its key is worth its certificate and no more',
  )
  assert.equal(await devices.needs(await signIn(true)), 'directory')
})

test('rule 11: codes are not guessed: five wrong ones by a person, and ten minutes for each', async (t) => {
  const { devices, session, begin, clock } = await place(t)
  for (let i = 0; i < DEVICE_LIMITS.wrongCodes; i++) assert.equal(await code(devices.look(session, 'BCDF-GHJK')), 'not_found')
  const { device, code: shown } = await begin()
  assert.equal(await code(devices.look(session, shown)), 'too_many', 'also the right one')
  clock.advance(DEVICE_LIMITS.lifeMs)
  assert.equal(await code(devices.look(session, shown)), 'not_found', 'over by then')
  assert.equal(await code(devices.poll(device)), 'factor_invalid')
})

test('a yes waits for its terminal for a minute: kept for later, the factor that was given with it would count as just given', async (t) => {
  const { devices, session, begin, clock } = await place(t)
  const { device, code: shown } = await begin()
  await devices.decide(session, (await devices.look(session, shown)).id, 'yes', 'totp')
  clock.advance(DEVICE_LIMITS.yesMs)
  assert.equal(await code(devices.poll(device)), 'factor_invalid')
})

test('rule 11: one address has ten terminals that wait, and asking too fast is told', async (t) => {
  const { devices, begin, clock } = await place(t)
  const { device } = await begin()
  for (let i = 1; i < DEVICE_LIMITS.waitingOfNetwork; i++) await begin()
  assert.equal(await code(begin()), 'too_many')
  assert.equal(await code(begin('192.0.2.2')), 'ok')
  // A subscriber of IPv6 picks any of 2^64 addresses.
  for (let i = 0; i < DEVICE_LIMITS.waitingOfNetwork; i++) assert.equal(await code(begin(`2001:db8:0:1::${i}`)), 'ok')
  assert.equal(await code(begin('2001:db8:0:1:ffff::')), 'too_many')
  assert.equal(await code(begin('2001:db8:0:2::')), 'ok')
  await devices.poll(device)
  assert.equal((await devices.poll(device)).state, 'slow_down')
  clock.advance(DEVICE_LIMITS.intervalMs * 2)
  assert.equal((await devices.poll(device)).state, 'pending')
  clock.advance(DEVICE_LIMITS.lifeMs)
  assert.equal(await code(begin()), 'ok')
})

test('two that ask with one secret at the same moment get one certificate', async (t) => {
  const { devices, session, begin } = await place(t)
  const { device, code: shown } = await begin()
  await devices.decide(session, (await devices.look(session, shown)).id, 'yes', 'totp')
  const both = await Promise.all([code(devices.poll(device)), code(devices.poll(device))])
  assert.deepEqual(both.sort(), ['factor_invalid', 'ok'])
})

test('who is disabled between his yes and the next question gets nothing', async (t) => {
  const { devices, session, begin, store, dana } = await place(t)
  const { device, code: shown } = await begin()
  await devices.decide(session, (await devices.look(session, shown)).id, 'yes', 'totp')
  await store.db.updateTable('identities').set({ state: 'disabled' }).where('id', '=', dana.identity.id).execute()
  assert.equal(await code(devices.poll(device)), 'identity_disabled')
})

test('a code is read in any case, and nothing else is one', () => {
  assert.equal(codeOf(' bcdf ghjk '), 'BCDF-GHJK')
  for (const text of ['', 'BCDF-GHJ', 'ABCD-EFGH', 'BCDF-GHJKL', 'BCDF_GHJK']) assert.equal(codeOf(text), undefined)
})

test('rule 11: terminals that wait from hundreds of networks keep nobody from beginning, and a yes that was given stays', async (t) => {
  const { devices, session, begin, store } = await place(t)
  const [honest, agreed] = [await begin('192.0.2.1'), await begin('192.0.2.2')]
  await devices.decide(session, (await devices.look(session, agreed.code)).id, 'yes', 'totp')
  const row = await store.db.selectFrom('device_logins').selectAll().where('state', '=', 'waiting').executeTakeFirstOrThrow()
  const flood = Array.from({ length: DEVICE_LIMITS.waiting - 2 }, (_, i) => ({
    ...row,
    ...{ id: `dvl_${i}`, device_sha256: `d${i}`, code_sha256: `c${i}`, came_from: `10.0.${i % 100}.1` },
  }))
  await store.write(async (trx) => {
    for (let at = 0; at < flood.length; at += 500)
      await trx
        .insertInto('device_logins')
        .values(flood.slice(at, at + 500))
        .execute()
  })
  const late = await begin('203.0.113.1')
  for (let i = 0; i < 20; i++) await begin(`10.1.${i}.1`)
  for (const one of [honest, late]) assert.equal((await devices.poll(one.device)).state, 'pending')
  assert.equal((await devices.poll(agreed.device)).state, 'signed in')
})
