import assert from 'node:assert/strict'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Draft } from '../audit/record.ts'
import { openAuthority } from '../ca/authority.ts'
import { makeCsr } from '../ca/make-csr.ts'
import { TTL } from '../ca/types.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { principalFromCertificate } from '../identity/credential.ts'
import { clientOf } from '../identity/delegation/client.fixture.ts'
import { createIdentity, setIdentityState } from '../identity/directory.ts'
import { makeInvitation } from '../identity/invitations.ts'
import { noJoining } from '../identity/joining/joining.fixture.ts'
import { openSessions } from '../identity/sessions.ts'
import type { LiveSession } from '../identity/types.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { openStore } from '../store/open.ts'
import { openSignin } from './enrol.ts'
import { anyEnrolled } from './factor.ts'
import { fromBase32, stepAt, totpCode } from './totp.ts'

const MINUTE = 60_000

function device() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { csr: makeCsr(privateKey, publicKey), publicKey }
}

async function place(t: TestContext) {
  const clock = manualClock(Date.UTC(2026, 10, 22))
  const dataDir = mkdtempSync(join(tmpdir(), 'chaperone-signin-'))
  const store = await openStore({ dataDir }, { clock })
  const keyring = await openKeyring(store, await loadRootKey({ store, createAt: `${dataDir}.key` }), clock)
  const ca = await openAuthority(store, keyring, { clock, trustDomain: 'example.org' })
  const records: Draft[] = []
  let broken = false
  const audit = {
    async append(draft: Draft) {
      if (broken) throw new ChaperoneError('audit_unavailable', 'The record cannot be written, so nothing may happen.')
      records.push(draft)
      return { id: `rec_${records.length}`, seq: records.length }
    },
  }
  const sessions = openSessions({ store, audit, clock, raised: async () => {}, mayAct: async () => {} })
  const signin = openSignin({ store, keyring, ca, sessions, audit, clock, trustDomain: 'example.org', joining: noJoining, ownCounts: async () => {} })
  t.after(async () => {
    await ca.close()
    await store.close()
  })
  const dana = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'dana', source: 'bootstrap', now: clock.now() }))
  const invite = async (identityId = dana.id, kind: 'invitation' | 'join' = 'invitation') =>
    (await store.write((trx) => makeInvitation(trx, { kind, identityId, ttlMs: 60 * MINUTE, now: clock.now() }))).secret
  const codeOf = (secret: string, ahead = 0) => totpCode(fromBase32(secret)!, stepAt(clock.now()) + ahead)
  /** dana, enrolled on a device, and the clock on a fresh step. */
  const enrol = async () => {
    const secret = await invite()
    const { totp } = await signin.beginEnrol(secret)
    const laptop = device()
    const signedIn = await signin.finishEnrol({ secret, csr: laptop.csr, code: codeOf(totp.secret) })
    clock.advance(30_000)
    return { laptop, signedIn, code: (ahead = 0) => codeOf(totp.secret, ahead) }
  }
  return {
    clock,
    store,
    ca,
    sessions,
    signin,
    records,
    dana,
    invite,
    codeOf,
    enrol,
    types: () => records.map(({ type }) => type),
    breakAudit: () => {
      broken = true
    },
  }
}

const told = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    ({ code, message, fix }) => JSON.stringify({ code, message, fix }),
  )
/** A code that is none of the three that would be right. */
const wrongCode = (...right: string[]) => ['000000', '111111', '222222', '333333', '444444'].find((code) => !right.includes(code))!

test('an invitation makes a person, a device, a factor, a session and a certificate', async (t) => {
  const { signin, invite, codeOf, ca, clock, dana, records, store } = await place(t)
  const secret = await invite()
  const offer = await signin.beginEnrol(secret)
  assert.deepEqual([offer.name, offer.trustDomain], ['dana', 'example.org'])
  assert.ok(offer.totp.uri.includes(offer.totp.secret))
  assert.equal(await anyEnrolled(store.db), false, 'an offer is no factor yet')
  const { csr, publicKey } = device()
  const signedIn = await signin.finishEnrol({ secret, csr, code: codeOf(offer.totp.secret) })
  assert.equal(await anyEnrolled(store.db), true)
  assert.deepEqual(signedIn.identity, { id: dana.id, name: 'dana', kind: 'user' })
  assert.equal(signedIn.notAfter, clock.now() + TTL.userMs)
  const certificate = new X509Certificate(signedIn.certificate)
  assert.ok(certificate.publicKey.equals(publicKey))
  const principal = principalFromCertificate(certificate, {
    identityBundle: await ca.bundle('identity'),
    now: clock.now(),
    trustDomain: 'example.org',
  })
  assert.deepEqual([principal.identityId, principal.sessionId, principal.credentialId], [dana.id, signedIn.session, signedIn.credential])
  assert.deepEqual(
    records.map(({ type }) => type),
    ['invitation.used', 'factor.enrolled', 'session.started', 'credential.issued'],
  )
  const session = await store.db.selectFrom('sessions').selectAll().where('id', '=', signedIn.session).executeTakeFirstOrThrow()
  assert.deepEqual([session.how, session.factor_at], ['enrol', clock.now()])
})

