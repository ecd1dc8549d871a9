import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { canonicalJson } from './canonical-json.ts'

test('canonical JSON: the examples of RFC 8785', () => {
  // Section 3.2.2 and 3.2.3.
  const value = {
    numbers: [Number('333333333.33333329'), 1e30, 4.5, 2e-3, 0.000000000000000000000000001],
    string: '\u20ac$\u000f\u000aA\'\u0042\u0022\u005c\\"/',
    literals: [null, true, false],
  }
  assert.equal(
    canonicalJson(value),
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  )
  const keys = {
    '\u20ac': 'Euro Sign',
    '\r': 'Carriage Return',
    '\ufb33': 'Hebrew Letter Dalet With Dagesh',
    '1': 'One',
    '\ud83d\ude00': 'Emoji: Grinning Face',
    '\u0080': 'Control',
    '\u00f6': 'Latin Small Letter O With Diaeresis',
  }
  assert.deepEqual(Object.values(JSON.parse(canonicalJson(keys)) as object).length, 7)
  assert.equal(
    [...canonicalJson(keys).matchAll(/:"([^"]*)"/g)].map((match) => match[1]).join(', '),
    'Carriage Return, One, Control, Latin Small Letter O With Diaeresis, Euro Sign, Emoji: Grinning Face, Hebrew Letter Dalet With Dagesh',
  )
})

test('canonical JSON: numbers of RFC 8785 appendix B', () => {
  const bits = (hex: string) => Buffer.from(hex, 'hex').readDoubleBE()
  const samples: [string, string][] = [
    ['0000000000000000', '0'],
    ['8000000000000000', '0'],
    ['0000000000000001', '5e-324'],
    ['8000000000000001', '-5e-324'],
    ['7fefffffffffffff', '1.7976931348623157e+308'],
    ['4340000000000000', '9007199254740992'],
    ['c340000000000000', '-9007199254740992'],
    ['4430000000000000', '295147905179352830000'],
    ['44b52d02c7e14af5', '9.999999999999997e+22'],
    ['44b52d02c7e14af6', '1e+23'],
    ['444b1ae4d6e2ef4e', '999999999999999700000'],
    ['444b1ae4d6e2ef50', '1e+21'],
    ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
    ['3eb0c6f7a0b5ed8d', '0.000001'],
    ['41b3de4355555557', '333333333.33333343'],
    ['becbf647612f3696', '-0.0000033333333333333333'],
    ['43143ff3c1cb0959', '1424953923781206.2'],
  ]
  for (const [hex, text] of samples) assert.equal(canonicalJson(bits(hex)), text)
})

test('canonical JSON refuses what JSON cannot say', () => {
  const cycle: { self?: unknown } = {}
  cycle.self = cycle
  const values: unknown[] = [undefined, { a: undefined }, [undefined], new Array(2), NaN, Infinity, -Infinity, 1n, Symbol('x'), () => 1]
  const odd: unknown[] = ['\ud800', { '\udc00': 1 }, new Date(0), new Map(), new Uint8Array(2), Buffer.from('a'), new (class A {})(), cycle]
  for (const value of [...values, ...odd]) assert.throws(() => canonicalJson(value), { code: 'malformed' })
})

test('canonical JSON: reads back as the same value, whatever the order of the keys', () => {
  const value = fc.jsonValue({ maxDepth: 5 })
  const turned = (item: unknown): unknown => {
    if (Array.isArray(item)) return item.map(turned)
    if (typeof item !== 'object' || item === null) return item
    return Object.fromEntries(
      Object.entries(item)
        .toReversed()
        .map(([key, each]) => [key, turned(each)]),
    )
  }
  fc.assert(
    fc.property(value, (item) => {
      const plain = JSON.parse(JSON.stringify(item)) as unknown
      fc.pre(JSON.stringify(plain).isWellFormed() && !/\\ud[89a-f]/i.test(JSON.stringify(plain)))
      const text = canonicalJson(plain)
      assert.deepEqual(JSON.parse(text), plain)
      assert.equal(canonicalJson(turned(plain)), text)
      assert.equal(canonicalJson(JSON.parse(text)), text)
    }),
    { numRuns: 1000 },
  )
})

test('canonical JSON: small and large objects are sorted alike', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string({ maxLength: 4, unit: 'grapheme' }), { maxLength: 60 }), (keys) => {
      const object = Object.fromEntries(keys.map((key) => [key, 1]))
      fc.pre(!keys.includes('__proto__'))
      const written = [...keys].sort().map((key) => `${JSON.stringify(key)}:1`)
      assert.equal(canonicalJson(object), `{${written.join(',')}}`)
    }),
    { numRuns: 300 },
  )
})
