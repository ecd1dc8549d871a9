import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { assertNotLooser, call, denying, documents, grant, granted, guardrail, link, links, now, runs, TIGHTNESS } from './arbitraries.fixture.ts'
import { compilePolicy, type PolicyDocuments } from './compile.ts'
import { decide } from './decide.ts'
import type { Decision } from './types.ts'
import { identityOf, questionOf, vocabularies } from './vocabulary.fixture.ts'

test('rule 1: a deny rule added to a role never allows more', () => {
  fc.assert(
    fc.property(documents, fc.nat(2), denying, links, call, now, (before, at, rule, chain, asked, time) => {
      const roles = before.roles.map((each, i) => {
        const spec = each.spec as { deny?: object[] }
        return i === at % before.roles.length ? { ...each, spec: { ...spec, deny: [...(spec.deny ?? []), rule] } } : each
      })
      const question = questionOf(chain, asked, time)
      const loose = decide(compilePolicy(before, vocabularies), question)
      const tight = decide(compilePolicy({ ...before, roles }, vocabularies), question)
      assert.ok(TIGHTNESS[tight.verdict] >= TIGHTNESS[loose.verdict])
    }),
    runs,
  )
})

test('rule 7: a longer chain never allows more', () => {
  fc.assert(
    fc.property(documents, links, link, call, now, fc.nat(3), (all, chain, more, asked, time, at) => {
      const policy = compilePolicy(all, vocabularies)
      assertNotLooser(decide(policy, questionOf(chain.toSpliced(at, 0, more), asked, time)), decide(policy, questionOf(chain, asked, time)))
    }),
    runs,
  )
})

test('rule 7: leaving out roles never allows more, also those that deny', () => {
  fc.assert(
    fc.property(documents, links, call, now, (all, chain, asked, time) => {
      const policy = compilePolicy(all, vocabularies)
      const narrowed = chain.map((each) => ({ ...each, limits: { ...each.limits, roles: (each.limits?.roles ?? each.identity.roles).slice(1) } }))
      const loose = decide(policy, questionOf(chain, asked, time))
      assert.ok(TIGHTNESS[decide(policy, questionOf(narrowed, asked, time)).verdict] >= TIGHTNESS[loose.verdict])
    }),
    runs,
  )
})

test('a grant never takes away: no verdict, no row, no minute', () => {
  fc.assert(
    fc.property(documents, links, call, now, fc.nat(2), fc.array(grant, { minLength: 1, maxLength: 3 }), (all, chain, asked, time, at, more) => {
      const policy = compilePolicy(all, vocabularies)
      const before = decide(policy, questionOf(chain, asked, time))
      const after = decide(policy, questionOf(granted(chain, at, more), asked, time))
      if (after.verdict === before.verdict && after.grant !== undefined) {
        // The same verdict on a grant only where it demands less; then it lasts as long as the grant.
        assertNotLooser({ ...before, until: undefined } as Decision, { ...after, until: undefined } as Decision)
      } else if (after.grant === undefined) assert.deepEqual(loosely(after), loosely(before))
      else assert.ok(TIGHTNESS[after.verdict] < TIGHTNESS[before.verdict])
    }),
    runs,
  )
})

/** Without what only explains. */
const loosely = ({ verdict, rule, obligations, until, asks }: Decision) => ({
  verdict,
  rule: verdict === 'deny' ? undefined : rule,
  obligations,
  until,
  asks,
})

test('rule 7: what rests on a grant ends with it, and a grant that is over, of a role left out or on another resource counts for nothing', () => {
  fc.assert(
    fc.property(documents, links, call, now, fc.nat(2), grant, (all, chain, asked, time, at, one) => {
      const policy = compilePolicy(all, vocabularies)
      const question = questionOf(granted(chain, at, [one]), asked, time)
      const decision = decide(policy, question)
      const holder = chain[at % chain.length]!
      const idle =
        one.until <= time ||
        (one.resourceId !== undefined && one.resourceId !== question.action.resource.id) ||
        holder.limits?.roles?.includes(one.role) === false
      if (idle) assert.deepEqual(loosely(decision), loosely(decide(policy, questionOf(chain, asked, time))))
      if (decision.grant === undefined) return
      assert.equal(decision.grant, one.request)
      assert.ok(decision.until !== undefined && decision.until <= one.until)
    }),
    runs,
  )
})

