import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openHouse, receiver, START } from './house.fixture.ts'

const DAY = 86_400_000
const HOUR = 3_600_000

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