test('an invitation enrols once: of racers one wins, and it is over afterwards', async (t) => {
  const { signin, invite, codeOf, store, types } = await place(t)
  const secret = await invite()
  const { totp } = await signin.beginEnrol(secret)
  const code = codeOf(totp.secret)
  const outcomes = await Promise.all(Array.from({ length: 5 }, () => told(signin.finishEnrol({ secret, csr: device().csr, code }))))
  assert.equal(outcomes.filter((outcome) => outcome === 'ok').length, 1)
  assert.equal((await store.db.selectFrom('devices').select('id').execute()).length, 1)
  await assert.rejects(signin.beginEnrol(secret), { code: 'invitation_invalid' })
  await assert.rejects(signin.finishEnrol({ secret, csr: device().csr, code }), { code: 'invitation_invalid' })
  assert.ok(types().filter((type) => type === 'credential.refused').length >= 6)
})

test('asking again offers another secret: one that somebody saw earlier is worthless', async (t) => {
  const { signin, invite, codeOf } = await place(t)
  const secret = await invite()
  const first = await signin.beginEnrol(secret)
  const second = await signin.beginEnrol(secret)
  assert.notEqual(first.totp.secret, second.totp.secret)
  await assert.rejects(signin.finishEnrol({ secret, csr: device().csr, code: codeOf(first.totp.secret) }), { code: 'factor_invalid' })
  assert.ok(await signin.finishEnrol({ secret, csr: device().csr, code: codeOf(second.totp.secret) }))
})

test('an offer belongs to its invitation: the code of one is nothing at another', async (t) => {
  const { signin, invite, codeOf, store, clock } = await place(t)
  const erik = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'erik', source: 'document', now: clock.now() }))
  const [mine, his] = [await invite(), await invite(erik.id)]
  const offer = await signin.beginEnrol(mine)
  await assert.rejects(
    signin.finishEnrol({ secret: his, csr: device().csr, code: codeOf(offer.totp.secret) }),
    { code: 'factor_invalid' },
    'nothing was offered there',
  )
  await signin.beginEnrol(his)
  await assert.rejects(signin.finishEnrol({ secret: his, csr: device().csr, code: codeOf(offer.totp.secret) }), { code: 'factor_invalid' })
})

test('a wrong first code leaves the invitation open, and is counted over new offers', async (t) => {
  const { signin, invite, codeOf, types } = await place(t)
  const secret = await invite()
  for (let i = 0; i < 5; i++) {
    const { totp } = await signin.beginEnrol(secret)
    const code = wrongCode(codeOf(totp.secret, -1), codeOf(totp.secret), codeOf(totp.secret, 1))
    await assert.rejects(signin.finishEnrol({ secret, csr: device().csr, code }), { code: 'factor_invalid' })
  }
  const { totp } = await signin.beginEnrol(secret)
  await assert.rejects(signin.finishEnrol({ secret, csr: device().csr, code: codeOf(totp.secret) }), { code: 'factor_invalid' }, 'blocked')
  assert.equal(types().filter((type) => type === 'factor.refused').length, 6)
  assert.ok(!types().includes('invitation.used'))
})

test('rule 3: nothing is enrolled, joined or issued when it cannot be recorded', async (t) => {
  const { signin, invite, codeOf, breakAudit, store } = await place(t)
  const secret = await invite()
  const { totp } = await signin.beginEnrol(secret)
  breakAudit()
  await assert.rejects(signin.finishEnrol({ secret, csr: device().csr, code: codeOf(totp.secret) }), { code: 'audit_unavailable' })
  assert.equal(await anyEnrolled(store.db), false)
  assert.equal((await store.db.selectFrom('devices').select('id').execute()).length, 0)
  assert.equal((await store.db.selectFrom('invitations').select('id').where('used_at', 'is not', null).execute()).length, 0)
})

test('an enrolled device and a code sign in again, in a new session', async (t) => {
  const { signin, enrol, types } = await place(t)
  const { laptop, signedIn, code } = await enrol()
  const again = await signin.login({ name: 'dana', csr: laptop.csr, code: code() })
  assert.notEqual(again.session, signedIn.session)
  assert.deepEqual(types().slice(-3), ['factor.used', 'session.started', 'credential.issued'])
})

