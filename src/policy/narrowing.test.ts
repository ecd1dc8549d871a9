import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { assertNotLooser, call, documents, grant, granted, limits, link, links, now, runs, TIGHTNESS } from './arbitraries.fixture.ts'
import { compilePolicy } from './compile.ts'
import { decide } from './decide.ts'
import { explain } from './explain.ts'
import { limitsInside, limitsSchema, narrowingOf } from './narrowing.ts'
import { limitsInWords } from './narrowing-words.ts'
import { NOT_VISIBLE } from './refusal.ts'
import type { Limits, Link } from './types.ts'
import { actionOf, type Call, identityOf, questionOf, toolVocabulary, vocabularies } from './vocabulary.fixture.ts'

const policy = compilePolicy(
  {
    roles: [
      {
        name: 'all',
        spec: {
          allow: [
            { tool: 'any', tools: 'any' },
            { door: 'any', open: 'any' },
          ],
        },
      },
      { name: 'careful', spec: { deny: [{ tool: 'files', tools: 'drop' }] } },
      { name: 'asks', spec: { ask: [{ tool: 'any', tools: 'any' }] } },
      { name: 'may-ask', spec: { request: [{ role: 'all' }] } },
    ],
    guardrails: [],
  },
  vocabularies,
)
const boris = identityOf('boris', { roles: ['all'] })
const client = identityOf('client', { kind: 'agent', roles: ['all'] })
const under = (left: Limits, asked: Call, more: Partial<Link> = {}) =>
  decide(policy, questionOf([{ identity: boris }, { identity: client, delegationId: 'dlg_1', limits: left, ...more }], asked))

test('rule 7: each part of the limits refuses what it does not leave, and says whose delegation it is and what it leaves', () => {
  const rows: [Limits, Call, RegExp][] = [
    [
      { tools: ['files/read_*'] },
      { tool: 'write' },
      /^call write on files is refused: client acts for boris, who leaves it of MCP servers only the tools files\/read_\*\.$/,
    ],
    [{ effects: ['read'] }, { tool: 'write', effects: ['read', 'write'] }, /only to read\.$/],
    [{ where: 'args.n < 3' }, { args: { n: 4 } }, /only where args\.n < 3\.$/],
    [{ where: 'args.n < 3' }, {}, /only where/],
    [{ roles: ['careful'] }, {}, new RegExp(NOT_VISIBLE)],
    [{ resources: ['tool/data'] }, {}, new RegExp(NOT_VISIBLE)],
    [{ tools: ['data/*'] }, {}, new RegExp(NOT_VISIBLE)],
    [{ effects: [] }, {}, /nothing that has an effect/],
  ]
  for (const [left, asked, message] of rows) {
    const decision = under(left, asked)
    assert.equal(decision.reason, 'delegation_exceeded', JSON.stringify(left))
    assert.match(decision.message, message)
    assert.equal(decision.link, 'client')
    const part = Object.keys(left)[0]
    assert.deepEqual(decision.limit, { link: 'client', delegation: 'dlg_1', part, ...(part === 'effects' ? { alone: true } : {}) })
    assert.equal(decision.ways, undefined, 'nothing that can be asked for widens a delegation')
  }
})

test('effects stand alone in the way only where everything else would leave it', () => {
  const read: Limits = { effects: ['read'] }
  const asked: Call = { tool: 'write', effects: ['write'] }
  assert.equal(under(read, asked).limit?.alone, true)
  assert.equal(under({ ...read, tools: ['files/read_*'] }, asked).limit?.alone, undefined)
  assert.equal(under({ ...read, where: 'args.n < 3' }, asked).limit?.alone, undefined)
  const helper = { identity: identityOf('helper', { kind: 'agent', roles: ['all'] }), delegationId: 'dlg_2' }
  const chain = (last: Partial<Link>, of = boris) =>
    decide(policy, questionOf([{ identity: of }, { identity: client, delegationId: 'dlg_1', limits: read }, { ...helper, ...last }], asked))
  assert.equal(chain({}).limit?.alone, true)
  assert.equal(chain({ limits: read }).limit?.alone, undefined, 'two links leave only reading')
  assert.equal(chain({ identity: identityOf('helper', { kind: 'agent', roles: [] }) }).limit?.alone, undefined)
  assert.equal(chain({}, identityOf('boris', { roles: ['all', 'careful'] })).limit?.alone, true)
  assert.equal(chain({}, identityOf('boris', { roles: [] })).limit?.alone, undefined)
})