test('rule 7: a grant gives no more than holding the role would, to that link alone', () => {
  fc.assert(
    fc.property(documents, links, call, now, fc.nat(2), grant, (all, chain, asked, time, at, one) => {
      // Guardrails may let holders of a role through: here none reads roles but to hold them.
      const policy = compilePolicy(
        { roles: all.roles.map(({ name, spec }) => ({ name, spec: { ...(spec as object), deny: [] } })), guardrails: [] },
        vocabularies,
      )
      const with_ = decide(policy, questionOf(granted(chain, at, [one]), asked, time))
      const holding = chain.map((each, i) =>
        i === at % chain.length ? { ...each, identity: { ...each.identity, roles: [...each.identity.roles, one.role] } } : each,
      )
      assert.ok(TIGHTNESS[with_.verdict] >= TIGHTNESS[decide(policy, questionOf(holding, asked, time)).verdict])
      // Links are judged one by one: the others say what they said.
      const others = chain.filter((_, i) => i !== at % chain.length)
      if (others.length > 0) assert.ok(TIGHTNESS[with_.verdict] >= TIGHTNESS[decide(policy, questionOf(others, asked, time)).verdict])
    }),
    runs,
  )
})

test('rule 7: an ask asks something, of every link that asks by itself, and the verdict of a chain with a denying link asks nothing', () => {
  fc.assert(
    fc.property(documents, links, call, now, (all, chain, asked, time) => {
      const policy = compilePolicy(all, vocabularies)
      const decision = decide(policy, questionOf(chain, asked, time))
      assert.equal((decision.asks?.length ?? 0) > 0, decision.verdict === 'ask')
      if (decision.verdict !== 'ask') return
      const alone = chain.flatMap((each) => decide(policy, questionOf([each], asked, time)).asks ?? [])
      assert.deepEqual(decision.asks, alone)
    }),
    runs,
  )
})

test('a rule in shadow mode decides nothing, and what it would have done is what it does without the word', () => {
  fc.assert(
    fc.property(documents, links, call, now, fc.nat(2), denying, fc.constantFrom('deny', 'ask'), (before, chain, asked, time, at, rule, section) => {
      const withRule = (extra: object) =>
        compilePolicy(
          {
            ...before,
            roles: before.roles.map((each, i) => {
              const spec = each.spec as Record<string, object[]>
              return i === at % before.roles.length
                ? { ...each, spec: { ...spec, [section]: [...(spec[section] ?? []), { ...rule, ...extra }] } }
                : each
            }),
          },
          vocabularies,
        )
      const question = questionOf(chain, asked, time)
      const without = decide(compilePolicy(before, vocabularies), question)
      const { shadow, ...shadowed } = decide(withRule({ shadow: true }), question)
      assert.deepEqual(shadowed, without)
      const enforced = decide(withRule({}), question)
      assert.equal(shadow !== undefined, TIGHTNESS[enforced.verdict] > TIGHTNESS[without.verdict])
      if (shadow) assert.equal(shadow.verdict, enforced.verdict)
    }),
    runs,
  )
})

test('a guardrail never allows more', () => {
  fc.assert(
    fc.property(documents, guardrail, links, call, now, (before, added, chain, asked, time) => {
      const after = { ...before, guardrails: [...before.guardrails, { name: 'added', spec: added }] }
      const question = questionOf(chain, asked, time)
      assertNotLooser(decide(compilePolicy(after, vocabularies), question), decide(compilePolicy(before, vocabularies), question))
    }),
    runs,
  )
})