test('a code works once, at enrolment as at login', async (t) => {
  const { signin, enrol, clock } = await place(t)
  const { laptop, code } = await enrol()
  await assert.rejects(signin.login({ name: 'dana', csr: laptop.csr, code: code(-1) }), { code: 'factor_invalid' }, 'the code of the enrolment')
  const used = code()
  await signin.login({ name: 'dana', csr: laptop.csr, code: used })
  await assert.rejects(signin.login({ name: 'dana', csr: laptop.csr, code: used }), { code: 'factor_invalid' })
  clock.advance(30_000)
  const outcomes = await Promise.all(Array.from({ length: 4 }, () => told(signin.login({ name: 'dana', csr: laptop.csr, code: code() }))))
  assert.equal(outcomes.filter((outcome) => outcome === 'ok').length, 1, 'also among racers')
})

test('rule 8: a wrong name, a wrong device and a wrong code are answered alike', async (t) => {
  const { signin, enrol, types } = await place(t)
  const { laptop, code } = await enrol()
  const wrong = wrongCode(code(-1), code(), code(1))
  const answers = new Set([
    await told(signin.login({ name: 'nobody', csr: laptop.csr, code: code() })),
    await told(signin.login({ name: 'nobody', csr: device().csr, code: wrong })),
    await told(signin.login({ name: 'dana', csr: device().csr, code: code() })),
    await told(signin.login({ name: 'dana', csr: laptop.csr, code: wrong })),
    await told(signin.login({ name: 'x'.repeat(10_000), csr: laptop.csr, code: '' })),
  ])
  assert.equal(answers.size, 1)
  assert.match([...answers][0]!, /factor_invalid/)
  assert.equal(types().filter((type) => type === 'credential.refused').length, 5)
  assert.ok(await signin.login({ name: 'dana', csr: laptop.csr, code: code() }), 'a failure before does not use up the right code')
})

test('five wrong codes close the factor for five minutes, also when they come at once; without the device they count for nothing', async (t) => {
  const { signin, enrol, clock } = await place(t)
  const { laptop, code } = await enrol()
  const wrong = wrongCode(code(-1), code(), code(1))
  for (let i = 0; i < 20; i++) await told(signin.login({ name: 'dana', csr: device().csr, code: wrong }))
  clock.advance(30_000)
  await signin.login({ name: 'dana', csr: laptop.csr, code: code() })
  const guesses = wrongCode(code(-1), code(), code(1))
  await Promise.all(Array.from({ length: 5 }, () => told(signin.login({ name: 'dana', csr: laptop.csr, code: guesses }))))
  clock.advance(30_000)
  await assert.rejects(signin.login({ name: 'dana', csr: laptop.csr, code: code() }), { code: 'factor_invalid' })
  clock.advance(5 * MINUTE)
  assert.ok(await signin.login({ name: 'dana', csr: laptop.csr, code: code() }))
})

test('a second invitation brings a second device and a new factor; the old factor is over', async (t) => {
  const { signin, enrol, store } = await place(t)
  const first = await enrol()
  const second = await enrol()
  await assert.rejects(signin.login({ name: 'dana', csr: second.laptop.csr, code: first.code() }), { code: 'factor_invalid' })
  assert.ok(await signin.login({ name: 'dana', csr: first.laptop.csr, code: second.code() }))
  assert.equal((await store.db.selectFrom('factors').select('id').execute()).length, 1)
})

test('who has come in by one invitation comes in by no other that was made before: whoever kept that would be he', async (t) => {
  const { signin, invite, codeOf } = await place(t)
  const [kept, offered, used] = [await invite(), await invite(), await invite()]
  const before = codeOf((await signin.beginEnrol(offered)).totp.secret)
  const { totp } = await signin.beginEnrol(used)
  await signin.finishEnrol({ secret: used, csr: device().csr, code: codeOf(totp.secret) })
  await assert.rejects(signin.beginEnrol(kept), { code: 'invitation_invalid' })
  await assert.rejects(signin.finishEnrol({ secret: offered, csr: device().csr, code: before }), { code: 'invitation_invalid' })
  assert.ok((await signin.beginEnrol(await invite())).totp, 'a new one is as good as ever')
})

test('a disabled person neither signs in nor enrols', async (t) => {
  const { signin, enrol, invite, store, dana, clock } = await place(t)
  const { laptop, code } = await enrol()
  const secret = await invite()
  await store.reduce((trx) => setIdentityState(trx, dana.id, 'disabled', clock.now()))
  await assert.rejects(signin.login({ name: 'dana', csr: laptop.csr, code: code() }), { code: 'identity_disabled' })
  await assert.rejects(signin.beginEnrol(secret), { code: 'identity_disabled' })
})

