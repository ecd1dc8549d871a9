import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import { createIdentity } from '../identity/directory.ts'
import { newSecret, openHouse, receiver, START } from './house.fixture.ts'
import { MOST_OF_ONE, MOST_WAITING } from './outbox.ts'
import { signingKey, webhookHeaders } from './webhook.ts'

const DAY = 86_400_000
const HOUR = 3_600_000

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

test('what happened and was not sent yet is sent after a restart; what did not happen is not', async (t) => {
  const there = await receiver(t)
  const house = await openHouse(t)
  house.apply('ops', { on: ['request.made'], webhook: { url: there.url, secret: 'hook', ca: there.ca } })
  await house.notifications.close() // the process dies between the change and the message
  await house.tell(house.requestOf())
  const failed = house.store.write(async (trx) => {
    await house.notifications.announce(trx, { type: 'made', request: house.requestOf({ id: 'req_never' }) })
    throw new Error('the change itself failed')
  })
  await assert.rejects(failed, /the change itself/)
  assert.equal(there.seen.length, 0)
  assert.deepEqual(
    (await house.rows()).map(({ state }) => state),
    ['waiting'],
  )
  house.another()
  await house.pass(0)
  assert.equal(there.seen.length, 1)
  assert.ok(!there.seen[0]!.body.includes('req_never'))
})

test('a node that dies while it sends leaves a row that is sent again under the same id, and no sooner than its claim is over', async (t) => {
  const there = await receiver(t, () => {})
  const house = await openHouse(t)
  house.apply('ops', { on: ['request.made'], webhook: { url: there.url, secret: 'hook', ca: there.ca, timeout: '30s' } })
  // As that node left it: claimed, and nobody says what came of it.
  await house.tell(house.requestOf())
  await house.store.db
    .updateTable('deliveries')
    .set({ claimed_until: START + 90_000, attempts: 1 })
    .execute()
  there.answer = (response) => response.end()
  await house.pass(89_000)
  assert.equal(there.seen.length, 0)
  await house.pass(2_000)
  assert.equal(there.seen.length, 1)
  const [row] = await house.rows()
  assert.deepEqual([row!.state, row!.attempts, row!.id], ['done', 2, there.seen[0]!.headers['webhook-id']])
})

test('a receiver that fails is tried again, later and later, under the same id, and given up after a day, recorded', async (t) => {
  const there = await receiver(t, (response) => response.writeHead(500).end())
  const house = await openHouse(t)
  house.apply('ops', { on: ['request.made'], webhook: { url: there.url, secret: 'hook', ca: there.ca } })
  await house.tell(house.requestOf())
  const times: number[] = []
  while ((await house.rows())[0]!.state === 'waiting') {
    const before = there.seen.length
    await house.pass(before === 0 ? 50 : Math.max((await house.rows())[0]!.next_at - house.clock.now(), 1_000))
    if (there.seen.length > before) times.push(Math.round((house.clock.now() - START) / 1000))
    assert.ok(house.clock.now() < START + 2 * DAY)
  }
  assert.ok(times.length > 25 && times.length < 40, `${times.length} attempts`)
  const waits = times.slice(1).map((at, i) => at - times[i]!)
  assert.ok(waits[0] === 5 && waits[1] === 10 && waits.at(-1) === 3600, waits.join(' '))
  assert.ok(times.at(-1)! * 1000 <= DAY && times.at(-1)! * 1000 > DAY - 2 * HOUR)
  assert.equal(new Set(there.seen.map(({ headers }) => headers['webhook-id'])).size, 1)
  assert.equal(new Set(there.seen.map(({ headers }) => headers['webhook-timestamp'])).size, there.seen.length, 'each attempt has its own time')
  const [row] = await house.rows()
  assert.deepEqual([row!.state, row!.last_error], ['given_up', 'answered 500'])
  assert.deepEqual(house.records, [
    {
      type: 'notification.given_up',
      data: { notifier: 'ops', delivery: row!.id, event: 'request.made', attempts: row!.attempts, error: 'answered 500' },
    },
  ])
  assert.deepEqual(await house.notifications.list(), [
    { name: 'ops', way: 'webhook', on: ['request.made'], waiting: 0, done: 0, givenUp: 1, lastError: 'answered 500' },
  ])
})