test('what the limits leave is allowed as before', () => {
  for (const left of [
    { tools: ['files/read_*', 'files/call/*'] },
    { tools: ['*/*'] },
    { resources: ['tool/f*'] },
    { effects: ['read', 'write'] },
    { where: 'resource.name == "files" && identity.name == "client"' },
    { roles: ['all'] },
    {},
  ] satisfies Limits[])
    assert.equal(under(left, { tool: 'read_file' }).verdict, 'allow', JSON.stringify(left))
})

test('rule 7: limits hold for what a human is asked about and for what was granted as well', () => {
  const asking = { identity: { ...client, roles: ['asks'] } }
  assert.equal(under({}, { tool: 'x' }, asking).verdict, 'ask')
  assert.equal(under({ tools: ['files/y'] }, { tool: 'x' }, asking).reason, 'delegation_exceeded')
  const granting = { identity: { ...client, roles: [] }, grants: [{ role: 'all', request: 'req_1', until: Number.MAX_SAFE_INTEGER }] }
  assert.equal(under({}, { tool: 'x' }, granting).verdict, 'allow')
  assert.equal(under({ tools: ['files/y'] }, { tool: 'x' }, granting).reason, 'delegation_exceeded')
  assert.equal(under({ roles: ['asks'] }, { tool: 'x' }, granting).reason, 'delegation_exceeded')
})

test('rule 7: what a role that is left out denies stays denied', () => {
  const both = { identity: { ...client, roles: ['all', 'careful'] } }
  assert.equal(under({ roles: ['all'] }, { tool: 'drop' }, both).reason, 'denied_by_rule')
  assert.equal(under({ roles: ['all'] }, { tool: 'read' }, both).verdict, 'allow')
})

test('a list, or a handshake, has no arguments yet: a condition on them does not hide what they may still fulfil', () => {
  assert.equal(under({ where: 'args.n < 3' }, { partial: true }).verdict, 'allow')
  assert.equal(under({ where: 'resource.name == "data"' }, { partial: true }).reason, 'delegation_exceeded')
  assert.equal(under({ tools: ['files/read'] }, { partial: true, tool: 'write' }).reason, 'delegation_exceeded', 'so lists are filtered by tools')
})

test('tools speak of vocabularies that have tools, and of nothing else', () => {
  assert.equal(under({ tools: ['files/read'] }, { kind: 'door', on: 'front' }).verdict, 'allow')
  assert.equal(under({ tools: ['files/read'], resources: ['tool/*'] }, { kind: 'door', on: 'front' }).reason, 'delegation_exceeded')
  const none = { ...toolVocabulary, tool: () => undefined }
  assert.equal(
    narrowingOf({ tools: ['files/*'] }).excludes(actionOf({}), none, () => assert.fail()),
    'tools',
    'what is no tool of a server with tools',
  )
  const needed = { ...toolVocabulary, tool: () => '' }
  assert.equal(
    narrowingOf({ tools: ['files/x'] }).excludes(actionOf({}), needed, () => assert.fail()),
    undefined,
  )
  assert.equal(
    narrowingOf({ tools: ['data/x'] }).excludes(actionOf({}), needed, () => assert.fail()),
    'tools',
  )
})

test('rule 1: limits that cannot be read allow nothing', () => {
  for (const bad of [
    { resources: ['files'] },
    { tools: ['read'] },
    { tools: ['files/'] },
    { resources: ['mcp/**'] },
    { where: 'args.' },
    { where: '1' },
  ] as Limits[]) {
    assert.throws(() => narrowingOf(bad), { code: 'invalid_document' }, JSON.stringify(bad))
    assert.equal(under(bad, {}).reason, 'policy_error')
  }
  assert.equal(limitsSchema.safeParse({ tool: ['x/y'] }).success, false, 'a part that is misspelled limits nothing, so it is refused')
})