test('a join token makes one session of an agent, with a certificate of minutes', async (t) => {
  const { signin, invite, store, dana, clock, types } = await place(t)
  const bot = await store.write((trx) =>
    createIdentity(trx, { kind: 'agent', name: 'report-bot', ownerId: dana.id, source: 'document', now: clock.now() }),
  )
  const token = await invite(bot.id, 'join')
  await assert.rejects(signin.join({ token, csr: device().csr, ttlMs: 29_999 }), { code: 'issue_refused' })
  await assert.rejects(signin.join({ token, csr: device().csr, ttlMs: TTL.longestMs + 1 }), { code: 'issue_refused' })
  await assert.rejects(signin.join({ token, csr: 'x' }), { code: 'issue_refused' })
  await assert.rejects(
    signin.finishEnrol({ secret: token, csr: device().csr, code: '000000' }),
    { code: 'invitation_invalid' },
    'a join token is no invitation',
  )
  await assert.rejects(signin.join({ token, as: 'other-bot', csr: device().csr }), {
    code: 'join_refused',
    message: /for report-bot, not for other-bot/,
  })
  const joined = await signin.join({ token, as: 'report-bot', csr: device().csr, purpose: 'weekly report' })
  assert.deepEqual([joined.identity.name, joined.notAfter], ['report-bot', clock.now() + TTL.agentMs])
  assert.ok(joined.sessionUntil > joined.notAfter)
  await assert.rejects(signin.join({ token, csr: device().csr }), { code: 'invitation_invalid' })
  assert.deepEqual(types().slice(-4), ['invitation.used', 'session.started', 'credential.issued', 'credential.refused'])
})

test('an invitation of a person is no join token', async (t) => {
  const { signin, invite } = await place(t)
  await assert.rejects(signin.join({ token: await invite(), csr: device().csr }), { code: 'invitation_invalid' })
})

test('a second factor counts in a person’s own session, never in that of an agent of his', async (t) => {
  const { signin, enrol, sessions, ca, clock, store, dana } = await place(t)
  const { signedIn, code } = await enrol()
  const context = { identityBundle: await ca.bundle('identity'), now: clock.now(), trustDomain: 'example.org' }
  const own = await sessions.open(principalFromCertificate(new X509Certificate(signedIn.certificate), context))
  const { agent, delegationId } = await clientOf(store, dana, 'claude-code', clock.now())
  const chain = [{ identity: dana.id }, { identity: agent.id, delegation: delegationId }]
  const started = await sessions.start({ identityId: agent.id, chain, how: 'client', lifeMs: MINUTE })
  const acting = await sessions.open({ ...own.principal, identityId: agent.id, kind: 'agent', name: agent.name, chain, sessionId: started.id })
  await assert.rejects(signin.factor(acting, code()), { code: 'factor_invalid' })
  // Nor when a person acts for another one: it is not his own session.
  const forAnother = { ...own.principal, chain: [{ identity: agent.id }, { identity: dana.id, delegation: delegationId }] }
  await assert.rejects(signin.factor({ id: own.id, principal: forAnother, assertLive() {} } as unknown as LiveSession, code()), {
    code: 'factor_invalid',
  })
  const { until } = await signin.factor(own, code())
  assert.equal(until, clock.now() + 5 * MINUTE)
  assert.equal(own.factorAt, clock.now())
  await assert.rejects(signin.factor(own, code()), { code: 'factor_invalid' }, 'used')
})

test('rule 5: no record and no row holds a secret of the factor, the invitation or a code', async (t) => {
  const { signin, invite, codeOf, records, store } = await place(t)
  const secret = await invite()
  const { totp } = await signin.beginEnrol(secret)
  await signin.finishEnrol({ secret, csr: device().csr, code: codeOf(totp.secret) })
  const rows = await Promise.all(
    (['factors', 'invitations', 'sessions', 'devices'] as const).map((table) => store.db.selectFrom(table).selectAll().execute()),
  )
  const bytes = rows
    .flat()
    .flatMap((row) => Object.values(row).map((value) => (value instanceof Uint8Array ? Buffer.from(value) : Buffer.from(String(value)))))
  const raw = Buffer.from(fromBase32(totp.secret)!)
  assert.ok(!bytes.some((value) => value.includes(raw) || value.includes(secret)))
  assert.ok(!JSON.stringify(records).includes(secret) && !JSON.stringify(records).includes(totp.secret))
})
