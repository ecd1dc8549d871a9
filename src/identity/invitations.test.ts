import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import { manualClock } from '../clock.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { createIdentity } from './directory.ts'
import { formatInvitation, INVITATION_TTL, lookAtInvitation, makeInvitation, parseInvitation, useInvitation } from './invitations.ts'

describe('an invitation', () => {
  const clock = manualClock(1_800_000_000_000)
  const now = clock.now()
  let store: Store
  let identityId: string

  before(async () => {
    store = await openStore({ dataDir: mkdtempSync(join(tmpdir(), 'chaperone-invitations-')) }, { clock })
    identityId = (await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'dana', source: 'bootstrap', now }))).id
  })
  after(() => store.close())

  const make = (ttlMs = 60_000) => store.write((trx) => makeInvitation(trx, { kind: 'invitation', identityId, ttlMs, now }))

  test('works exactly once: of many racers one wins', async () => {
    const { secret, id } = await make()
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => store.write((trx) => useInvitation(trx, secret, 'invitation', now))))
    const won = outcomes.filter((outcome) => outcome.status === 'fulfilled')
    assert.deepEqual(
      won.map(({ value }) => value.id),
      [id],
    )
    for (const outcome of outcomes) if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'invitation_invalid')
  })

  test('is open again when the transaction that used it is rolled back', async () => {
    const { secret } = await make()
    await assert.rejects(
      store.write(async (trx) => {
        await useInvitation(trx, secret, 'invitation', now)
        throw new Error('later')
      }),
    )
    assert.ok(await lookAtInvitation(store.db, secret, 'invitation', now))
  })

  test('unknown, used, expired and of another kind are answered alike', async () => {
    const { secret, expiresAt } = await make()
    const refusals = []
    for (const [given, kind, at] of [
      ['A'.repeat(43), 'invitation', now],
      ['', 'invitation', now],
      [`${secret}x`, 'invitation', now],
      [secret, 'join', now],
      [secret, 'invitation', expiresAt],
    ] as const) {
      refusals.push(
        await lookAtInvitation(store.db, given, kind, at).then(
          () => 'open',
          ({ code, message, fix }) => `${code} ${message} ${fix}`,
        ),
      )
    }
    assert.deepEqual(new Set(refusals).size, 1)
    assert.match(refusals[0]!, /^invitation_invalid/)
    await assert.rejects(
      store.write((trx) => useInvitation(trx, secret, 'join', now)),
      { code: 'invitation_invalid' },
    )
    await assert.rejects(
      store.write((trx) => useInvitation(trx, secret, 'invitation', expiresAt)),
      { code: 'invitation_invalid' },
    )
    await assert.rejects(
      store.write((trx) => useInvitation(trx, '', 'invitation', now)),
      { code: 'invitation_invalid' },
    )
    assert.ok(await lookAtInvitation(store.db, secret, 'invitation', expiresAt - 1))
  })

  test('rule 5: the store holds only the hash of its secret', async () => {
    const { secret } = await make()
    const rows = await store.db.selectFrom('invitations').selectAll().execute()
    assert.ok(!JSON.stringify(rows).includes(secret))
    assert.equal(Buffer.from(secret, 'base64url').length, 32)
  })

  test('lives neither too short nor too long', async () => {
    for (const ttlMs of [0, -1, Number.NaN, INVITATION_TTL.shortestMs - 1, INVITATION_TTL.longestMs + 1])
      await assert.rejects(make(ttlMs), { code: 'usage' })
  })
})

describe('the line of an invitation', () => {
  const line = { address: 'gate.example.org:7443', secret: 'a_-9'.repeat(10).concat('abc'), fingerprint: '0a'.repeat(32) }

  test('reads as it was written, also with IPv6', () => {
    assert.equal(formatInvitation(line), `chaperone://gate.example.org:7443/${line.secret}?ca=${line.fingerprint}`)
    for (const address of [line.address, '127.0.0.1:1', '[::1]:7443', '[fe80::1]:65535']) {
      assert.deepEqual(parseInvitation(` ${formatInvitation({ ...line, address })}\n`), { ...line, address })
    }
  })

  test('with any character lost, doubled or changed in form is refused, not repaired', () => {
    const text = formatInvitation(line)
    for (const wrong of [
      '',
      text.slice(1),
      text.slice(0, -1),
      text.replace('chaperone:', 'https:'),
      text.replace(':7443', ''),
      text.replace(':7443', ':0'),
      text.replace(':7443', ':70000'),
      text.replace('gate', 'us er@gate'),
      text.replace('gate', 'user@gate'),
      text.replace('gate.example.org', '[gate]'),
      text.replace('?ca=', '?CA='),
      text.replace('0a0a', '0A0A'),
      `${text}&x=1`,
      `${text}${text}`,
      text.replace('/a_', '//a_'),
    ]) {
      assert.throws(() => parseInvitation(wrong), { code: 'invitation_invalid' }, wrong)
    }
    fc.assert(fc.property(fc.string({ maxLength: 600 }), (any) => assert.throws(() => parseInvitation(any), { code: 'invitation_invalid' })))
  })
})
