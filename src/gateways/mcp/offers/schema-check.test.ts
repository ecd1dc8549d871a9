import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { spentMs } from '../../../encoding/spent.fixture.ts'
import { misfits as policyMisfits } from '../../../policy/fit.ts'
import type { Offer } from '../../../policy/types.ts'
import { mcpVocabulary } from '../rules.ts'
import { placeOf } from './schema-walk.ts'

const tool = (name: string, properties: object, more: object = { additionalProperties: false }) => ({
  kind: 'tool' as const,
  name,
  definition: { name, inputSchema: { type: 'object', properties, ...more } },
})
const server = (name: string, things: Offer['things'], labels: Record<string, string> = {}): Offer => ({
  resource: { kind: 'mcp', id: `res_${name}`, name, labels },
  things,
})

const FILES = server('files', [
  tool('read_file', { path: { type: 'string' }, head: { type: 'integer', minimum: 1, maximum: 1000 } }),
  tool('write_file', { path: { type: 'string' }, content: { type: 'string' }, mode: { enum: ['create', 'append'] } }),
  tool('read_many', {
    paths: { type: 'array', items: { type: 'string' } },
    options: { type: 'object', properties: { depth: { type: 'number' } }, additionalProperties: false },
  }),
  tool('open', { path: { type: 'string' } }, {}),
])
const UNSEEN = server('mail', [])

/** `level path: message fix` of each misfit of one allow rule. */
function said(rule: object, offers: readonly Offer[] = [FILES, UNSEEN], section = 'allow'): string[] {
  const role = { name: 'r', spec: { [section]: [rule] } }
  return policyMisfits({ roles: [role], guardrails: [] }, [mcpVocabulary], offers).map(
    ({ level, path, message, fix }) => `${level} ${path.slice(2).join('.')}: ${message}${fix === undefined ? '' : ` ${fix}`}`,
  )
}
const one = (args: object, more: object = {}) => said({ mcp: 'files', tools: 'read_file', args, ...more })

