import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setIdentityState } from '../identity/directory.ts'
import type { LiveSession } from '../identity/types.ts'
import { type Lies, softAuthenticator } from './authenticator.fixture.ts'
import { keepFlows } from './directory/flows.ts'
import { browserPlace, told } from './place.fixture.ts'
import { fromBase32, stepAt, totpCode } from './totp.ts'

const PLACE = { rpId: 'chaperone.example', origin: 'https://chaperone.example:7444' }
const WHAT = { request: 'req_1', seen: 'a'.repeat(64), verdict: 'approve' }

/** dana with a passkey, and what she does with it. */
async function withPasskey(t: TestContext) {
  const place = await browserPlace(t)
  const { passkeys, browsers, sessions } = place
  const dana = await place.enrolled('dana')
  const { session } = await browsers.open(dana.session.secret)
  const key = softAuthenticator(PLACE)
  const add = async (who: LiveSession, one = softAuthenticator(PLACE), lies: Lies = {}) => {
    await sessions.factorGiven(who.id, 'totp')
    const { challenge, options } = await passkeys.startAdding(who, PLACE)
    await passkeys.add(who, { challenge, response: one.create(options.challenge, lies) }, 'laptop', PLACE)
  }
  await add(session, key)
  const signIn = async (lies: Lies = {}) => {
    const { challenge, options } = await passkeys.startSignIn(PLACE)
    return passkeys.signIn({ challenge, response: key.get(options.challenge, lies) }, PLACE)
  }
  const confirm = async (asked: unknown, answered: unknown = asked, lies: Lies = {}, who = session) => {
    const { challenge, options } = await passkeys.startFactor(session, asked, PLACE)
    await passkeys.factor(who, { challenge, response: key.get(options.challenge, lies) }, answered, PLACE)
  }
  return { ...place, dana, session, key, add, signIn, confirm }
}

test('a passkey is enrolled, signs in by itself, and is on record', async (t) => {
  const { signIn, browsers, passkeys, session, records, store } = await withPasskey(t)
  assert.deepEqual(
    (await passkeys.list(session)).map(({ name }) => name),
    ['laptop'],
  )
  const cookie = await signIn()
  assert.equal((await browsers.open(cookie.secret)).session.principal.name, 'dana')
  const kinds = records.filter(({ data }) => JSON.stringify(data ?? {}).includes('passkey')).map(({ type }) => type)
  assert.deepEqual(kinds, ['factor.enrolled', 'factor.used'])
  assert.equal((await store.db.selectFrom('challenges').select('id').execute()).length, 0, 'questions are used up')
})

test('whoever is on his way to a directory is not stopped by an answer to another question', async (t) => {
  const { passkeys, key, store, clock } = await withPasskey(t)
  const flows = keepFlows(store, () => clock.now())
  const flow = { directory: 'company', issuer: 'https://id.example', clientId: 'c', redirect: 'https://here', nonce: 'n', verifier: 'v' }
  const { state, cookie } = await flows.begin({ ...flow, next: '/requests', fresh: false })
  const challenge = state.split('.')[0]!
  // His address says the id; and what the authenticator signs then holds no challenge at all.
  for (const asked of ['', undefined as never])
    await assert.rejects(passkeys.signIn({ challenge, response: key.get(asked) }, PLACE), { code: 'factor_invalid' })
  assert.equal((await flows.take(state, cookie.secret)).directory, 'company')
})

test('a passkey is added only with a second factor of the last five minutes, by a person himself, and ten at most', async (t) => {
  const { passkeys, session, clock, add } = await withPasskey(t)
  clock.advance(5 * 60_000 + 1)
  await assert.rejects(passkeys.startAdding(session, PLACE), { code: 'factor_required' })
  const agent = { ...session, principal: { ...session.principal, chain: [{ identity: 'usr_1' }, { identity: 'agt_1' }] } } as never
  await assert.rejects(passkeys.startAdding(agent, PLACE), { code: 'factor_invalid' })
  for (let i = 1; i < 10; i++) await add(session)
  await assert.rejects(add(session), { code: 'too_many' })
})

