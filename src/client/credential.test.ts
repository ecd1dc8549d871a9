import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Credential } from '../api/contract.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { type Held, heldOf, type Issuer, keepCredential } from './credential.ts'
import type { SharedCredential } from './shared-credential.ts'

const START = 1_000_000
const LIFE = 180_000

const credential = (name: string, notAfter: number, sessionUntil: number): Credential => ({
  identity: { id: 'agt_1', name: 'boris/x', kind: 'agent' },
  session: 'ses_1',
  certificate: name,
  notAfter,
  sessionUntil,
  bundles: { trustDomain: 't', identity: '', server: '' },
  listeners: { data: ':1', web: ':2', postgres: ':3' },
})

function setUp(sessionLife = 10 * LIFE) {
  const clock = manualClock(START)
  const log: string[] = []
  let failing: ReasonCode | undefined
  let count = 0
  const next = () => credential(`cert ${++count}`, Math.min(clock.now() + LIFE, START + sessionLife), START + sessionLife + 999)
  const issuer: Issuer = {
    async begin() {
      return heldOf('a:1', 'key 0', next())
    },
    async renew(held: Held) {
      log.push(`renew with ${held.certificate} at +${clock.now() - START}`)
      if (failing) throw new ChaperoneError(failing, failing)
      return next()
    },
    async prove(held) {
      log.push(`prove ${held.certificate}`)
      if (failing) throw new ChaperoneError(failing, failing)
    },
    async end() {
      log.push('end')
    },
  }
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  return { clock, log, issuer, settle, fail: (code: ReasonCode | undefined) => (failing = code), keyPair: () => ({ key: 'k', csr: 'c' }) }
}

test('rule 4: a credential is renewed at half life with the one that is held, and proven before it is used', async () => {
  const { clock, log, issuer, settle, keyPair } = setUp()
  const keeper = await keepCredential(issuer, { clock, random: () => 0.5, keyPair })
  const seen: string[] = []
  keeper.onRenew((held) => seen.push(held.certificate))
  clock.advance(LIFE / 2 - 1)
  assert.deepEqual(log, [])
  clock.advance(1)
  await settle()
  assert.deepEqual(log, [`renew with cert 1 at +${LIFE / 2}`, 'prove cert 2'])
  assert.deepEqual(seen, ['cert 2'])
  assert.equal(keeper.current().certificate, 'cert 2')
  await keeper.close()
  assert.equal(log.at(-1), 'end')
})

test('renewals of many agents are spread', async () => {
  for (const [random, at] of [
    [0, 0.45 * LIFE],
    [0.999999, 0.55 * LIFE],
  ] as const) {
    const { clock, log, issuer, settle, keyPair } = setUp()
    await keepCredential(issuer, { clock, random: () => random, keyPair })
    clock.advance(Math.floor(at) - 1)
    assert.equal(log.length, 0)
    clock.advance(2)
    await settle()
    assert.equal(log.length, 2)
  }
})

test('a renewal that fails is tried again, and the old credential stays until its end', async () => {
  const { clock, log, issuer, settle, fail, keyPair } = setUp()
  const trouble: string[] = []
  const keeper = await keepCredential(issuer, { clock, random: () => 0.5, keyPair, onTrouble: (error) => trouble.push(error.code) })
  fail('upstream_unavailable')
  for (let i = 0; i < 300; i++) {
    clock.advance(LIFE / 400)
    await settle()
  }
  assert.ok(trouble.length >= 5 && trouble.length < 20, `${trouble.length} tries`)
  assert.equal(keeper.current().certificate, 'cert 1')
  fail(undefined)
  for (let i = 0; i < 60 && !keeper.signal.aborted; i++) {
    clock.advance(LIFE / 400)
    await settle()
  }
  assert.equal(keeper.current().certificate, 'cert 2')
  assert.ok(log.length > 0)
})

test('rule 4: without renewal it ends at notAfter, and says so', async () => {
  const { clock, issuer, settle, fail, keyPair } = setUp()
  const keeper = await keepCredential(issuer, { clock, random: () => 0.5, keyPair })
  fail('upstream_unavailable')
  clock.advance(LIFE - 1)
  await settle()
  assert.equal(keeper.signal.aborted, false)
  clock.advance(LIFE)
  await settle()
  assert.equal(keeper.signal.aborted, true)
  assert.equal((keeper.signal.reason as ChaperoneError).code, 'credential_expired')
})

test('rule 6: a locked or ended identity is not asked for again', async () => {
  for (const code of ['locked', 'session_ended', 'identity_disabled'] as const) {
    const { clock, log, issuer, settle, fail, keyPair } = setUp()
    const keeper = await keepCredential(issuer, { clock, random: () => 0.5, keyPair })
    fail(code)
    clock.advance(LIFE / 2)
    await settle()
    assert.equal((keeper.signal.reason as ChaperoneError).code, code)
    clock.advance(LIFE)
    await settle()
    assert.equal(log.length, 1)
  }
})

