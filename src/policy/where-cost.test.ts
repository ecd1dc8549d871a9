import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compilePolicy } from './compile.ts'
import { decide } from './decide.ts'
import { identityOf, questionOf, toolVocabulary } from './vocabulary.fixture.ts'
import { compileWhere, whereScope } from './where.ts'

/** Of this thread alone: what else runs on the machine does not count. */
function cpuMs(work: () => void): number {
  const { user, system } = process.threadCpuUsage()
  work()
  const after = process.threadCpuUsage()
  return (after.user - user + after.system - system) / 1000
}

const boris = identityOf('boris', { roles: ['all'], traits: { groups: Array.from({ length: 500 }, (_, i) => `group-${i}`) } })
const scope = (args: Record<string, unknown>) => whereScope(questionOf([{ identity: boris }], {}), boris, args)
const tried = (where: string, args: Record<string, unknown>): unknown => {
  const condition = compileWhere(where)
  const asked = scope(args)
  try {
    return condition.test(asked)
  } catch (error) {
    return (error as Error).message
  }
}

const MIB = 1024 * 1024
/** About 200 ms of nominal cost, on a machine that is several times slower, and while V8 is still warming up. */
const MOST_MS = 1500
const TOO_MUCH = /^The arguments are too large, or too many, to be judged/

test('rule 11: what an administrator wrote costs a bounded time, whatever the caller sends', () => {
  const numbers = Array.from({ length: 150_000 }, (_, i) => i)
  const deep = Array.from({ length: 10_000 }).reduce((inner: unknown) => [inner], 1)
  const half = MIB / 2
  const worst: readonly [where: string, args: Record<string, unknown>][] = [
    ['args.a.all(x, x in args.b)', { a: numbers, b: numbers.toReversed() }],
    ['args.a.exists(x, args.b.exists_one == x)', { a: numbers, b: numbers }],
    ['args.a.all(x, args.s.contains(x))', { a: numbers.map(String), s: 'a'.repeat(half) }],
    ['args.s.contains(args.t)', { s: 'a'.repeat(half), t: `${'a'.repeat(half / 4)}b${'a'.repeat(half / 4)}` }],
    ['args.s.lastIndexOf(args.t) > 0', { s: 'a'.repeat(half), t: `${'a'.repeat(half / 2)}b` }],
    ['args.s.split("").all(x, x in args.s.split(""))', { s: 'a'.repeat(MIB) }],
    ['args.s.split("").exists(x, int(x) > 3)', { s: 'a'.repeat(MIB) }],
    [`args.a.map(x, args.s).join(args.s) == ""`, { a: numbers, s: 'a'.repeat(half) }],
    [`(${Array.from({ length: 60 }, () => 'args.a').join(' + ')}).size() > 3`, { a: numbers }],
    [`(${Array.from({ length: 60 }, () => 'args.s').join(' + ')}).lowerAscii().upperAscii().trim() == ""`, { s: 'ä'.repeat(MIB) }],
    [`args.a.all(x, ${Array.from({ length: 60 }, (_, i) => `x != ${i}.5`).join(' && ')})`, { a: numbers }],
    ['args.a.all(x, "group-499" in identity.traits.groups)', { a: numbers }],
    ['args.a.all(x, time.getHours(args.z) > 30)', { a: numbers, z: 'Europe/Berlin' }],
    ['args.a.all(x, x > 3)', { a: numbers.map(String) }],
    ['args.a.all(x, x.y.z == 1)', { a: numbers.map(() => ({})) }],
    ['duration(args.s) > duration("1h")', { s: '1'.repeat(MIB) }],
    ['timestamp(args.s) > time', { s: '1'.repeat(MIB) }],
    ['double(args.s) > 3.0 || int(args.s) > 3', { s: '1'.repeat(MIB) }],
    ['size(args.s) > 3 && args.s.size() > 3 && args.s.trim().size() > 3', { s: ' '.repeat(MIB) }],
    ['bytes(args.s).json() == {} || bytes(args.s).hex() == ""', { s: `{"a":[${'[],'.repeat(MIB / 4)}[]]}` }],
    ['bytes(args.s).json().a.all(x, x > 3)', { s: `{"a":[${'"",'.repeat(MIB / 4)}1]}` }],
    ['args.m == args.n', { m: Object.fromEntries(numbers.map((i) => [`k${i}`, i])), n: Object.fromEntries(numbers.map((i) => [`k${i}`, i])) }],
    ['args.a.all(x, x in args.m)', { a: numbers.map((i) => `k${i}`), m: Object.fromEntries(numbers.map((i) => [`k${i}`, i])) }],
    ['args.d == args.e', { d: deep, e: deep }],
    ['args.a.filter(x, x in args.b).size() > 3', { a: numbers, b: numbers }],
    ['[args.a, args.b, args.a].all(x, x == args.a)', { a: numbers, b: [...numbers] }],
  ]
  for (const [where, args] of worst) {
    const took = cpuMs(() => tried(where, args))
    assert.ok(took < MOST_MS, `${where} took ${took} ms`)
  }
})