test('a receiver that hangs is left after its time; it delays no other notifier, and no change', async (t) => {
  const hanging = await receiver(t, () => {})
  const there = await receiver(t)
  const house = await openHouse(t)
  house.apply('hanging', { on: ['*'], webhook: { url: hanging.url, secret: 'hook', ca: hanging.ca } })
  house.apply('well', { on: ['*'], webhook: { url: there.url, secret: 'hook', ca: there.ca } })
  for (let i = 0; i < 6; i++) await house.tell(house.requestOf()) // nobody here waits for a receiver
  const reached = Promise.all([hanging.next(), there.next()])
  house.clock.advance(50)
  await reached
  while (there.seen.length < 6) await there.next()
  assert.equal(hanging.seen.length, 4, 'at once to one receiver')
  hanging.answer = (response) => response.writeHead(500).end() // those that come after
  house.clock.advance(10_000)
  await house.pass(0)
  const rows = (await house.rows()).filter(({ notifier }) => notifier === 'hanging')
  assert.equal(rows.filter(({ last_error }) => last_error === 'no answer within 10 s').length, 4)
  assert.ok(rows.every(({ state }) => state === 'waiting'))
})

test('who failed last is tried with one message alone, until it answers', async (t) => {
  const there = await receiver(t, (response) => response.writeHead(503).end())
  const house = await openHouse(t)
  house.apply('ops', { on: ['*'], webhook: { url: there.url, secret: 'hook', ca: there.ca } })
  await house.tell(house.requestOf())
  await house.pass(50)
  for (let i = 0; i < 8; i++) await house.tell(house.requestOf())
  there.answer = () => {}
  const next = there.next()
  house.clock.advance(1_000)
  await next
  assert.equal((await house.rows()).filter(({ claimed_until }) => claimed_until !== null).length, 1)
  there.answer = (response) => response.end()
  house.clock.advance(10_000)
  await house.pass(0)
  await house.pass(20_000)
  assert.equal((await house.rows()).filter(({ state }) => state === 'waiting').length, 0)
})

