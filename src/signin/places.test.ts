import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { networkOf, siteOf } from '../network/throttle.ts'
import { type Held, whoGivesWay } from './places.ts'

const customer = (from: string) => siteOf(networkOf(from)) ?? networkOf(from)

test('whoever holds the most gives way, by his oldest; among equals whoever came first', () => {
  const at = (from: string, count: number, since: number): Held => ({ from, count, since })
  assert.equal(whoGivesWay([]), undefined)
  assert.equal(whoGivesWay([at('192.0.2.1', 1, 1), at('192.0.2.2', 2, 8)])?.from, '192.0.2.2')
  assert.equal(whoGivesWay([at('192.0.2.1', 1, 2), at('192.0.2.2', 1, 1)])?.from, '192.0.2.2')
  const site = [at('2001:db8:1:1::1', 1, 5), at('2001:db8:1:2::1', 1, 4), at('192.0.2.1', 1, 1)]
  assert.equal(whoGivesWay(site)?.from, '2001:db8:1:2::1', 'a /48 is one customer')
})

test('rule 11: whoever holds one place keeps it as long as anybody holds two', () => {
  const from = fc.oneof(fc.ipV4(), fc.ipV6(), fc.constantFrom('10.0.0.1', '10.0.0.2', '2001:db8:1::1', '2001:db8:1:2::1'))
  const held = fc.record({ from, since: fc.nat(1000), count: fc.integer({ min: 1, max: 9 }) })
  fc.assert(
    fc.property(fc.array(held, { minLength: 1, maxLength: 60 }), (all) => {
      const customers = Map.groupBy(all, (one) => customer(one.from))
      const sum = (some: readonly Held[]) => some.reduce((count, one) => count + one.count, 0)
      const gone = whoGivesWay(all)!
      const share = customers.get(customer(gone.from))!
      assert.equal(sum(share), Math.max(...[...customers.values()].map(sum)))
      assert.ok(share.every((one) => one.since >= gone.since))
    }),
  )
})
