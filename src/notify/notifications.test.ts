import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import { newSecret, openHouse, receiver, START } from './house.fixture.ts'
import { signingKey, webhookHeaders } from './webhook.ts'

test('a request is told by webhook, signed, under one id, without statements and without secrets', async (t) => {
  const there = await receiver(t)
  const house = await openHouse(t)
  house.apply('ops', { on: ['request.*'], webhook: { url: there.url, secret: 'hook', ca: there.ca } })
  await house.tell(house.requestOf({ purpose: 'the monthly report' }))
  await house.pass(50)
  const [{ headers, body } = assert.fail('nothing came')] = there.seen
  const [row] = await house.rows()
  assert.deepEqual([row!.state, row!.attempts, row!.payload], ['done', 1, ''])
  assert.equal(headers['webhook-id'], row!.id)
  const expected = webhookHeaders(row!.id, START / 1000, body, [signingKey(house.secrets.get('hook')!)])
  assert.equal(headers['webhook-signature'], expected['webhook-signature'])
  assert.equal(headers['webhook-timestamp'], String(START / 1000))
  assert.deepEqual(JSON.parse(body), {
    type: 'request.made',
    timestamp: '2026-11-22T12:00:00.000Z',
    data: {
      request: 'req_01kaxxxxxxxxxxxxxxxxxxxxxx',
      kind: 'call',
      state: 'pending',
      link: 'https://chaperone.test:7443/requests/req_01kaxxxxxxxxxxxxxxxxxxxxxx',
      who: { id: house.people.claude.id, name: 'boris/claude', kind: 'agent' },
      onBehalfOf: [{ id: house.people.boris.id, name: 'boris', kind: 'user' }],
      resource: { kind: 'postgres', name: 'orders' },
      call: { operation: 'update', effects: ['write'], summary: 'UPDATE public.customers', why: 'Somebody must look at it.' },
      approvers: 'a holder of role dba',
      reason: 'to mend it, [masked:secret]',
      purpose: 'the monthly report',
      createdAt: '2026-11-22T12:00:00.000Z',
      expiresAt: '2026-11-22T13:00:00.000Z',
    },
  })
  assert.deepEqual(house.results, ['done'])
})

test('rule 5: in full there is the statement, laid out as its approver reads it, and still no known secret, in any form of message', async (t) => {
  const house = await openHouse(t)
  house.apply('hook', { on: ['*'], detail: 'full', webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  house.apply('chat', { on: ['*'], detail: 'full', slack: { url: { secret: 'chat' } } })
  house.apply('mail', { on: ['*'], detail: 'full', mail: { to: ['ops@example.test'], from: 'c@example.test', smtp: { host: 'mail.test' } } })
  await house.tell(house.requestOf())
  const payloads = (await house.rows()).map(({ payload }) => payload)
  assert.equal(payloads.length, 3)
  for (const payload of payloads) {
    assert.match(payload, /UPDATE customers\\+nSET note/)
    assert.ok(payload.includes('[masked:secret]') && !payload.includes(house.HELD))
    for (const secret of house.secrets.values()) assert.ok(!payload.includes(secret))
  }
})

test('a notifier that became another way, or whose secret is missing or unfit, sends nothing, and says why', async (t) => {
  const there = await receiver(t)
  const house = await openHouse(t)
  house.apply('ops', { on: ['*'], webhook: { url: there.url, secret: ['hook', 'next'], ca: there.ca } })
  const errorOf = async () => (await house.rows()).at(-1)!.last_error
  await house.tell(house.requestOf())
  await house.pass(50)
  assert.equal(await errorOf(), 'a fault of Chaperone itself') // the house's `reveal` is no vault
  house.secrets.set('next', 'hunter2')
  await house.pass(6_000)
  assert.match((await errorOf()) ?? '', /^The secret that signs/)
  house.secrets.set('next', newSecret())
  await house.pass(11_000)
  assert.equal(there.seen.length, 1)
  assert.equal(String(there.seen[0]!.headers['webhook-signature']).split(' ').length, 2)
  await house.tell(house.requestOf())
  house.documents.length = 0
  house.secrets.set('chat', there.url)
  house.apply('ops', { on: ['*'], slack: { url: { secret: 'chat' }, ca: there.ca } })
  await house.pass(1_000)
  assert.deepEqual([there.seen.length, await errorOf()], [1, 'the notifier is a slack now'])
})

test('a fault in what is told keeps no request from being made', async (t) => {
  const house = await openHouse(t, {
    parts: {
      mask() {
        throw new Error('the masker fails')
      },
    },
  })
  house.apply('ops', { on: ['*'], webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  await house.tell(house.requestOf())
  assert.equal(house.faults.length, 1)
})

test('a test message is sent at once, says what came of it, and is no row', async (t) => {
  const there = await receiver(t)
  const house = await openHouse(t)
  house.apply('ops', { on: ['*'], webhook: { url: there.url, secret: 'hook', ca: there.ca } })
  assert.deepEqual(await house.notifications.test('ops', {}), { ok: true })
  assert.equal(JSON.parse(there.seen[0]!.body).type, 'notifier.test')
  there.answer = (response) => response.writeHead(404).end()
  assert.deepEqual(await house.notifications.test('ops', {}), { ok: false, error: 'answered 404' })
  assert.deepEqual(await house.rows(), [])
  await assert.rejects(house.notifications.test('nobody', {}), (error) => error instanceof ChaperoneError && error.code === 'not_found')
})

test('what a change wakes runs outside of its transaction', async (t) => {
  const there = await receiver(t)
  const house = await openHouse(t)
  house.apply('ops', { on: ['*'], webhook: { url: there.url, secret: 'hook', ca: there.ca } })
  await house.tell(house.requestOf())
  await house.store.write(async (trx) => {
    await house.notifications.announce(trx, { type: 'approved', request: house.requestOf({ state: 'approved' }) })
    house.clock.advance(50)
    for (let i = 0; i < 20; i++) await new Promise((next) => setImmediate(next))
  })
  await house.pass(1_000)
  assert.deepEqual(house.faults, [])
  assert.equal(there.seen.length, 2)
})
