import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import { compilePolicy } from './compile.ts'
import { decide } from './decide.ts'
import { checkGuardrail } from './guardrail.ts'
import { countOf, type Limit, limitsOf, limitsWords, limitText, shownObligations } from './limits.ts'
import { checkRole } from './role.ts'
import type { Action, Link, Vocabulary } from './types.ts'

const { schema, merge } = limitsWords('server', 'tool')
const vocabulary: Vocabulary = {
  kind: 'mcp',
  fields: z.object({ tools: z.array(z.string()).optional(), limits: schema.optional() }),
  what: ['tools'],
  obligations: { limits: merge },
  compile: ({ tools }) => {
    return (action) => tools === undefined || (tools as string[]).includes(action.operation)
  },
}

const action: Action = {
  kind: 'mcp',
  resource: { kind: 'mcp', id: 'res_files', name: 'files', labels: {} },
  operation: 'read',
  effects: ['read'],
  facts: {},
  summary: 'read',
}
const link = (name: string, ...roles: string[]): Link => ({ identity: { id: `id_${name}`, kind: 'agent', name, traits: {}, roles } })
const role = (name: string, ...limits: (object | undefined)[]) => ({
  name,
  spec: { allow: limits.map((each) => ({ mcp: 'files', tools: ['read'], ...(each && { limits: each }) })) },
})
const guardrail = (name: string, ...limits: object[]) => ({ name, spec: { limit: limits.map((each) => ({ mcp: 'any', limits: each })) } })

function judge(documents: Parameters<typeof compilePolicy>[0], ...links: Link[]) {
  const policy = compilePolicy(documents, [vocabulary])
  return decide(policy, { links, action, now: 0, session: { id: 'ses', startedAt: 0, how: 'login' } })
}
const limitsIn = (documents: Parameters<typeof compilePolicy>[0], ...links: Link[]) => limitsOf(judge(documents, ...links).obligations)
const texts = (limits: readonly Limit[]) => limits.map(limitText).sort()

test('limits are read as they are written, and say whose they are', () => {
  const documents = { roles: [role('dev', { rate: '60/1m', concurrent: 4, budget: '1000/1d', per: 'tool' })], guardrails: [] }
  const limits = limitsIn(documents, link('boris', 'dev'))
  assert.deepEqual(
    limits.map(({ kind, most, window, per, identity }) => ({ kind, most, window, per, id: identity?.id })),
    [
      { kind: 'rate', most: 60, window: 60_000, per: 'item', id: 'id_boris' },
      { kind: 'concurrent', most: 4, window: 0, per: 'item', id: 'id_boris' },
      { kind: 'budget', most: 1000, window: 86_400_000, per: 'item', id: 'id_boris' },
    ],
  )
  assert.deepEqual(shownObligations(judge(documents, link('boris', 'dev')).obligations), {
    limits: [
      'rate 60/1m per tool (boris, role dev, allow rule 1)',
      'concurrent 4 per tool (boris, role dev, allow rule 1)',
      'budget 1000/1d per tool (boris, role dev, allow rule 1)',
    ],
  })
})

