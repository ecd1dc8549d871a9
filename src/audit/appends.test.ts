import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Appends } from './appends.ts'

test('Appends hold what a Map by number would, however far apart the oldest and the newest are.', () => {
  // How many come, and which of those that wait is answered then; many more than the ring has places at first.
  fc.assert(
    fc.property(fc.array(fc.record({ come: fc.nat(200), answered: fc.nat(1000), times: fc.nat(100) }), { maxLength: 12 }), (turns) => {
      const appends = new Appends<{ readonly number: number }>()
      const map = new Map<number, { readonly number: number }>()
      let last = 0
      for (const { come, answered, times } of turns) {
        for (let i = 0; i < come; i++) {
          const item = { number: ++last }
          appends.add(item)
          map.set(last, item)
        }
        for (let i = 0; i < times; i++) {
          const number = ((answered + i * 7) % Math.max(1, last)) + 1
          assert.equal(appends.take(number), map.get(number))
          map.delete(number)
          assert.equal(appends.take(number), undefined)
        }
        assert.equal(appends.size, map.size)
      }
      assert.deepEqual(appends.clear(), [...map.values()])
      assert.equal(appends.size, 0)
    }),
  )
})