test('rule 7: two conditions both hold, also where one ends with a comment', () => {
  const both = limitsInside({ where: 'args.n == 1 // only one' }, { where: 'true\n || true // or' })
  assert.equal(under(both, { args: { n: 2 } }).verdict, 'deny')
  assert.equal(under(both, { args: { n: 1 } }).verdict, 'allow')
})

test('rule 11: a condition of limits can say nothing that takes long, and looks at nothing large', () => {
  for (const where of [
    'args.a.all(x, x in args.b)',
    'args.a.exists(x, args.b.contains(x))',
    'size(args.a + args.a) > 0',
    'args.s.contains(args.t)',
    'args.s.split("").size() > 3',
    'args.a.map(x, [x]).size() > 0',
    'args.a.join(args.s) == ""',
  ])
    assert.throws(() => narrowingOf({ where }), { code: 'invalid_document' }, where)
  const left = { where: 'args.a.all(x, x in ["a", "b"]) && args.s.lowerAscii().startsWith("x" + "y")' }
  assert.equal(under(left, { args: { a: ['a', 'b'], s: 'XYZ', other: 'x'.repeat(1_000_000) } }).verdict, 'allow', 'what is not read may be large')
  assert.equal(under(left, { args: { a: new Array(20_000).fill('a'), s: 'xy' } }).reason, 'delegation_exceeded')
  assert.equal(under({ where: '!has(args.s) || size(args.s) > 9' }, { args: { s: 'x'.repeat(1_000_000) } }).reason, 'delegation_exceeded')
})

test('limits are compiled once for all the actions of their delegation', () => {
  const left: Limits = { where: 'args.n < 3' }
  assert.equal(narrowingOf(left), narrowingOf(left))
})

test('explain names the part that stands in the way, and no rule that could be added', () => {
  const said = explain(policy, questionOf([{ identity: boris }, { identity: client, limits: { effects: ['read'] } }], { effects: ['write'] }))
  assert.deepEqual(said.links[1]?.limits, { words: ['Only to read.'], exceeded: 'effects' })
  assert.match(said.missing ?? '', /The delegation by which client acts does not leave it \(`effects`\)/)
  assert.equal(said.ruleText, undefined)
})

test('limits read as sentences', () => {
  assert.deepEqual(
    limitsInWords({
      where: 'args.n < 3',
      effects: ['read', 'egress'],
      tools: ['files/read'],
      resources: ['mcp/files', 'postgres/*'],
      roles: ['reader'],
    }),
    [
      'Only the role reader.',
      'Only mcp/files and postgres/*.',
      'Of MCP servers only the tool files/read.',
      'Only to read and send data out.',
      'Only where args.n < 3.',
    ],
  )
  assert.deepEqual(limitsInWords({ roles: [], resources: [], tools: [] }), ['No role at all.', 'No resource at all.', 'Nothing of MCP servers.'])
  assert.match(limitsInWords({ resources: Array.from({ length: 30 }, (_, i) => `mcp/s${i}`) })[0]!, /mcp\/s10 and 19 more\.$/)
  assert.deepEqual(limitsInWords({}), [])
})

test('rule 7: a consent never gives more than the person has, whatever it says', () => {
  fc.assert(
    fc.property(documents, link, link, limits, call, now, (all, person, agent, left, asked, time) => {
      const all_ = compilePolicy(all, vocabularies)
      const chain = [person, { ...agent, limits: left }]
      assertNotLooser(decide(all_, questionOf(chain, asked, time)), decide(all_, questionOf([person], asked, time)))
    }),
    runs,
  )
})

test('rule 7: handing on, and handing that on, never gives more, and is never visible where the chain before saw nothing', () => {
  fc.assert(
    fc.property(
      documents,
      links,
      fc.array(fc.tuple(link, limits), { minLength: 1, maxLength: 3 }),
      call,
      now,
      (all, chain, exchanges, asked, time) => {
        const of = compilePolicy(all, vocabularies)
        let before = chain
        for (const [to, left] of exchanges) {
          const after = [...before, { ...to, limits: left }]
          const [wide, tight] = [decide(of, questionOf(before, asked, time)), decide(of, questionOf(after, asked, time))]
          assertNotLooser(tight, wide)
          assert.ok(wide.visible || !tight.visible)
          before = after
        }
      },
    ),
    runs,
  )
})

