import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setIdentityState } from '../identity/directory.ts'
import type { LiveSession } from '../identity/types.ts'
import { BROWSER_LIMITS } from './browser-limits.ts'
import { browserPlace, told, wrongCode } from './place.fixture.ts'

const MINUTE = 60_000

/** dana with a certificate, as the CLI has her, and a second factor of just now. */
async function atTheTerminal(t: TestContext) {
  const place = await browserPlace(t)
  const dana = await place.enrolled('dana')
  const web = await place.browsers.open(dana.session.secret)
  const terminal = (more: Partial<LiveSession['principal']> = {}, factorAt: number | undefined = place.clock.now()) =>
    ({ id: web.session.id, assertLive() {}, factorAt, principal: { ...web.session.principal, proof: 'mtls', ...more } }) as unknown as LiveSession
  return { ...place, dana, terminal }
}

test('an invitation opened in a browser enrols the factor, makes the browser known and begins a session, each recorded', async (t) => {
  const { browsers, enrolled, types, records, store } = await browserPlace(t)
  const dana = await enrolled('dana')
  assert.deepEqual(types(), ['invitation.used', 'factor.enrolled', 'session.started'])
  assert.equal((records[2]!.data as { how: string }).how, 'browser')
  const { session } = await browsers.open(dana.session.secret)
  assert.deepEqual([session.principal.proof, session.principal.name, session.principal.chain], ['browser', 'dana', [{ identity: dana.identity.id }]])
  assert.deepEqual(await browsers.known(dana.browser.secret), { name: 'dana' })
  const kept = JSON.stringify([
    await store.db.selectFrom('browsers').selectAll().execute(),
    await store.db.selectFrom('web_sessions').selectAll().execute(),
    records,
  ])
  for (const { secret } of [dana.browser, dana.session]) assert.ok(!kept.includes(secret), 'a cookie is kept as its hash only')
})

test('nothing is enrolled when it cannot be recorded', async (t) => {
  const { browsers, signin, invite, person, breakAudit, store } = await browserPlace(t)
  const { id } = await person('erik')
  const secret = await invite(id)
  const { totp } = await signin.beginEnrol(secret)
  breakAudit()
  const { totpCode, fromBase32, stepAt } = await import('./totp.ts')
  const code = totpCode(fromBase32(totp.secret)!, stepAt(Date.UTC(2026, 10, 22)))
  await assert.rejects(browsers.enrol({ secret, code, name: 'x' }), { code: 'audit_unavailable' })
  assert.equal((await store.db.selectFrom('browsers').select('id').execute()).length, 0)
})

test('a code signs in in a known browser, once', async (t) => {
  const { browsers, enrolled, types } = await browserPlace(t)
  const dana = await enrolled('dana')
  const code = dana.code()
  const { secret } = await browsers.signIn(dana.browser.secret, code)
  assert.deepEqual(types().slice(-3), ['factor.used', 'session.started', 'session.ended'])
  assert.ok(await browsers.open(secret))
  await assert.rejects(browsers.signIn(dana.browser.secret, code), { code: 'factor_invalid' })
})

test('an unknown browser, a forgotten one, one whose time is over, no cookie and a wrong code get one answer, and are all recorded', async (t) => {
  const { browsers, enrolled, clock, types } = await browserPlace(t)
  const [dana, erik, boris] = [await enrolled('dana'), await enrolled('erik'), await enrolled('boris')]
  const { session } = await browsers.open(erik.session.secret)
  const [known] = await browsers.browsers(session)
  await browsers.forget(session, known!.id)
  const before = types().length
  const answers = new Set([
    await told(browsers.signIn(undefined, dana.code())),
    await told(browsers.signIn('x'.repeat(43), dana.code())),
    await told(browsers.signIn(`${dana.browser.secret}x`, dana.code())),
    await told(browsers.signIn(erik.browser.secret, erik.code())),
    await told(browsers.signIn(dana.browser.secret, wrongCode(dana.code()))),
    await told(browsers.signIn(dana.browser.secret, '')),
  ])
  clock.advance(BROWSER_LIMITS.knownMs)
  answers.add(await told(browsers.signIn(boris.browser.secret, boris.code())))
  assert.equal(answers.size, 1)
  assert.match([...answers][0]!, /factor_invalid/)
  assert.equal(
    types()
      .slice(before)
      .filter((type) => type === 'credential.refused').length,
    7,
  )
})

