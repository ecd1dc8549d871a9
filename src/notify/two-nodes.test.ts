import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { manualClock } from '../clock.ts'
import { startPostgres } from '../demo/postgres.ts'
import { toChaperoneError } from '../errors.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { openHouse, receiver, START } from './house.fixture.ts'
import { claim, put, settle } from './outbox.ts'

const dir = await mkdtemp(join(tmpdir(), 'chaperone-notify-'))
const began = await startPostgres({ dir, settings: { synchronous_commit: 'off' } }).catch(toChaperoneError)
const skip = 'stop' in began ? false : `no PostgreSQL here: ${began.message} ${began.fix ?? ''}`
after(async () => {
  if ('stop' in began) await began.stop()
  await rm(dir, { recursive: true, force: true })
})
const url = () => {
  if (!('stop' in began)) throw began
  return began.superuserUrl
}

const fill = (store: Store, notifier: string, rows: number) =>
  store.write((trx) => put(trx, { notifier, way: 'webhook', event: 'request.made', payloads: Array.from({ length: rows }, () => '{}') }, START))

test('of two nodes over one store that see the same rows, one gets each', { skip }, async (t) => {
  const clock = manualClock(START)
  const nodes = await Promise.all([1, 2, 3].map(() => openStore({ url: url() }, { clock })))
  t.after(() => Promise.all(nodes.map((node) => node.close())))
  await fill(nodes[0]!, 'race', 60)
  const claimed = (await Promise.all(nodes.map((node) => claim(node, 'race', START, 60)))).flat()
  assert.equal(claimed.length, 60)
  assert.equal(new Set(claimed.map(({ id }) => id)).size, 60)
  assert.deepEqual(await claim(nodes[0]!, 'race', START + 89_999, 60), [])
  assert.equal((await claim(nodes[0]!, 'race', START + 90_000, 60)).length, 60)
})

test('who claimed a row that another took over meanwhile says nothing about it any more', { skip }, async (t) => {
  const clock = manualClock(START)
  const store = await openStore({ url: url() }, { clock })
  t.after(() => store.close())
  await fill(store, 'late', 1)
  const [slow] = await claim(store, 'late', START, 1)
  const [quick] = await claim(store, 'late', START + 90_000, 1)
  assert.equal(await settle(store, slow!, { state: 'given_up', error: 'it hung' }), false)
  assert.equal(await settle(store, quick!, { state: 'done' }), true)
  const row = await store.db.selectFrom('deliveries').select(['state', 'attempts']).where('notifier', '=', 'late').executeTakeFirstOrThrow()
  assert.deepEqual(row, { state: 'done', attempts: 2 })
})

test('two nodes that send from one outbox send each message once', { skip }, async (t) => {
  const there = await receiver(t)
  const house = await openHouse(t, { at: { url: url() } })
  house.apply('both', { on: ['*'], webhook: { url: there.url, secret: 'hook', ca: there.ca } })
  house.another()
  for (let i = 0; i < 30; i++) await house.tell(house.requestOf({ id: `req_${i}` }))
  await house.pass(50)
  await house.pass(1_000)
  await house.pass(1_000)
  const ids = there.seen.map(({ headers }) => headers['webhook-id'])
  assert.equal(ids.length, 30)
  assert.equal(new Set(ids).size, 30)
})