test('a certificate that reaches the end of its session is the last', async () => {
  const { clock, log, issuer, settle, keyPair } = setUp(LIFE)
  const keeper = await keepCredential(issuer, { clock, random: () => 0.5, keyPair })
  clock.advance(LIFE - 1)
  await settle()
  assert.deepEqual(log, [])
  clock.advance(1)
  assert.equal(keeper.signal.aborted, true)
})

test("a machine whose clock is behind goes by the server's", async () => {
  const { clock, log, issuer, settle, keyPair } = setUp()
  await keepCredential(issuer, { clock, random: () => 0.5, keyPair, skewMs: () => 60_000 })
  clock.advance((LIFE - 60_000) / 2)
  await settle()
  assert.equal(log.length, 2)
})

test('rule 8: after a cut the server is asked why; only an answer ends the credential, silence does not', async () => {
  const { clock, issuer, fail, keyPair } = setUp()
  const keeper = await keepCredential(issuer, { clock, random: () => 0.5, keyPair })
  assert.equal(await keeper.whyCut?.(), undefined)
  fail('upstream_unavailable')
  assert.equal(await keeper.whyCut?.(), undefined)
  assert.equal(keeper.signal.aborted, false)
  fail('locked')
  assert.equal((await keeper.whyCut?.())?.code, 'locked')
  assert.equal(keeper.signal.aborted, true)
  fail(undefined)
  assert.equal((await keeper.whyCut?.())?.code, 'locked')
})

test('a credential that was issued and could not be shown is shown again: renewing the older one would look like a copy', async () => {
  const { clock, log, issuer, settle, keyPair } = setUp()
  let lost = 2
  const { prove } = issuer
  const flaky: Issuer = {
    ...issuer,
    async prove(held) {
      await prove(held)
      if (lost-- > 0) throw new ChaperoneError('upstream_unavailable', 'the answer got lost')
    },
  }
  const keeper = await keepCredential(flaky, { clock, random: () => 0.5, keyPair })
  clock.advance(LIFE / 2)
  await settle()
  for (let i = 0; i < 8; i++) {
    clock.advance(1_000)
    await settle()
  }
  assert.deepEqual(log, [`renew with cert 1 at +${LIFE / 2}`, 'prove cert 2', 'prove cert 2', 'prove cert 2'])
  assert.equal(keeper.current().certificate, 'cert 2')
  await keeper.close()
})

test('of processes that share a credential one renews, and the others take what it was given', async () => {
  const { clock, log, issuer, settle, keyPair } = setUp()
  const file = { held: await issuer.begin() }
  const order: string[] = []
  let turn = Promise.resolve()
  const shared: SharedCredential = {
    read: async () => file.held,
    async save(held) {
      order.push(`save ${held.certificate}`)
      file.held = held
    },
    exclusively(work) {
      const mine = turn.then(work)
      turn = mine.then(
        () => {},
        () => {},
      )
      return mine
    },
  }
  const same: Issuer = {
    ...issuer,
    begin: async () => file.held,
    async prove(held) {
      order.push(`prove ${held.certificate}`)
    },
  }
  const keepers = await Promise.all([0.1, 0.5, 0.9].map((random) => keepCredential(same, { clock, random: () => random, keyPair, shared })))
  for (let i = 0; i < 30; i++) {
    clock.advance(LIFE / 20)
    await settle()
    await settle()
  }
  const asked = log.filter((line) => line.startsWith('renew')).map((line) => line.split(' ')[3])
  assert.ok(asked.length >= 2)
  assert.equal(new Set(asked).size, asked.length, 'each was renewed once')
  for (const keeper of keepers) assert.ok(keeper.current().notAfter > clock.now() && !keeper.signal.aborted)
  // A crash between the two leaves the newest in the file, or one that nobody has shown.
  assert.ok(order.indexOf('save cert 2') < order.indexOf('prove cert 2'))
})

test('an agent that joined anew, or is signed out, is left what it has', async () => {
  const { clock, log, issuer, settle, keyPair } = setUp()
  const held = await issuer.begin()
  for (const there of [undefined, { ...held, profile: { ...held.profile, session: 'ses_2' }, notAfter: held.notAfter + LIFE }]) {
    let saved = 0
    const shared: SharedCredential = { read: async () => there, save: async () => void saved++, exclusively: (work) => work() }
    const keeper = await keepCredential({ ...issuer, begin: async () => held }, { clock, random: () => 0.5, keyPair, shared })
    log.length = 0
    clock.advance(LIFE / 2)
    await settle()
    assert.equal(log.filter((line) => line.startsWith('renew')).length, 1)
    assert.equal(saved, 0)
    await keeper.close()
  }
})