test('guessing without the browser closes nobody’s factor; with it five wrong codes do, for five minutes', async (t) => {
  const { browsers, enrolled, clock } = await browserPlace(t)
  const dana = await enrolled('dana')
  for (let i = 0; i < 20; i++) await told(browsers.signIn('y'.repeat(43), wrongCode(dana.code())))
  await browsers.signIn(dana.browser.secret, dana.code())
  clock.advance(30_000)
  for (let i = 0; i < 5; i++) await told(browsers.signIn(dana.browser.secret, wrongCode(dana.code())))
  await assert.rejects(browsers.signIn(dana.browser.secret, dana.code()), { code: 'factor_invalid' })
  clock.advance(5 * MINUTE)
  assert.ok(await browsers.signIn(dana.browser.secret, dana.code()))
})

test('signing in is no second factor for a decision', async (t) => {
  const { browsers, enrolled } = await browserPlace(t)
  const dana = await enrolled('dana')
  for (const { secret } of [await browsers.begin(dana.identity), await browsers.signIn(dana.browser.secret, dana.code())])
    assert.equal((await browsers.open(secret)).session.factorAt, undefined)
})

test('a session ends after half an hour without use, after eight hours at the latest, and when it is ended elsewhere', async (t) => {
  const { browsers, enrolled, clock, sessions, types } = await browserPlace(t)
  const dana = await enrolled('dana')
  const { session } = await browsers.open(dana.session.secret)
  const used = await browsers.begin(dana.identity)
  for (let spent = 0; spent < BROWSER_LIMITS.sessionMs; spent += 29 * MINUTE) {
    await browsers.open(used.secret)
    clock.advance(29 * MINUTE)
  }
  await assert.rejects(browsers.open(used.secret), { code: 'session_ended' })
  await assert.rejects(browsers.open(dana.session.secret), { code: 'session_ended' }, 'idle')
  const idle = await browsers.signIn(dana.browser.secret, dana.code())
  clock.advance(BROWSER_LIMITS.idleMs)
  await assert.rejects(browsers.open(idle.secret), { code: 'session_ended' })
  assert.ok(types().includes('session.ended'))
  const ended = await browsers.signIn(dana.browser.secret, dana.code())
  const { id } = (await browsers.open(ended.secret)).session
  await sessions.end(id, 'killed')
  await assert.rejects(browsers.open(ended.secret), { code: 'session_ended' })
  assert.notEqual(session.id, id)
})

test('who is disabled is out at once, and does not come back', async (t) => {
  const { browsers, enrolled, store, clock } = await browserPlace(t)
  const dana = await enrolled('dana')
  await browsers.open(dana.session.secret)
  await store.reduce((trx) => setIdentityState(trx, dana.identity.id, 'disabled', clock.now()))
  await assert.rejects(browsers.open(dana.session.secret), { code: 'identity_disabled' })
  await assert.rejects(browsers.signIn(dana.browser.secret, dana.code()), { code: 'factor_invalid' })
  assert.equal(await browsers.known(dana.browser.secret), undefined)
})

test('an identity that is deleted leaves no known browser and no passkey behind', async (t) => {
  const { enrolled, store, clock } = await browserPlace(t)
  const dana = await enrolled('dana')
  await store.reduce((trx) => setIdentityState(trx, dana.identity.id, 'deleted', clock.now()))
  assert.deepEqual(await store.db.selectFrom('browsers').select('id').where('revoked_at', 'is', null).execute(), [])
})