test('rule 7: a narrower limit never allows more, at any link, with grants on any', () => {
  fc.assert(
    fc.property(
      documents,
      links,
      limits,
      fc.nat(2),
      fc.array(grant, { maxLength: 2 }),
      fc.nat(2),
      call,
      now,
      (all, chain, more, at, given, of, asked, time) => {
        const compiled = compilePolicy(all, vocabularies)
        const held = granted(chain, of, given)
        const narrowed = held.map((each, i) => (i === at % held.length ? { ...each, limits: limitsInside(each.limits ?? {}, more) } : each))
        const [wide, tight] = [decide(compiled, questionOf(held, asked, time)), decide(compiled, questionOf(narrowed, asked, time))]
        assert.ok(TIGHTNESS[tight.verdict] >= TIGHTNESS[wide.verdict], `${wide.verdict} became ${tight.verdict}`)
        assert.ok(wide.visible || !tight.visible)
      },
    ),
    runs,
  )
})

test('rule 7: a profile and what is asked for beside it leave no more than either of them', () => {
  fc.assert(
    fc.property(documents, links, link, limits, limits, call, now, (all, chain, to, profile, flags, asked, time) => {
      const compiled = compilePolicy(all, vocabularies)
      const verdict = (left: Limits) => decide(compiled, questionOf([...chain, { ...to, limits: left }], asked, time))
      const both = verdict(limitsInside(profile, flags))
      for (const one of [profile, flags]) assert.ok(TIGHTNESS[both.verdict] >= TIGHTNESS[verdict(one).verdict])
    }),
    runs,
  )
})

test('the halves of a tool are held against each other, as they are when it is called', () => {
  assert.deepEqual(limitsInside({ tools: ['a*/t'] }, { tools: ['ab/c/t', 'ab/t'] }), { tools: ['ab/t'] })
  assert.deepEqual(limitsInside({ resources: ['mcp/*'] }, { resources: ['mcp/files', 'postgres/x', '*'] }), { resources: ['mcp/files', 'mcp/*'] })
  assert.deepEqual(limitsInside({ where: 'args.a || args.b' }, { where: 'args.c' }), { where: '(args.a || args.b) && (args.c)' })
})

test('rule 7: no grant gets past the limits of any link', () => {
  fc.assert(
    fc.property(documents, links, fc.array(grant, { minLength: 1, maxLength: 3 }), fc.nat(2), call, now, (all, chain, given, at, asked, time) => {
      const question = questionOf(granted(chain, at, given), asked, time)
      const outside = chain.some(
        ({ limits: left }) =>
          left && narrowingOf({ ...left, where: undefined } as never).excludes(question.action, toolVocabulary, () => assert.fail()),
      )
      if (outside) assert.equal(decide(compilePolicy(all, vocabularies), question).verdict, 'deny')
    }),
    runs,
  )
})

test('rule 8: a resource that the limits do not leave is refused with the words for one that does not exist', () => {
  fc.assert(
    fc.property(documents, links, link, limits, call, now, (all, chain, to, left, asked, time) => {
      const question = questionOf([...chain, { ...to, limits: left }], asked, time)
      if (narrowingOf(left).reaches(question.action.resource, toolVocabulary)) return
      const decision = decide(compilePolicy(all, vocabularies), question)
      assert.equal(decision.visible, false)
      assert.equal(decision.message, NOT_VISIBLE)
      assert.equal(decision.hint, undefined)
    }),
    runs,
  )
})

test('a list shows whatever some call of it would allow: limits hide nothing that may be used', () => {
  fc.assert(
    fc.property(documents, links, call, now, (all, chain, asked, time) => {
      const compiled = compilePolicy({ ...all, guardrails: [] }, vocabularies)
      const free = chain.map(({ limits: _, ...each }) => each)
      const [bare, limited] = [
        decide(compiled, questionOf(free, { ...asked, partial: true }, time)),
        decide(compiled, questionOf(chain, asked, time)),
      ]
      if (bare.verdict !== 'allow' || limited.verdict !== 'allow') return
      assert.notEqual(decide(compiled, questionOf(chain, { ...asked, partial: true }, time)).reason, 'delegation_exceeded')
    }),
    runs,
  )
})