test('a noisy agent is held back after its share, is told so once, and holds back nobody else', async (t) => {
  const house = await openHouse(t, { parts: { resolve: async () => [] } })
  house.apply('ops', { on: ['*'], webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  await house.store.write(async (trx) => {
    for (let i = 0; i < MOST_OF_ONE + 5; i++) await house.notifications.announce(trx, { type: 'made', request: house.requestOf() })
  })
  await house.tell(house.requestOf({ identityId: house.people.erin.id, chain: [{ identity: house.people.erin.id }] }))
  await house.tell(house.requestOf(), 'broke_glass')
  const rows = await house.rows()
  assert.equal(rows.length, MOST_OF_ONE + 2, 'somebody else, and break-glass, are still told')
  assert.equal(house.results.filter((result) => result === 'dropped').length, 5)
  const told = rows.filter(({ payload }) => JSON.parse(payload).data.heldBackUntil !== undefined)
  assert.equal(told.length, 1)
  assert.equal(JSON.parse(told[0]!.payload).data.heldBackUntil, new Date(START + HOUR).toISOString())
  await house.pass(HOUR + 1)
  await house.tell(house.requestOf())
  assert.equal((await house.rows()).length, MOST_OF_ONE + 3, 'an hour later it is told again')
})

/** A full queue of these, none of them due; the oldest first. */
async function filled(house: Awaited<ReturnType<typeof openHouse>>, events: readonly ['request.made' | 'request.used', number][]) {
  const row = { notifier: 'ops', way: 'webhook', source: null, payload: '{}', state: 'waiting', attempts: 0 } as const
  const rest = { next_at: START + DAY, claimed_until: null, last_error: null }
  const all = events.flatMap(([event, count]) => Array.from({ length: count }, () => event))
  assert.equal(all.length, MOST_WAITING)
  await house.store.write(async (trx) => {
    for (let i = 0; i < all.length; i += 100)
      await trx
        .insertInto('deliveries')
        .values(
          all
            .slice(i, i + 100)
            .map((event, j) => ({ ...row, ...rest, event, created_at: START - DAY + i + j, id: `dlv_${String(i + j).padStart(4, '0')}` })),
        )
        .execute()
  })
}

test('rule 11: a queue has an end: for a question the oldest news go, and then the oldest questions; what is lost is on record and told', async (t) => {
  const house = await openHouse(t)
  house.apply('ops', { on: ['*'], webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  await filled(house, [
    ['request.made', 1_000],
    ['request.used', 2],
    ['request.made', 998],
  ])
  const lost = async () => (await house.rows()).filter(({ state }) => state === 'given_up').map(({ id }) => id)
  for (let i = 0; i < 3; i++) await house.tell(house.requestOf(), 'broke_glass')
  assert.deepEqual((await lost()).sort(), ['dlv_0000', 'dlv_1000', 'dlv_1001'], 'both news, then the oldest question')
  assert.equal((await house.rows()).filter(({ state }) => state === 'waiting').length, MOST_WAITING)
  assert.deepEqual(house.results, ['dropped', 'dropped', 'dropped'])
  await house.pass(1_000)
  const error = 'more than 2000 messages waited'
  assert.deepEqual(house.records, [{ type: 'notification.given_up', data: { notifier: 'ops', lost: 3, error } }])
  await house.pass(5_000)
  assert.equal(house.records.length, 1, 'once')
  const [told] = await house.notifications.list()
  assert.deepEqual([told!.givenUp, told!.lost], [3, 3])
})

test('news push no question out, and are lost themselves, on record', async (t) => {
  const house = await openHouse(t)
  house.apply('ops', { on: ['*'], webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  await filled(house, [['request.made', MOST_WAITING]])
  await house.tell(house.requestOf({ state: 'withdrawn' }), 'withdrawn')
  const rows = await house.rows()
  assert.equal(rows.filter(({ state, event }) => state === 'waiting' && event === 'request.made').length, MOST_WAITING)
  assert.deepEqual(
    rows.filter(({ state }) => state === 'given_up').map(({ event }) => event),
    ['request.withdrawn'],
  )
  await house.pass(1_000)
  assert.deepEqual(
    house.records.map(({ data }) => data!.lost),
    [1],
  )
})

test('what is being sent is not taken for another’s room', async (t) => {
  const house = await openHouse(t)
  house.apply('ops', { on: ['*'], webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  await filled(house, [['request.used', MOST_WAITING]])
  await house.store.write((trx) =>
    trx
      .updateTable('deliveries')
      .set({ claimed_until: START + 60_000 })
      .where('id', '=', 'dlv_0000')
      .execute(),
  )
  await house.tell(house.requestOf())
  assert.deepEqual(
    (await house.rows()).filter(({ state }) => state === 'given_up').map(({ id }) => id),
    ['dlv_0001'],
  )
})

test('what is over is removed after a week, and beyond a thousand; what waits for a notifier that is gone is given up', async (t) => {
  const house = await openHouse(t)
  house.apply('ops', { on: ['*'], webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  const row = {
    way: 'webhook',
    event: 'request.made',
    source: null,
    payload: '',
    attempts: 1,
    next_at: START,
    claimed_until: null,
    last_error: null,
  } as const
  await house.pass(0)
  await house.store.write(async (trx) => {
    for (let i = 0; i < 1_200; i += 100)
      await trx
        .insertInto('deliveries')
        .values(
          Array.from({ length: 100 }, (_, j) => ({ ...row, id: `dlv_${i + j}`, notifier: 'ops', state: 'done' as const, created_at: START - i - j })),
        )
        .execute()
    await trx
      .insertInto('deliveries')
      .values([
        { ...row, id: 'dlv_old', notifier: 'ops', state: 'given_up', created_at: START - 8 * DAY },
        { ...row, id: 'dlv_gone', notifier: 'gone', state: 'waiting', created_at: START },
      ])
      .execute()
  })
  await house.pass(600_000)
  const rows = await house.rows()
  assert.equal(rows.filter(({ notifier }) => notifier === 'ops').length, 1_000)
  assert.ok(!rows.some(({ id }) => id === 'dlv_old' || id === 'dlv_1000'))
  assert.deepEqual(
    rows.filter(({ notifier }) => notifier === 'gone').map(({ state, last_error }) => [state, last_error]),
    [['given_up', 'there is no such notifier any more']],
  )
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

test('who is told is what `on` and `for` say', async (t) => {
  const house = await openHouse(t)
  await house.store.db
    .insertInto('documents')
    .values({
      id: 'res_orders',
      kind: 'postgres',
      name: 'orders',
      labels: '{"env":"prod"}',
      spec: '{}',
      digest: '',
      owner: null,
      applied_by: null,
      updated_at: START,
    })
    .execute()
  const hook = { webhook: { url: 'https://hooks.test/', secret: 'hook' } }
  for (const [name, on, only] of [
    ['all', '*', {}],
    ['requests', 'request.*', {}],
    ['denied', 'request.denied', {}],
    ['dba', '*', { approvers: ['dba', 'other'] }],
    ['sre', '*', { approvers: ['sre'] }],
    ['boris', '*', { requester: ['boris*'] }],
    ['erin', '*', { requester: ['erin'] }],
    ['prod', '*', { labels: { env: 'prod' } }],
    ['test', '*', { labels: { env: 'test' } }],
  ] as const)
    house.apply(name, { on: [on], for: only, ...hook })
  await house.tell(house.requestOf())
  const told = async () => (await house.rows()).map(({ notifier }) => notifier).sort()
  assert.deepEqual(await told(), ['all', 'boris', 'dba', 'prod', 'requests'])
  await house.store.db.deleteFrom('deliveries').execute()
  const lock = { id: 'lck_1', kind: 'identity', target: house.people.boris.id, name: 'boris', reason: 'odd' }
  await house.store.write((trx) => house.notifications.announce(trx, { type: 'made', lock, by: house.people.dana.id }))
  assert.deepEqual(await told(), ['all', 'boris'])
  const { type, data } = JSON.parse((await house.rows())[0]!.payload)
  assert.deepEqual([type, data.name, data.by.name], ['lock.made', 'boris', 'dana'])
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

test('mail goes to each of those who could decide, once, and never to who asked', async (t) => {
  const house = await openHouse(t, {
    parts: {
      voter: (id) => ({ id, name: id, kind: 'user', links: 1, roles: ['dba'], approves: false }),
      mayApply: () => true,
    },
  })
  const mail = { to: 'approvers', from: 'c@example.test', smtp: { host: 'mail.test' } }
  house.apply('mail', { on: ['request.*'], mail })
  await house.tell(house.requestOf())
  // boris is behind the agent, and erin has no address.
  assert.deepEqual(
    (await house.rows()).map(({ payload }) => JSON.parse(payload).to),
    ['dana@example.test'],
  )
  // Who issued the credential that asks may hold its key.
  const { dana, claude } = house.people
  await house.store.write((trx) =>
    trx
      .insertInto('sessions')
      .values({ id: 'ses_1', identity_id: claude.id, chain: '[]', how: 'issue', issuer_id: dana.id, started_at: 0, expires_at: 1 } as never)
      .execute(),
  )
  await house.tell(house.requestOf({ sessionId: 'ses_1' }))
  assert.equal((await house.rows()).filter(({ payload }) => payload.includes('dana@example.test')).length, 1)
  await house.tell(house.requestOf({ needs: [{ approvers: 'owner', link: house.people.claude.id }] }))
  assert.ok((await house.rows()).some(({ payload }) => payload.includes('"to":"boris@example.test"')))
  await house.tell(house.requestOf({ needs: [{ approvers: { role: 'nobody-has-it' }, link: house.people.claude.id }] }))
  house.documents.length = 0
  house.apply('server', { on: ['request.*'], mail })
  await house.tell(house.requestOf({ kind: 'server', body: { name: 'wiki', spec: {} }, needs: [] }))
  const wish = (await house.rows()).filter(({ notifier }) => notifier === 'server').map(({ payload }) => JSON.parse(payload))
  assert.deepEqual(
    wish.map(({ to, subject }) => [to, subject]),
    [['dana@example.test', '[Chaperone] boris/claude asks for the MCP server wiki']],
  )
  const lost = (await house.rows()).filter(({ state }) => state === 'given_up')
  assert.deepEqual(
    lost.map(({ payload, last_error }) => [payload, last_error]),
    Array.from({ length: 2 }, () => ['', 'nobody of those who may decide has a mail address (trait `email`)']),
  )
})

test('that an agent will be stopped is told to its owner by mail, and to whoever lists it', async (t) => {
  const house = await openHouse(t)
  const mail = { to: 'approvers', from: 'c@example.test', smtp: { host: 'mail.test' } }
  house.apply('owners', { on: ['agent.*'], mail })
  house.apply('ops', { on: ['agent.due'], for: { requester: ['boris'] }, webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  house.apply('others', { on: ['agent.*'], for: { requester: ['erin'] }, webhook: { url: 'https://hooks.test/', secret: 'hook' } })
  const { claude, boris, erin } = house.people
  const agent = { id: claude.id, name: claude.name, ownerId: boris.id }
  const stopsAt = house.clock.now() + 7 * 24 * 3_600_000
  await house.store.write((trx) => house.notifications.announce(trx, { type: 'due', agent, why: 'unused', stopsAt }))
  await house.store.write((trx) => house.notifications.announce(trx, { type: 'stopped', agent: { ...agent, ownerId: erin.id }, why: 'owner' }))
  const told = (await house.rows()).map(({ notifier, event, payload }) => [notifier, event, JSON.parse(payload)] as const)
  assert.deepEqual(
    told.map(([notifier, event]) => `${notifier} ${event}`).sort(),
    ['ops agent.due', 'others agent.stopped', 'owners agent.due'],
    'erin has no address',
  )
  const [first, second] = ['owners', 'ops'].map((name) => told.find(([notifier]) => notifier === name)![2])
  assert.deepEqual([first.to, first.subject], ['boris@example.test', '[Chaperone] Will be stopped: the agent boris/claude, which nobody uses'])
  assert.match(first.text, /chaperone agent review boris\/claude/)
  assert.deepEqual(second.data, {
    agent: claude.id,
    name: 'boris/claude',
    owner: { id: boris.id, name: 'boris', kind: 'user' },
    why: 'unused',
    stopsAt: new Date(stopsAt).toISOString(),
  })
})

test('rule 11: a question with many approvers takes one place in the queue', async (t) => {
  const voter = (id: string) => ({ id, name: id, kind: 'user' as const, links: 1, roles: ['dba'], approves: false })
  const house = await openHouse(t, { parts: { voter, mayApply: () => true } })
  await house.store.write(async (trx) => {
    for (let i = 0; i < 40; i++) {
      const traits = { email: `dba-${i}@example.test` }
      await createIdentity(trx, { kind: 'user', name: `dba-${i}`, roles: ['dba'], traits, source: 'document', now: START })
    }
  })
  house.apply('mail', { on: ['request.*'], mail: { to: 'approvers', from: 'c@example.test', smtp: { host: 'mail.test' } } })
  await house.tell(house.requestOf())
  const rows = await house.rows()
  assert.equal(rows.length, 1)
  assert.equal(JSON.parse(rows[0]!.payload).to.length, 41)
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

test('a stop waits a moment for what is under way, then leaves it to the next start at once', async (t) => {
  const there = await receiver(t, () => {})
  const house = await openHouse(t)
  house.apply('ops', { on: ['*'], webhook: { url: there.url, secret: 'hook', ca: there.ca } })
  await house.tell(house.requestOf())
  const reached = there.next()
  house.clock.advance(50)
  await reached
  const closed = house.notifications.close()
  house.clock.advance(2_000)
  await closed
  const [row] = await house.rows()
  assert.deepEqual([row!.state, row!.claimed_until, row!.last_error], ['waiting', null, null])
  there.answer = (response) => response.end()
  house.another()
  await house.pass(0)
  assert.equal(there.seen.length, 2)
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
