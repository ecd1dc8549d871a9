import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { claimMatches, type JoinRule, matchRules } from './rules.ts'

const name = fc.constantFrom('repository', 'ref', 'environment', 'actor', '__proto__', 'constructor', 'toString')
const text = fc.string({ minLength: 1, maxLength: 12 }).filter((one) => !/[*?[\]{}^$\0]/.test(one) && one.isWellFormed())
const claims = fc.dictionary(name, fc.oneof(text, fc.array(text, { maxLength: 3 })), { maxKeys: 5, noNullPrototype: false })
const wanted = fc.oneof(
  text,
  fc.array(text, { minLength: 1, maxLength: 3 }),
  fc.constant('*'),
  text.map((one) => `${one}*`),
)
const rule = fc.dictionary(name, wanted, { minKeys: 1, maxKeys: 4 })

test('rule 1: a claim that is not there never matches, whatever a rule says of it', () => {
  fc.assert(
    fc.property(rule, claims, (one, has) => {
      const [first] = Object.keys(one)
      const without = Object.fromEntries(Object.entries(has).filter(([key]) => key !== first))
      assert.equal(matchRules([one], without).met, false)
    }),
  )
  assert.equal(claimMatches(undefined, '*'), false)
  assert.equal(claimMatches([], '*'), false)
})

test('rule 1: names that every object has are no claims', () => {
  for (const inherited of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) assert.equal(matchRules([{ [inherited]: '*' }], {}).met, false)
})

test('no rule at all lets nobody in', () => {
  fc.assert(fc.property(claims, (has) => assert.equal(matchRules([], has).met, false)))
})

test('one rule must hold as a whole: what two rules hold between them is not enough', () => {
  const rules: readonly JoinRule[] = [
    { repository: 'octo/app', ref: 'refs/heads/main' },
    { repository: 'octo/lib', environment: 'prod' },
  ]
  assert.equal(matchRules(rules, { repository: 'octo/app', environment: 'prod', ref: 'refs/heads/x' }).met, false)
  assert.equal(matchRules(rules, { repository: 'octo/lib', environment: 'prod' }).met, true)
})

test('more in a rule never lets more in, and more rules never fewer', () => {
  fc.assert(
    fc.property(rule, rule, claims, (one, two, has) => {
      if (matchRules([{ ...one, ...two }], has).met) assert.ok(matchRules([two], has).met)
      if (matchRules([one], has).met) assert.ok(matchRules([one, two], has).met && matchRules([two, one], has).met)
    }),
  )
})

test('a value is matched as a whole, a pattern as a pattern, a list by one of its members', () => {
  fc.assert(
    fc.property(text, text, (a, b) => {
      assert.equal(claimMatches(a, b), a === b)
      assert.equal(claimMatches(a + b, `${a}*`), true)
      assert.equal(claimMatches([a, b], b), true)
      assert.equal(claimMatches(b, [a, b]), true)
    }),
  )
})

test('the claim that is named is of the rule that came nearest, with what the caller has', () => {
  const rules: readonly JoinRule[] = [
    { repository: 'a/b', ref: 'main', environment: 'prod' },
    { repository: 'octo/app', ref: 'main' },
  ]
  const found = matchRules(rules, { repository: 'octo/app', ref: 'feature' })
  assert.deepEqual(found, { met: false, by: { claim: 'ref', wanted: 'main', value: 'feature' } })
})
