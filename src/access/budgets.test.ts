import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { manualClock } from '../clock.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { type Empty, openBudgets, type Spent } from './budgets.ts'

const start = Date.UTC(2026, 10, 22)
const day = 86_400_000

let dir: string
let store: Store
let clock: ReturnType<typeof manualClock>
let writes: number
/** What a node sees of the store; two of them are two nodes. */
const node = () =>
  openBudgets(
    {
      write(work) {
        writes++
        return store.write(work)
      },
    },
    clock,
  )

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chaperone-budgets-'))
  clock = manualClock(start)
  store = await openStore({ dataDir: dir }, { clock })
  writes = 0
})
afterEach(async () => {
  await store.close()
  rmSync(dir, { recursive: true })
})

const purse = (most: number, key = 'k', window = day) => ({ key, most, window })
const given = (taken: Spent | Empty) => !('waitMs' in taken)
const waitOf = (taken: Spent | Empty) => ('waitMs' in taken ? taken.waitMs : 0)

test('a budget is spent to the last and not beyond, and begins anew when its time is over (peers R28)', async () => {
  const budgets = node()
  for (let i = 0; i < 3; i++) assert.ok(given(await budgets.take([purse(3)])), `the ${i + 1}th`)
  clock.advance(1000)
  assert.equal(waitOf(await budgets.take([purse(3)])), day - 1000)
  assert.ok(given(await budgets.take([purse(3, 'other')])), 'another count')
  clock.advance(day - 1001)
  assert.equal(waitOf(await budgets.take([purse(3)])), 1)
  clock.advance(1)
  for (let i = 0; i < 3; i++) assert.ok(given(await budgets.take([purse(3)])))
  assert.equal(waitOf(await budgets.take([purse(3)])), day)
})

test('budgets outlive a restart, and two nodes at once do not give a call more between them (peers R63)', async () => {
  const [one, two] = [node(), node()]
  const taken = await Promise.all(Array.from({ length: 200 }, (_, i) => (i % 2 ? one : two).take([purse(100)])))
  assert.equal(taken.filter(given).length, 100)
  assert.ok(writes < 20, `${writes} writes: what waits together is written together`)
  assert.ok(!given(await node().take([purse(100)])))
})

test('one from each budget or from none', async () => {
  const budgets = node()
  await budgets.take([purse(1, 'small')])
  assert.deepEqual(await budgets.take([purse(10, 'large'), purse(1, 'small')]), { purse: 1, waitMs: day })
  for (let i = 0; i < 10; i++) assert.ok(given(await budgets.take([purse(10, 'large')])), 'the large one lost nothing')
  assert.ok(!given(await budgets.take([purse(10, 'large')])))
})

test('what is given back can be spent again, but not in another window', async () => {
  const budgets = node()
  const spent = (await budgets.take([purse(1)])) as Spent
  await budgets.giveBack(spent)
  assert.ok(given(await budgets.take([purse(1)])))
  clock.advance(day)
  assert.ok(given(await budgets.take([purse(1)])))
  await budgets.giveBack(spent)
  assert.ok(!given(await budgets.take([purse(1)])))
})

test('rule 4: a clock that jumps back gives nothing', async () => {
  const budgets = node()
  await budgets.take([purse(1)])
  clock.advance(-10 * day)
  assert.equal(waitOf(await budgets.take([purse(1)])), 11 * day)
})

test('rule 11: what is over is removed from the store', async () => {
  const budgets = node()
  for (let i = 0; i < 50; i++) await budgets.take([purse(1, `tool ${i}`, 60_000)])
  clock.advance(3_600_000)
  await budgets.take([purse(1)])
  await budgets.take([purse(2)])
  const rows = await store.db.selectFrom('budgets').select('key').execute()
  assert.equal(rows.length, 1)
})

test('rule 1: a store that does not answer gives nothing', async () => {
  const broken = openBudgets(
    {
      write: async () => {
        throw new Error('disk full')
      },
    },
    clock,
  )
  await assert.rejects(async () => broken.take([purse(1)]), /disk full/)
  await assert.rejects(async () => broken.take([purse(1)]), /disk full/, 'and it goes on when it does')
})