test('a wrong word, number or time is a fault with its place and the way out', () => {
  const problemsOf = (limits: unknown) => {
    const checked = checkRole({ allow: [{ mcp: 'files', tools: ['read'], limits }] }, [vocabulary])
    return checked.ok ? [] : checked.problems.map(({ path, message, fix }) => [path.join('.'), message, fix ?? ''].join(' | '))
  }
  const form = 'write how many and in which time, such as 60/1m or 1000/1d; at most 1000000.'
  for (const [limits, expected] of [
    [{ rates: '60/1m' }, 'allow.0.limits.rates | Unknown key `rates`. | Did you mean `rate`?'],
    [{ rate: '60/m' }, `allow.0.limits.rate | ${form} | `],
    [{ rate: '60/1w' }, `allow.0.limits.rate | ${form} | `],
    [{ rate: '0/1m' }, `allow.0.limits.rate | ${form} | `],
    [{ rate: '-1/1m' }, `allow.0.limits.rate | ${form} | `],
    [{ rate: '1.5/1m' }, `allow.0.limits.rate | ${form} | `],
    [{ rate: '1e3/1m' }, `allow.0.limits.rate | ${form} | `],
    [{ rate: '1000001/1m' }, `allow.0.limits.rate | ${form} | `],
    [{ rate: 60 }, `allow.0.limits.rate | \`allow[0].limits.rate\`: ${form} | `],
    [{ rate: '1/61m' }, 'allow.0.limits.rate | a rate is over at most an hour; write a budget. | '],
    [{ budget: '1/59s' }, 'allow.0.limits.budget | a budget is over at least a minute; write a rate. | '],
    [{ concurrent: 0 }, 'allow.0.limits.concurrent | Too small: expected number to be >=1. | '],
    [{ rate: '1/1m', per: 'database' }, 'allow.0.limits.per | Invalid option: expected one of "identity"|"server"|"tool". | '],
    [{ per: 'tool' }, 'allow.0.limits | write rate, concurrent or budget. | '],
    [{}, 'allow.0.limits | write rate, concurrent or budget. | '],
  ] as const) {
    assert.equal(problemsOf(limits)[0], expected, JSON.stringify(limits))
  }
  for (const limits of [{ rate: '1000000/1s' }, { rate: '1/1h' }, { budget: '1/1m' }, { concurrent: 1 }, { budget: '5/365d', per: 'server' }])
    assert.deepEqual(problemsOf(limits), [], 'the edges are inside')
})

test('limits have no meaning in deny, and a limit rule without them is a fault', () => {
  const deny = checkRole({ deny: [{ mcp: 'files', limits: { rate: '1/1m' } }] }, [vocabulary])
  assert.ok(!deny.ok && deny.problems[0]?.message.includes('no meaning in a deny rule'))
  const empty = checkGuardrail({ limit: [{ mcp: 'any' }] }, [vocabulary])
  assert.ok(!empty.ok && empty.problems[0]?.fix?.includes('limits'))
})

test('of the rules of one identity the least binding limit holds, each of the three by itself (peers R32)', () => {
  const held = (...roles: ReturnType<typeof role>[]) =>
    texts(limitsIn({ roles, guardrails: [] }, link('boris', ...roles.map(({ name }) => name)))).map((text) =>
      text.replace(/ per.*\(boris, |\)/g, ' '),
    )
  assert.deepEqual(held(role('a', { rate: '60/1m' }), role('b', { rate: '100/1m' })), ['rate 100/1m role b, allow rule 1 '])
  assert.deepEqual(
    held(role('a', { rate: '60/1m' }), role('b', { rate: '1000/1h' })),
    ['rate 60/1m role a, allow rule 1 '],
    'what counts is how many in the same time',
  )
  assert.deepEqual(held(role('a', { rate: '60/1m' }), role('b', { rate: '1/1s' })), ['rate 60/1m role a, allow rule 1 '], 'then how many at once')
  assert.deepEqual(held(role('a', { rate: '60/1m', concurrent: 2 }), role('b', { rate: '60/1m' })), ['rate 60/1m role a, allow rule 1 '])
  assert.deepEqual(held(role('a', { rate: '60/1m' }), role('b', { budget: '5/1d' })), [], 'what only one demands, the other allows without')
  assert.deepEqual(held(role('a', { rate: '60/1m' }), role('b', undefined)), [])
  assert.deepEqual(held(role('a', { rate: '60/1m' }, { rate: '70/1m', per: 'tool' })), ['rate 70/1m role a, allow rule 2 '], 'also inside one role')
  assert.deepEqual(held(role('a', { rate: '60/1m' }), role('b', { rate: '60/1m', per: 'tool' })), ['rate 60/1m role b, allow rule 1 '])
})

