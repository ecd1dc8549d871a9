import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manualClock } from '../../clock.ts'
import type { Store } from '../../store/store.ts'
import type { Book } from './book.ts'
import { openChanges } from './changes.ts'
import type { AccessRequest } from './types.ts'

const at = (updatedAt: number, more: Partial<AccessRequest> = {}) =>
  ({ id: 'req_1', state: 'pending', votes: [], updatedAt, ...more }) as unknown as AccessRequest

/** Rows as the test puts them; a look resolves when the test has let it through. */
function house() {
  const clock = manualClock(1_000)
  const rows: AccessRequest[] = []
  const looks: (() => Promise<void>)[] = []
  const book = {
    changedSince: () =>
      new Promise<AccessRequest[]>((resolve) => {
        looks.push(async () => {
          resolve([...rows])
          for (let turn = 0; turn < 5; turn++) await null
        })
      }),
  } as unknown as Book
  const store = { now: async () => clock.now() } as unknown as Store
  const changes = openChanges({ store, book, clock, failed: (error) => assert.fail(String(error)) })
  const seen: string[] = []
  changes.watch(({ type }) => seen.push(type))
  /** what the next look finds is what stands there now */
  const look = async () => {
    while (looks.length === 0) await null
    await looks.shift()!()
  }
  return { clock, rows, changes, seen, look }
}

test('what is made here while the first look is under way is told, once: also when that look has found it already', async () => {
  const { rows, changes, seen, look, clock } = house()
  const made = at(2_000)
  rows.push(at(500, { id: 'req_0' }), made)
  await look()
  assert.deepEqual(seen, [], 'what was there before anybody watched is not news')
  changes.tell({ type: 'broke_glass', request: made })
  changes.tell({ type: 'broke_glass', request: made })
  clock.advance(500)
  await look()
  assert.deepEqual(seen, ['broke_glass'])
  changes.close()
})

test('what another node changes is told by the next look, and what was told here is not told again by it', async () => {
  const { rows, changes, seen, look, clock } = house()
  await look()
  changes.tell({ type: 'made', request: at(2_000) })
  rows.push(at(2_000))
  clock.advance(500)
  await look()
  rows[0] = at(2_001, { state: 'approved' })
  clock.advance(500)
  await look()
  assert.deepEqual(seen, ['made', 'approved'])
  changes.close()
})