test('rule 11: conditions of any form, over arguments made to be slow, stay within what a decision may cost', () => {
  const list = fc.constantFrom('args.a', 'args.b', '(args.a + args.b)', 'args.s.split(args.t)', 'args.s.split("a")', 'args.a.map(y, [y])', 'args.m.k')
  const withoutLoop = (list: string) => list.replace(/\.map.*/, '')
  const text = fc.constantFrom('args.s', 'args.t', '(args.s + args.t)', 'args.s.lowerAscii()', 'args.a.join(args.t)', 'identity.name')
  const test = fc.oneof(
    fc.tuple(text, fc.constantFrom('contains', 'startsWith', 'endsWith'), text).map(([a, method, b]) => `${a}.${method}(${b})`),
    fc.tuple(text, fc.constantFrom('indexOf', 'lastIndexOf'), text).map(([a, method, b]) => `${a}.${method}(${b}) > 5`),
    fc.tuple(list, list).map(([a, b]) => `dyn(${a}) == dyn(${b})`),
    fc
      .tuple(list, fc.constantFrom('all', 'exists', 'exists_one'), text, list)
      .map(([a, loop, s, b]) => `${withoutLoop(a)}.${loop}(x, x == ${s} || x in ${withoutLoop(b)})`),
    fc.tuple(list, text).map(([a, b]) => `${withoutLoop(a)}.filter(x, ${b}.contains(x)).size() > 2`),
    text.map((a) => `size(${a}) > 3 && duration(${a}) > duration("1s")`),
  )
  const condition = fc.tuple(test, fc.constantFrom('||', '&&'), test).map(([a, or, b]) => `(${a}) ${or} (${b})`)
  const args = fc
    .record({
      n: fc.integer({ min: 1, max: 60_000 }),
      piece: fc.constantFrom('a', 'ab', '1', 'aaab', ' '),
      where: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    .map(({ n, piece, where }) => {
      const at = Math.floor(n * where)
      return {
        a: Array(n).fill(piece),
        b: Array(n).fill('b'),
        s: piece.repeat(n),
        t: `${piece.repeat(at)}b${piece.repeat((n - at) / 2)}`,
        m: { k: Array(n).fill([1]) },
      }
    })
  fc.assert(
    fc.property(condition, args, (where, sent) => {
      const took = cpuMs(() => tried(where, sent))
      return took < MOST_MS
    }),
    { numRuns: 60 },
  )
})

test('rule 11: two hundred rules share one budget, and what is used up matches in deny and in no allow (rule 1)', () => {
  const slow = { tool: 'any', tools: 'any', where: 'args.a.all(x, x in args.b)' }
  const policy = (section: 'allow' | 'deny') =>
    compilePolicy(
      {
        roles: [
          {
            name: 'all',
            spec: {
              allow: [{ tool: 'any', tools: 'any' }],
              ...(section === 'allow' ? { allow: Array(200).fill(slow) } : { deny: Array(200).fill(slow) }),
            },
          },
        ],
        guardrails: [],
      },
      [toolVocabulary],
    )
  const args = { a: Array.from({ length: 5000 }, (_, i) => i), b: Array.from({ length: 5000 }, (_, i) => -i) }
  for (const section of ['allow', 'deny'] as const) {
    const judged = policy(section)
    const took = cpuMs(() => assert.equal(decide(judged, questionOf([{ identity: boris }], { args })).verdict, 'deny'))
    assert.ok(took < MOST_MS, `${section}: ${took} ms`)
  }
})

test('a condition over what people really send is judged as before', () => {
  const items = Array.from({ length: 1000 }, (_, i) => ({ id: i, to: `user-${i}@example.com`, tags: ['a', 'b'] }))
  assert.equal(tried('args.items.all(x, x.to.endsWith("@example.com") && size(x.tags) == 2 && !("cc" in x))', { items }), true)
  assert.equal(tried('args.items.exists(x, x.to in args.others)', { items: items.slice(0, 100), others: ['user-99@example.com'] }), true)
  assert.equal(
    tried('args.text.contains("drop") && args.text.contains(args.word)', { text: `${'x'.repeat(100_000)}drop table`, word: 'table' }),
    true,
  )
  assert.equal(tried('args.list.join(", ").split(", ").size() == 3 && args.list + ["d"] == ["a", "b", "c", "d"]', { list: ['a', 'b', 'c'] }), true)
  assert.equal(tried('duration(args.for) <= duration("1h30m") && time.getHours("Europe/Berlin") == 10', { for: '90m' }), true)
  assert.equal(tried('args.deep == {"a": {"b": [{"c": 1.0}]}} && args.n == null', { deep: { a: { b: [{ c: 1 }] } }, n: null }), true)
})

test('a condition that fails with the budget used up is an error, also where CEL takes it back', () => {
  const numbers = Array.from({ length: 100_000 }, (_, i) => i)
  assert.match(String(tried('args.a.all(x, x in args.b) || true', { a: numbers, b: numbers })), TOO_MUCH)
  assert.match(String(tried('args.a.exists(x, x in args.b && x < 0)', { a: numbers, b: numbers.toReversed() })), TOO_MUCH)
})

test('errors of a condition speak of the functions as they were written', () => {
  assert.throws(() => compileWhere('identity.name.contains(5)'), { message: /contains/ })
  assert.throws(
    () => compileWhere('size(5) > args.x'),
    (error: Error) => error.message.includes('size(') && !error.message.includes('paid'),
  )
})