test('guardrails and chain links add theirs, each with a count of its own', () => {
  const documents = {
    roles: [role('dev', { rate: '60/1m' }), role('bot', { rate: '600/1m' })],
    guardrails: [guardrail('everybody', { rate: '6000/1m', per: 'server' }, { concurrent: 8 })],
  }
  const limits = limitsIn(documents, link('boris', 'dev'), link('boris/claude', 'bot'))
  assert.deepEqual(texts(limits), [
    'concurrent 8 per identity (boris, guardrail everybody, limit rule 2)',
    'concurrent 8 per identity (boris/claude, guardrail everybody, limit rule 2)',
    'rate 60/1m per identity (boris, role dev, allow rule 1)',
    'rate 600/1m per identity (boris/claude, role bot, allow rule 1)',
    'rate 6000/1m per server (guardrail everybody, limit rule 1)',
  ])
  assert.equal(new Set(limits.map(countOf)).size, limits.length, 'a call is counted once in each place (peers R63)')
})

test('a limit that is changed keeps its count; rules about other things have counts of their own', () => {
  const countFor = (limits: object, more: object = {}) =>
    countOf(
      limitsIn(
        { roles: [{ name: 'dev', spec: { allow: [{ mcp: 'files', tools: ['read'], limits, ...more }] } }], guardrails: [] },
        link('boris', 'dev'),
      )[0]!,
    )
  assert.equal(countFor({ budget: '1000/1d' }), countFor({ budget: '500/1d' }))
  assert.notEqual(countFor({ budget: '1000/1d' }), countFor({ budget: '1000/7d' }))
  assert.notEqual(countFor({ budget: '1000/1d' }), countFor({ budget: '1000/1d' }, { tools: ['read', 'write'] }))
})

test('two limits that count in one place are one, the smaller', () => {
  const documents = { roles: [role('dev', undefined)], guardrails: [guardrail('twice', { rate: '10/1m' }, { rate: '20/1m' }, { rate: '2/1s' })] }
  assert.deepEqual(
    limitsIn(documents, link('boris', 'dev')).map(({ text }) => text),
    ['rate 10/1m per identity', 'rate 2/1s per identity'],
  )
})

test('what is refused has no limits', () => {
  const documents = { roles: [{ name: 'dev', spec: { deny: [{ mcp: 'files' }] } }, role('other', { rate: '1/1m' })], guardrails: [] }
  assert.deepEqual(judge(documents, link('boris', 'dev', 'other')).obligations, {})
})

const limit: fc.Arbitrary<Limit> = fc
  .record({
    kind: fc.constantFrom('rate' as const, 'budget' as const, 'concurrent' as const),
    most: fc.integer({ min: 1, max: 4 }),
    window: fc.constantFrom(60_000, 120_000),
    per: fc.constantFrom('identity' as const, 'resource' as const, 'item' as const),
    document: fc.constantFrom('a', 'b', 'c'),
    index: fc.integer({ min: 0, max: 2 }),
    who: fc.constantFrom('boris', 'dana'),
  })
  .map(({ kind, most, window, per, document, index, who }) => ({
    kind,
    most,
    window: kind === 'concurrent' ? 0 : window,
    per,
    text: `${kind} ${most}`,
    rule: { document, kind: 'role', section: 'allow', index, digest: '' },
    counter: `${document} ${index}`,
    identity: { id: who, name: who },
  }))
const sets = fc.array(limit, { maxLength: 5 })
const same = (a: unknown, b: unknown) => assert.deepEqual(texts(a as Limit[]), texts(b as Limit[]))

test('the merges do not depend on the order of rules, roles, guardrails and links', () => {
  fc.assert(
    fc.property(sets, sets, sets, (a, b, c) => {
      same(merge.most(a, b), merge.most(b, a))
      same(merge.most(merge.most(a, b), c), merge.most(a, merge.most(b, c)))
    }),
  )
  const one = fc.uniqueArray(limit, { maxLength: 3, selector: ({ kind }) => kind })
  fc.assert(
    fc.property(one, one, one, (a, b, c) => {
      same(merge.least(a, b), merge.least(b, a))
      same(merge.least(a, a), a)
      same(merge.least(merge.least(a, b), c), merge.least(a, merge.least(b, c)))
    }),
  )
})

test('rule 7: a guardrail or a link more never loosens a limit', () => {
  fc.assert(
    fc.property(sets, sets, (a, b) => {
      const merged = merge.most(a, b) as Limit[]
      for (const limit of [...a, ...b]) assert.ok(merged.some((held) => countOf(held) === countOf(limit) && held.most <= limit.most))
    }),
  )
})
