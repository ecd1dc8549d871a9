import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Environment } from '@marcbachmann/cel-js'
import fc from 'fast-check'
import { identityOf, questionOf } from './vocabulary.fixture.ts'
import { compileWhere, whereScope } from './where.ts'

const boris = identityOf('boris', { roles: ['dev'], traits: { blocked: { '42': true } } })
const judged = (where: string, args: Record<string, unknown>) =>
  compileWhere(where).test(whereScope(questionOf([{ identity: boris }], {}), boris, args))
const unmetered = new Environment({ unlistedVariablesAreDyn: false }).registerVariable('args', 'map<string, dyn>')

const NAMES = ['a', 'b', 's', 'l', '0', '__proto__', 'toString', 'size', 'get', 'has', 'length', 'keys', 'hasOwnProperty', 'valueOf']
const name = fc.constantFrom(...NAMES)
const leaf = fc.oneof(
  fc.constantFrom(...['', 'a', '1', '1h', '2026-01-01T00:00:00Z', '😀', '__proto__', null, true, -0, 1e300, 2 ** 53]),
  fc.integer({ min: -3, max: 5 }),
  fc.double(),
)
// Through JSON, so that `__proto__` is a name like any other.
const object = (value: fc.Arbitrary<unknown>) =>
  fc
    .array(fc.tuple(name, value), { maxLength: 4 })
    .map((entries) => JSON.parse(`{${entries.map((pair) => pair.map((one) => JSON.stringify(one)).join(':')).join(',')}}`) as object)
const { json } = fc.letrec((tie) => ({ json: fc.oneof({ maxDepth: 4 }, leaf, fc.array(tie('json'), { maxLength: 4 }), object(tie('json'))) }))
// Without a prototype CEL takes nothing for a map; nothing that is sent is read into such an object.
const sent = fc.record({ a: json, b: json, s: json, l: json }, { noNullPrototype: true })

const names = fc.constantFrom(...NAMES.filter((one) => one !== '0'))
const { test: condition } = fc.letrec((tie) => {
  const joined = (...parts: readonly (string | fc.Arbitrary<unknown>)[]) =>
    fc.tuple(...parts.map((part) => (typeof part === 'string' ? fc.constant(part) : part))).map((all) => all.join(''))
  const at = fc.constantFrom('0', '1', '"a"', '"0"', '"__proto__"', 'args.s', '-1')
  return {
    path: fc.oneof(
      { maxDepth: 3 },
      fc.constantFrom('args', 'args.a', 'args.b', 'args.s'),
      joined(tie('path'), '.', names),
      joined(tie('path'), '[', at, ']'),
    ),
    value: fc.oneof(
      { maxDepth: 4 },
      tie('path'),
      fc.constantFrom('1', '1.0', '"a"', 'null', 'true', '[]', '["a"]', '{"a": args.a}', '[args.a]', '2u', 'b"ab"', '{1: 2}'),
      joined(fc.constantFrom('size', 'int', 'double', 'string', 'type', 'duration', 'bytes'), '(', tie('value'), ')'),
      joined('(', tie('value'), fc.constantFrom(' + ', ' - ', ' * '), tie('value'), ')'),
      joined(
        tie('value'),
        fc.constantFrom(
          '.size()',
          '.lowerAscii()',
          '.trim()',
          '.split("a")',
          '.join(",")',
          '.indexOf("a")',
          '.filter(x, x == args.a)',
          '.map(x, [x])',
        ),
      ),
    ),
    test: fc.oneof(
      { maxDepth: 4 },
      joined('dyn(', tie('value'), ') ', fc.constantFrom('==', '!=', '<', '>=', 'in'), ' dyn(', tie('value'), ')'),
      joined(
        tie('value'),
        '.',
        fc.constantFrom('all', 'exists', 'exists_one'),
        '(x, ',
        fc.constantFrom('x == args.a', 'x in args.l', 'has(x.a)', 'size(x) > 0'),
        ')',
      ),
      joined('has(', tie('path'), '.', names, ')'),
      joined('(', tie('test'), fc.constantFrom(') && (', ') || ('), tie('test'), ')'),
      joined('!(', tie('test'), ')'),
    ),
  }
})

test('a condition that is metered says the same as the plain one, or fails, whatever is sent', () => {
  let compared = 0
  const outcome = (work: () => unknown) => {
    try {
      return work()
    } catch {
      return 'failed'
    }
  }
  fc.assert(
    fc.property(condition, fc.array(sent, { minLength: 3, maxLength: 3 }), (where, calls) => {
      fc.pre(outcome(() => compileWhere(where as string)) !== 'failed')
      for (const args of calls) {
        const ours = outcome(() => judged(where as string, args))
        if (ours === 'failed') continue
        compared++
        assert.equal(
          ours,
          outcome(() => unmetered.evaluate(where as string, { args })),
        )
      }
    }),
    { numRuns: 3000, maxSkipsPerRun: 500 },
  )
  assert.ok(compared > 300, `only ${compared} said anything`)
})

test('rule 1: a key that is no text fails, and is not looked for: a number, or a list of one text, is no way around a deny', () => {
  const where = 'args.id in identity.traits.blocked'
  assert.equal(judged(where, { id: '42' }), true)
  assert.equal(judged(where, { id: '43' }), false)
  for (const id of [42, ['42'], null, {}, true]) assert.throws(() => judged(where, { id }), { code: 'policy_error' }, JSON.stringify(id))
})
