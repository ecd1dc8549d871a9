import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { manualClock } from '../../../clock.ts'
import { Pages } from './pages.ts'
import { type Row, type Taken, TOOL_LIMITS } from './types.ts'

const takenOf = (rows: readonly Row[]): Taken => ({ columns: [], rows, tag: undefined, more: false, cut: 0, notices: [] })
const numbers = (count: number) => takenOf(Array.from({ length: count }, (_, i) => [i]))
const always = () => {}

test('pages together are the result, in its order, whatever their size', () => {
  const rows = fc.array(fc.array(fc.string({ maxLength: 30 }), { maxLength: 3 }), { maxLength: 60 })
  fc.assert(
    fc.property(rows, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 200 }), (all, size, pageBytes) => {
      const kept = { now: 0 }
      const pages = new Pages(manualClock(0), { ...TOOL_LIMITS, pageBytes }, kept)
      const seen: Row[] = []
      let page = pages.first(takenOf(all), size, always)
      for (;;) {
        assert.equal(page.from, seen.length)
        assert.ok(page.rows.length <= size)
        seen.push(...page.rows)
        if (page.cursor === undefined) break
        assert.ok(page.rows.length > 0)
        page = pages.next(page.cursor, size)
      }
      assert.deepEqual(seen, all)
      assert.equal(kept.now, 0)
    }),
  )
})

test('rule 11: what waits is few results, for minutes, in bounded bytes of all sessions together', () => {
  const clock = manualClock(0)
  const kept = { now: 0 }
  const limits = { ...TOOL_LIMITS, keptResults: 2, keptMs: 1_000, keptBytes: 100 }
  const pages = new Pages(clock, limits, kept)
  const cursors = [1, 2, 3].map(() => pages.first(numbers(5), 1, always).cursor!)
  assert.throws(() => pages.next(cursors[0]!, 1), /no such cursor/)
  assert.deepEqual(pages.next(cursors[1]!, 9).rows, [[1], [2], [3], [4]])
  clock.advance(1_000)
  assert.equal(kept.now, 0)
  assert.throws(() => pages.next(cursors[2]!, 1), /no such cursor/)
  const other = new Pages(clock, limits, kept)
  assert.ok(other.first(numbers(20), 1, always).cursor)
  assert.equal(pages.first(numbers(20), 1, always).cursor, undefined)
  other.clear()
  assert.equal(kept.now, 0)
})

test('a page that may not be shown any more is not, and is forgotten', () => {
  const pages = new Pages(manualClock(0), TOOL_LIMITS, { now: 0 })
  const { cursor } = pages.first(numbers(5), 1, () => {
    throw new Error('not any more')
  })
  assert.throws(() => pages.next(cursor!, 1), /not any more/)
  assert.throws(() => pages.next(cursor!, 1), /no such cursor/)
})