test('what is wrong with a new key is refused: the origin, the host, no verification, another question', async (t) => {
  const { add, session, types } = await withPasskey(t)
  const lies: Lies[] = [{ origin: 'https://evil.example' }, { rpId: 'evil.example' }, { unverified: true }, { challenge: 'AAAA' }]
  for (const lie of lies) await assert.rejects(add(session, softAuthenticator(PLACE), lie), { code: 'factor_invalid' }, JSON.stringify(lie))
  assert.equal(types().filter((type) => type === 'factor.refused').length, lies.length)
})

test('what is wrong with a sign-in gets one answer: origin, host, no verification, another question, unknown key, another person', async (t) => {
  const { signIn } = await withPasskey(t)
  const lies: Lies[] = [
    { origin: 'https://evil.example' },
    { origin: 'https://chaperone.example' },
    { rpId: 'evil.example' },
    { unverified: true },
    { challenge: 'AAAA' },
    { id: 'AAAA' },
    { userHandle: 'usr_somebody' },
  ]
  const answers = new Set<string>()
  for (const lie of lies) answers.add(await told(signIn(lie)))
  assert.equal(answers.size, 1)
  assert.match([...answers][0]!, /factor_invalid/)
  assert.ok(await signIn(), 'the key itself is none the worse for it')
})

test('an answer counts once, within minutes, and a question of one kind is no answer to another', async (t) => {
  const { passkeys, key, session, sessions, browsers, dana, clock } = await withPasskey(t)
  const { challenge, options } = await passkeys.startSignIn(PLACE)
  const response = key.get(options.challenge)
  const outcomes = await Promise.all([1, 2, 3].map(() => told(passkeys.signIn({ challenge, response }, PLACE))))
  assert.equal(outcomes.filter((outcome) => outcome === 'ok').length, 1)
  const late = await passkeys.startSignIn(PLACE)
  clock.advance(3 * 60_000)
  await assert.rejects(passkeys.signIn({ challenge: late.challenge, response: key.get(late.options.challenge) }, PLACE), { code: 'factor_invalid' })
  const factor = await passkeys.startFactor(session, WHAT, PLACE)
  const given = { challenge: factor.challenge, response: key.get(factor.options.challenge) }
  await assert.rejects(passkeys.signIn(given, PLACE), { code: 'factor_invalid' })
  await assert.rejects(passkeys.add(session, given, 'x', PLACE), { code: 'factor_invalid' })
  await sessions.factorGiven(session.id, 'totp')
  const fresh = softAuthenticator(PLACE)
  const asAdding = async () => {
    const { challenge, options } = await passkeys.startAdding(session, PLACE)
    return { challenge, response: fresh.create(options.challenge) }
  }
  await assert.rejects(passkeys.factor(session, await asAdding(), WHAT, PLACE), { code: 'factor_invalid' })
  const second = await browsers.open((await browsers.begin(dana.identity)).secret)
  await assert.rejects(passkeys.add(second.session, await asAdding(), 'x', PLACE), { code: 'factor_invalid' }, 'of another session')
})

test('a counter that does not rise is one of a copy: refused, and recorded with what it was', async (t) => {
  const { signIn, records, store } = await withPasskey(t)
  await signIn({ counter: 7 })
  for (const counter of [7, 6, 0]) {
    await assert.rejects(signIn({ counter }), { code: 'factor_invalid' })
    const { data } = records.findLast(({ type, data }) => type === 'factor.refused' && data?.reason === 'counter')!
    assert.deepEqual([data!.counter, data!.before], [counter, 7])
  }
  await signIn({ counter: 8 })
  assert.equal((await store.db.selectFrom('passkeys').select('counter').executeTakeFirstOrThrow()).counter, 8)
})