test('a link makes one browser known, once, within two minutes, and signs nobody in', async (t) => {
  const { browsers, terminal, clock, types } = await atTheTerminal(t)
  const { secret, expiresAt } = await browsers.link(terminal())
  assert.equal(expiresAt, clock.now() + 2 * MINUTE)
  const outcomes = await Promise.allSettled([
    browsers.useLink(secret, 'Chrome'),
    browsers.useLink(secret, 'Chrome'),
    browsers.useLink(secret, 'Chrome'),
  ])
  const [won] = outcomes.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
  assert.deepEqual(await browsers.known(won!.secret), { name: 'dana' })
  await assert.rejects(browsers.open(won!.secret), { code: 'unauthenticated' })
  const late = await browsers.link(terminal())
  clock.advance(2 * MINUTE)
  const answers = new Set([
    await told(browsers.useLink(secret, 'x')),
    await told(browsers.useLink(late.secret, 'x')),
    await told(browsers.useLink('z', 'x')),
  ])
  assert.equal(answers.size, 1)
  assert.ok(types().includes('invitation.made'))
})

test('a newer link takes an older one away, and an invitation is no link', async (t) => {
  const { browsers, terminal, invite, dana } = await atTheTerminal(t)
  const older = await browsers.link(terminal())
  const newer = await browsers.link(terminal())
  await assert.rejects(browsers.useLink(older.secret, 'x'), { code: 'invitation_invalid' })
  assert.ok(await browsers.useLink(newer.secret, 'x'))
  await assert.rejects(browsers.useLink(await invite(dana.identity.id), 'x'), { code: 'invitation_invalid' })
})

test('a link needs a person with his own certificate and a second factor of the last five minutes', async (t) => {
  const { browsers, terminal, clock } = await atTheTerminal(t)
  const other = { identity: 'agt_1' }
  for (const wrong of [{ proof: 'browser' }, { proof: 'bearer' }, { kind: 'agent' }, { chain: [other, other] }] as const)
    await assert.rejects(browsers.link(terminal(wrong as never)), { code: 'issue_refused' }, JSON.stringify(wrong))
  await assert.rejects(browsers.link({ ...terminal(), factorAt: undefined } as never), { code: 'factor_required' })
  await assert.rejects(browsers.link(terminal({}, clock.now() - 5 * MINUTE - 1)), { code: 'factor_required' })
  await assert.rejects(browsers.link(terminal({}, clock.now() + 1)), { code: 'factor_required' }, 'a clock that went back extends nothing')
})

test('forgetting a browser ends what is signed in with it; nobody forgets those of others', async (t) => {
  const { browsers, enrolled, types } = await browserPlace(t)
  const [dana, erik] = [await enrolled('dana'), await enrolled('erik')]
  const { session } = await browsers.open(dana.session.secret)
  const [mine] = await browsers.browsers(session)
  await assert.rejects(browsers.forget((await browsers.open(erik.session.secret)).session, mine!.id), { code: 'not_found' })
  await browsers.forget(session, mine!.id)
  assert.deepEqual(types().slice(-2), ['factor.removed', 'session.ended'])
  await assert.rejects(browsers.open(dana.session.secret), { code: 'unauthenticated' })
  await assert.rejects(browsers.forget(session, mine!.id), { code: 'not_found' })
})

test('rule 11: a person has ten browsers and ten sessions in them; the oldest make room, and end', async (t) => {
  const { browsers, terminal, dana, store, clock } = await atTheTerminal(t)
  for (let i = 0; i < BROWSER_LIMITS.browsers; i++) {
    clock.advance(1000)
    await browsers.useLink((await browsers.link(terminal())).secret, `number ${i}`)
  }
  assert.equal((await store.db.selectFrom('browsers').select('id').where('revoked_at', 'is', null).execute()).length, BROWSER_LIMITS.browsers)
  assert.equal(await browsers.known(dana.browser.secret), undefined)
  await assert.rejects(browsers.open(dana.session.secret), { code: 'unauthenticated' })
  const opened = []
  for (let i = 0; i <= BROWSER_LIMITS.sessions; i++) {
    clock.advance(1000)
    opened.push(await browsers.begin(dana.identity))
  }
  await assert.rejects(browsers.open(opened[0]!.secret))
  for (const { secret } of opened.slice(1)) assert.ok(await browsers.open(secret))
})