describe('conditions are held against the approved schemas (peers R27)', () => {
  test('what can hold is silent', () => {
    for (const args of [
      { path: '/srv/*' },
      { path: { under: '/srv' } },
      { path: ['/a', '/b*'] },
      { path: '{{identity.name}}' },
      { path: 'any' },
      { head: { max: 100 } },
      { head: 5 },
      { head: [5, 'x'] },
      { head: { min: 1000 } },
    ])
      assert.deepEqual(one(args), [], JSON.stringify(args))
    assert.deepEqual(said({ mcp: 'files', tools: 'read_many', args: { paths: { under: '/srv' } } }), [], 'a list stands for its entries')
    assert.deepEqual(said({ mcp: 'files', tools: 'read_many', args: { 'options.depth': { max: 3 } } }), [])
    assert.deepEqual(said({ mcp: 'files', tools: 'write_file', args: { mode: 'app*' } }), [])
    assert.deepEqual(said({ mcp: 'files', tools: 'any', args: { content: 'x' } }), [], 'one tool of all is enough')
  })

  test('an argument that no tool has is an error at its key, with what was meant', () => {
    assert.deepEqual(one({ pth: '/srv' }), ['error args.pth: `read_file` of files has no argument `pth`. Did you mean `path`?'])
    assert.deepEqual(one({ 'path.x': 'y' }), ['error args.path.x: `read_file` of files has no argument `path.x`.'])
    assert.match(said({ mcp: 'files', tools: ['read_file', 'write_file'], args: { pth: '/srv' } })[0]!, /So it is with all 2/)
    assert.match(said({ mcp: 'files', tools: 'read_many', args: { 'options.dpth': 1 } })[0]!, /^error .* Did you mean `depth`\?$/)
  })

  test('a condition that no value of the type can pass is an error', () => {
    assert.match(one({ path: { max: 5 } })[0]!, /^error args.path: `path` of `read_file` of files is never a number: its type is string\.$/)
    assert.match(one({ head: 'x*' })[0]!, /never a text: its type is integer/)
    assert.match(one({ head: { under: '/srv' } })[0]!, /never a path/)
    assert.match(one({ head: true })[0]!, /never true or false/)
    assert.match(one({ head: 2.5 })[0]!, /never a number: its type is integer/)
    assert.match(one({ head: { min: 1001 } })[0]!, /never over 1000/)
    assert.match(one({ head: 0 })[0]!, /never under 1/)
    const write = (mode: unknown) => said({ mcp: 'files', tools: 'write_file', args: { mode } })[0] ?? ''
    assert.match(write('delete'), /never `delete`; it is one of "create", "append"/)
    assert.match(write('del*'), /never `del\*`/)
    assert.match(write(['delete', 'remove']), /never `delete`/)
    assert.equal(write(['delete', 'append']), '')
  })

  test('the same in deny: what never matches there protects nobody', () => {
    assert.match(said({ mcp: 'files', tools: 'write_file', args: { pth: '/etc' } }, [FILES], 'deny')[0]!, /^error args.pth/)
    const guard = { name: 'g', spec: { deny: [{ mcp: 'files', args: { pth: { under: '/etc' } } }] } }
    const strict = server('files', FILES.things.slice(0, 3))
    assert.deepEqual(policyMisfits({ roles: [], guardrails: [guard] }, [mcpVocabulary], [strict])[0]?.path, ['deny', 0, 'args', 'pth'])
  })

  test('a tool that allows what it does not name: a warning, because nobody knows', () => {
    assert.deepEqual(said({ mcp: 'files', tools: 'open', args: { pth: '/srv' } }), [
      'warning args.pth: The schema of `open` of files does not name the argument `pth`; whether it takes it is not known. Did you mean `path`?',
    ])
    assert.deepEqual(said({ mcp: 'files', tools: ['open', 'read_file'], args: { pth: '/srv' } }).length, 1)
  })

  test('each tool fails on another condition', () => {
    assert.match(
      said({ mcp: 'files', tools: ['read_file', 'write_file'], args: { head: 5, content: 'x' } })[0]!,
      /^error args: None of the 2 .* Write a rule for each/,
    )
  })

  test('what nothing is known of yet is reported as unresolved, and only where there is a condition', () => {
    assert.match(
      said({ mcp: 'mail', tools: 'any', args: { to: 'x' } })[0]!,
      /^warning : No tool is known yet .* nothing was seen of mail\. They are checked when it is\.$/,
    )
    assert.deepEqual(said({ mcp: 'mail', tools: 'any' }), [])
    assert.match(said({ mcp: 'any', tools: 'send', where: 'args.to == "x"' })[0]!, /^warning .*nothing was seen of mail/)
    assert.match(said({ mcp: 'any', tools: 'read_file', args: { pth: '/srv' } })[0]!, /^warning args.pth/, 'mail may have such a tool')
    assert.deepEqual(said({ mcp: 'gone', tools: 'any', args: { to: 'x' } }), [], 'references are checked elsewhere')
  })

  test('the name of a tool that nobody has is a warning, but in deny', () => {
    assert.deepEqual(said({ mcp: 'files', tools: ['read_file', 'raed_many'] }), [
      'warning tools.1: No server that this rule selects has a tool `raed_many`. Did you mean `read_many`?',
    ])
    assert.deepEqual(said({ mcp: 'any', tools: ['raed_many'] }), [])
    assert.deepEqual(said({ mcp: 'files', tools: ['drop_all'] }, [FILES], 'deny'), [])
  })

  test('`where` is read: names below args, not what it only asks about', () => {
    const where = (text: string) => said({ mcp: 'files', tools: 'read_file', where: text })
    assert.deepEqual(where('args.path.startsWith("/srv") && args["head"] < 5'), [])
    assert.match(where('args.pth.startsWith("/srv")')[0]!, /^error where: `read_file` of files has no argument `pth`\. Did you mean `path`\?$/)
    assert.match(where('args["pth"] == "x"')[0]!, /^error where/)
    assert.match(where('[1, 2].exists(i, args.hed == i)')[0]!, /Did you mean `head`/)
    assert.deepEqual(where('!has(args.pth)'), [])
    assert.deepEqual(where('"pth" in args'), [])
    assert.deepEqual(where('!has(args.pth) || args.pth == "x"'), [], 'who asks first assumes nothing')
    assert.deepEqual(where('!("pth" in args) || args.pth.deep == "x"'), [])
    assert.match(where('has(args.path) && args.pth == "x"')[0]!, /no argument `pth`/)
    assert.deepEqual(said({ mcp: 'files', tools: 'read_many', where: 'args.options.depth < 3.0 && args.paths[0] == "x"' }), [])
    assert.match(said({ mcp: 'files', tools: 'read_many', where: 'args.options.dpth < 3.0' })[0]!, /no argument `options.dpth`/)
    assert.deepEqual(where('identity.name == "boris"'), [])
  })

  test('a rule whose server or tool depends on who asks is left alone', () => {
    assert.deepEqual(said({ mcp: '{{identity.name}}-files', tools: 'any', args: { pth: 'x' } }), [])
    assert.deepEqual(said({ mcp: 'files', tools: '{{identity.name}}_*', args: { pth: 'x' } }), [])
  })

  test('prompts have arguments too', () => {
    const prompts = server('files', [{ kind: 'prompt', name: 'review', definition: { name: 'review', arguments: [{ name: 'branch' }] } }])
    assert.deepEqual(said({ mcp: 'files', prompts: 'review', args: { branch: 'main' } }, [prompts]), [])
    assert.match(said({ mcp: 'files', prompts: 'review', args: { brnch: 'main' } }, [prompts])[0]!, /^warning .*Did you mean `branch`/)
    assert.match(said({ mcp: 'files', prompts: 'review', args: { branch: { max: 3 } } }, [prompts])[0]!, /^error/)
  })
})

