import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createIdentity } from '../identity/directory.ts'
import { openHouse, START } from './house.fixture.ts'
import { MOST_OF_ONE, MOST_WAITING } from './outbox.ts'

const DAY = 86_400_000
const HOUR = 3_600_000

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