test('signing out everywhere ends every session in a browser; the browsers stay known', async (t) => {
  const { browsers, enrolled } = await browserPlace(t)
  const dana = await enrolled('dana')
  const second = await browsers.begin(dana.identity)
  await browsers.signOutEverywhere((await browsers.open(second.secret)).session)
  for (const { secret } of [dana.session, second]) await assert.rejects(browsers.open(secret), { code: 'unauthenticated' })
  assert.ok(await browsers.known(dana.browser.secret))
})

test('the token of the forms is of one session, and not the cookie', async (t) => {
  const { browsers, enrolled } = await browserPlace(t)
  const dana = await enrolled('dana')
  const second = await browsers.begin(dana.identity)
  const [one, same, other] = [await browsers.open(dana.session.secret), await browsers.open(dana.session.secret), await browsers.open(second.secret)]
  assert.equal(one.token, same.token)
  assert.notEqual(one.token, other.token)
  assert.ok(!one.token.includes(dana.session.secret) && !dana.session.secret.includes(one.token))
})

test('signing in again in the same browser ends what was signed in there, also where a role leaves room for one session alone', async (t) => {
  const { browsers, enrolled, records, store, clock } = await browserPlace(t, { concurrent: 1 })
  const dana = await enrolled('dana')
  // The page is lost, and the browser is the same.
  const second = await browsers.signIn(dana.browser.secret, dana.code())
  await assert.rejects(browsers.open(dana.session.secret), { code: 'unauthenticated' })
  assert.ok(await browsers.open(second.secret))
  const ended = records.filter(({ type }) => type === 'session.ended').map(({ data }) => (data as { reason: string }).reason)
  assert.deepEqual(ended, ['again'])
  assert.equal((await store.db.selectFrom('web_sessions').select('session_id').execute()).length, 1)
  // A wrong code ends nothing.
  await assert.rejects(browsers.signIn(dana.browser.secret, wrongCode(dana.code())), { code: 'factor_invalid' })
  assert.ok(await browsers.open(second.secret))
  // A passkey in a browser that nobody knows: what it is signed in with is told by its cookie.
  const third = await browsers.begin(dana.identity, { before: await browsers.open(second.secret) })
  await assert.rejects(browsers.open(second.secret), { code: 'unauthenticated' })
  // And in a known one by that.
  const fourth = await browsers.begin(dana.identity, { before: await browsers.open(third.secret), browser: dana.browser.secret })
  const fifth = await browsers.begin(dana.identity, { browser: dana.browser.secret })
  await assert.rejects(browsers.open(fourth.secret), { code: 'unauthenticated' })
  clock.advance(MINUTE)
  assert.ok(await browsers.open(fifth.secret))
})

test('a session in another browser is ended by nobody but whoever is told of it and says so, with a code', async (t) => {
  const { browsers, enrolled, clock } = await browserPlace(t, { concurrent: 1 })
  const dana = await enrolled('dana')
  const { session } = await browsers.open(dana.session.secret)
  const elsewhere = await browsers.signIn(dana.browser.secret, dana.code())
  const refusal = await told(browsers.begin(dana.identity))
  assert.match(refusal, /too_many.*may have one session at a time.*End the oldest, ses_/)
  assert.ok(await browsers.open(elsewhere.secret), 'it goes on')
  assert.ok(!refusal.includes(session.id))
  clock.advance(MINUTE)
  const here = await browsers.begin(dana.identity, { endOldest: true })
  await assert.rejects(browsers.open(elsewhere.secret), { code: 'session_ended' })
  assert.ok(await browsers.open(here.secret))
  clock.advance(MINUTE)
  // Not without the code.
  await assert.rejects(browsers.signIn(dana.browser.secret, wrongCode(dana.code()), { endOldest: true }), { code: 'factor_invalid' })
  assert.ok(await browsers.open(here.secret))
})

test('a browser that is made known once more has one cookie that counts', async (t) => {
  const { browsers, terminal, dana } = await atTheTerminal(t)
  const again = await browsers.useLink((await browsers.link(terminal())).secret, 'the same', dana.browser.secret)
  assert.equal(await browsers.known(dana.browser.secret), undefined)
  await assert.rejects(browsers.open(dana.session.secret), { code: 'unauthenticated' })
  assert.deepEqual(await browsers.known(again.secret), { name: 'dana' })
})