describe('the schemas that servers really have', () => {
  const there = (schema: object, ...path: string[]) => placeOf(schema, path).is
  test('references, alternatives, maps and unions', () => {
    const schema = {
      type: 'object',
      $defs: { point: { type: 'object', properties: { x: { type: 'number' } }, additionalProperties: false } },
      properties: {
        at: { $ref: '#/$defs/point' },
        either: { anyOf: [{ $ref: '#/$defs/point' }, { type: 'null' }] },
        both: { allOf: [{ properties: { a: {} } }, { properties: { b: {} } }], additionalProperties: false },
        map: { type: 'object', additionalProperties: { type: 'integer' } },
        far: { $ref: 'https://example.com/schema' },
        free: { type: 'object' },
        anything: true,
        never: false,
      },
      additionalProperties: false,
    }
    for (const path of ['at.x', 'either.x', 'both.a', 'both.b', 'map.any']) assert.equal(there(schema, ...path.split('.')), 'there', path)
    for (const path of ['at.y', 'either.y', 'both.c', 'nope', 'never']) assert.equal(there(schema, ...path.split('.')), 'absent', path)
    for (const path of ['far.x', 'free.x', 'anything.x']) assert.equal(there(schema, ...path.split('.')), 'unknown', path)
    assert.equal(there({ $ref: '#' }, 'x'), 'unknown', 'a circle ends')
    assert.equal(there({ type: 'object', properties: { 'a.b': {} } }, 'a.b'), 'there')
  })

  test('whatever stands in a definition, the check does not fail', () => {
    const schema = fc.letrec((tie) => ({
      node: fc.oneof(
        { maxDepth: 5 },
        fc.jsonValue({ maxDepth: 2 }),
        fc.record(
          {
            type: fc.oneof(fc.constantFrom('string', 'number', 'integer', 'boolean', 'object', 'array', 'null'), fc.jsonValue({ maxDepth: 1 })),
            properties: fc.dictionary(fc.constantFrom('a', 'b', '__proto__', 'a.b'), tie('node')),
            items: tie('node'),
            anyOf: fc.array(tie('node'), { maxLength: 3 }),
            allOf: fc.array(tie('node'), { maxLength: 3 }),
            $ref: fc.constantFrom('#', '#/properties/a', '#/%', 'x'),
            enum: fc.array(fc.jsonValue({ maxDepth: 1 }), { maxLength: 3 }),
            additionalProperties: tie('node'),
          },
          { requiredKeys: [] },
        ),
      ),
    })).node
    const test = fc.oneof(fc.constantFrom('any', 'x', 'x*', 3, true, { under: '/a' }, { max: 3 }), fc.constant(['x', 3]))
    fc.assert(
      fc.property(schema, fc.constantFrom('a', 'a.b', 'b.a.b', '__proto__'), test, (inputSchema, name, value) => {
        const offer = server('files', [{ kind: 'tool', name: 't', definition: { inputSchema } }])
        for (const misfit of mcpVocabulary.misfits!({ section: 'allow', fields: { tools: 't', args: { [name]: value } }, reads: [['a', 'b']] }, [
          offer,
        ]))
          assert.ok(misfit.message.length < 2_000)
      }),
      { numRuns: 200 },
    )
  })
})

test('rule 11: a schema that leads back to itself by many ways is looked at for a moment only', () => {
  const ways = Array.from({ length: 40 }, () => ({ $ref: '#' }))
  const wide = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`p${i}`, {}]))
  const schemas = [
    { anyOf: ways },
    { oneOf: ways, properties: wide },
    { allOf: ways },
    { type: 'array', prefixItems: ways },
    { additionalProperties: { $ref: '#' }, anyOf: ways },
    { allOf: Array.from({ length: 5_000 }, (_, i) => ({ properties: { [`p${i}`]: {} } })) },
    { anyOf: Array.from({ length: 5_000 }, () => ({})), properties: wide },
  ]
  const before = spentMs()
  for (const schema of schemas) assert.equal(placeOf(schema, ['a', 'b']).is, 'unknown', JSON.stringify(schema).slice(0, 80))
  assert.ok(spentMs() - before < 1_000)
})