test('a key that counts nothing may always say 0', async (t) => {
  const { store, signIn } = await withPasskey(t)
  await store.write((trx) => trx.updateTable('passkeys').set({ counter: 0 }).execute())
  for (let i = 0; i < 3; i++) assert.ok(await signIn({ counter: 0 }))
})

test('rule 12: a yes is to exactly one thing: another request, text, verdict or session, and the signature is of something else', async (t) => {
  const { confirm, browsers, dana, records } = await withPasskey(t)
  const others = [{ ...WHAT, request: 'req_2' }, { ...WHAT, seen: 'b'.repeat(64) }, { ...WHAT, verdict: 'deny' }, { ...WHAT, forMs: 1 }, {}]
  for (const other of others) await assert.rejects(confirm(WHAT, other), { code: 'factor_invalid' }, JSON.stringify(other))
  const second = await browsers.open((await browsers.begin(dana.identity)).secret)
  await assert.rejects(confirm(WHAT, WHAT, {}, second.session), { code: 'factor_invalid' })
  assert.equal(second.session.factorAt, undefined)
  await confirm(WHAT)
  assert.equal(records.at(-1)!.type, 'factor.used')
})

test('a key of somebody else confirms nothing, and neither does one that was removed or whose owner is disabled', async (t) => {
  const { enrolled, browsers, passkeys, key, session, signIn, store, clock, dana } = await withPasskey(t)
  const erik = await enrolled('erik')
  const his = (await browsers.open(erik.session.secret)).session
  const { challenge, options } = await passkeys.startFactor(his, WHAT, PLACE)
  await assert.rejects(passkeys.factor(his, { challenge, response: key.get(options.challenge) }, WHAT, PLACE), { code: 'factor_invalid' })
  await assert.rejects(passkeys.remove(his, key.id), { code: 'not_found' })
  await store.reduce((trx) => setIdentityState(trx, dana.identity.id, 'disabled', clock.now()))
  await assert.rejects(signIn(), { code: 'factor_invalid' })
  await store.reduce((trx) => setIdentityState(trx, dana.identity.id, 'active', clock.now()))
  await signIn()
  await passkeys.remove(session, key.id)
  await assert.rejects(signIn(), { code: 'factor_invalid' })
})

test('a new factor by a new invitation is the only one: the passkeys of before open nothing any more, and that is on record', async (t) => {
  const { signIn, passkeys, session, signin, browsers, invite, dana, clock, records } = await withPasskey(t)
  const id = (await passkeys.list(session))[0]?.id
  const secret = await invite(dana.identity.id)
  const { totp } = await signin.beginEnrol(secret)
  await signIn()
  await browsers.enrol({ secret, code: totpCode(fromBase32(totp.secret)!, stepAt(clock.now())), name: 'Firefox on Linux' })
  await assert.rejects(signIn(), { code: 'factor_invalid' })
  assert.deepEqual(await passkeys.list(session), [])
  assert.deepEqual(
    records.filter(({ type }) => type === 'factor.removed').map(({ data }) => data?.passkey),
    [id],
  )
})

test('rule 11: questions that nobody answers fill nothing', async (t) => {
  const { passkeys, session, store } = await withPasskey(t)
  for (let i = 0; i < 30; i++) await passkeys.startFactor(session, WHAT, PLACE)
  assert.ok((await store.db.selectFrom('challenges').select('id').execute()).length <= 20)
})

test('an answer that is none is refused, whatever it is', async (t) => {
  const { passkeys, session } = await withPasskey(t)
  for (const response of [
    undefined,
    null,
    'x',
    [],
    {},
    { id: 'x' },
    { id: 'x', rawId: 'x', type: 'public-key', response: {} },
    { id: 'x'.repeat(20_000) },
  ]) {
    const { challenge } = await passkeys.startFactor(session, WHAT, PLACE)
    await assert.rejects(passkeys.factor(session, { challenge, response }, WHAT, PLACE), { code: 'factor_invalid' })
  }
  await assert.rejects(passkeys.factor(session, { challenge: 'chl_x', response: {} }, WHAT, PLACE), { code: 'factor_invalid' })
})