test('the order of roles, of rules and of documents does not matter', () => {
  const seen = ({ verdict, reason, rule, link: who, obligations, until, visible }: Decision) => ({
    verdict,
    reason,
    document: rule?.document,
    who,
    obligations: sorted(obligations),
    until,
    visible,
  })
  const sorted = (obligations: Decision['obligations']) =>
    Object.fromEntries(Object.entries(obligations).map(([key, each]) => [key, Array.isArray(each) ? each.toSorted() : each]))
  fc.assert(
    fc.property(documents, links, call, now, (all, chain, asked, time) => {
      const turned = <T extends { spec: unknown }>({ spec, ...rest }: T) => ({
        ...rest,
        spec: Object.fromEntries(Object.entries(spec as object).map(([key, each]) => [key, Array.isArray(each) ? each.toReversed() : each])),
      })
      const other = { roles: all.roles.map(turned).toReversed(), guardrails: all.guardrails.map(turned).toReversed() } as unknown as PolicyDocuments
      const otherChain = chain.map((each) => ({ ...each, identity: { ...each.identity, roles: each.identity.roles.toReversed() } }))
      const one = decide(compilePolicy(all, vocabularies), questionOf(chain, asked, time))
      const two = decide(compilePolicy(other, vocabularies), questionOf(otherChain, asked, time))
      assert.deepEqual(seen(two), seen(one))
    }),
    runs,
  )
})

test('rule 1: an error never allows: a rule that fails leaves nothing looser than it is without that rule', () => {
  const failing = 'args.missing.deeper == 1'
  fc.assert(
    fc.property(documents, links, call, now, fc.constantFrom('allow', 'ask', 'deny'), fc.nat(2), (before, chain, asked, time, section, at) => {
      // The same policy, where one more rule over everything always fails. Compared with the policy without that rule.
      const broken = { tool: 'any', tools: 'any', where: failing }
      const roles = before.roles.map((each, i) => {
        const spec = each.spec as Record<string, object[]>
        return i === at % before.roles.length ? { ...each, spec: { ...spec, [section]: [...(spec[section] ?? []), broken] } } : each
      })
      const question = questionOf(chain, asked, time)
      const without = decide(compilePolicy(before, vocabularies), question)
      const withError = decide(compilePolicy({ ...before, roles }, vocabularies), question)
      assert.ok(TIGHTNESS[withError.verdict] >= TIGHTNESS[without.verdict])
      // In allow it is as if the rule were not there.
      if (section === 'allow') assert.equal(withError.verdict, without.verdict)
    }),
    runs,
  )
})

test('rule 1: what throws inside a vocabulary or a merge is a refusal, never an allow', () => {
  const boom = () => {
    throw new Error('boom')
  }
  const [tools] = vocabularies
  const broken = { ...tools!, obligations: { max_rows: { least: boom, most: boom }, mask: { least: boom, most: boom } } }
  const spec = { allow: [{ tool: 'any', tools: 'any', max_rows: 1 }] }
  const policy = compilePolicy({ roles: ['r0', 'r1'].map((name) => ({ name, spec })), guardrails: [] }, [broken])
  const decision = decide(policy, questionOf([{ identity: identityOf('a', { roles: ['r0', 'r1'] }) }], {}))
  assert.equal(decision.reason, 'policy_error')
  assert.match(decision.detail ?? '', /boom/)
  assert.doesNotMatch(decision.message, /boom/)

  const throwing = { ...tools!, compile: () => boom }
  const silent = compilePolicy({ roles: [{ name: 'r0', spec }], guardrails: [] }, [throwing])
  assert.equal(decide(silent, questionOf([{ identity: identityOf('a', { roles: ['r0'] }) }], {})).reason, 'no_rule')
})

test('rule 1: a question that makes no sense is refused', () => {
  const policy = compilePolicy({ roles: [{ name: 'r0', spec: { allow: [{ tool: 'any', tools: 'any' }] } }], guardrails: [] }, vocabularies)
  const asked = questionOf([{ identity: identityOf('a', { roles: ['r0'] }) }], {})
  assert.equal(decide(policy, asked).verdict, 'allow')
  const action = asked.action
  const senseless: unknown[] = [
    { ...asked, links: [] },
    { ...asked, links: undefined },
    { ...asked, links: [{}] },
    { ...asked, action: undefined },
    { ...asked, action: { ...action, effects: [] } },
    { ...asked, action: { ...action, resource: { ...action.resource, kind: 'door' } } },
    undefined,
  ]
  for (const question of senseless) assert.equal(decide(policy, question as typeof asked).reason, 'policy_error')
})
