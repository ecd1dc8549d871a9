import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse } from 'yaml'
import { compilePolicy } from './compile.ts'
import { decide } from './decide.ts'
import { explain } from './explain.ts'
import { ruleTitle } from './rule-title.ts'
import type { GrantedRole, Identity, Link } from './types.ts'
import { type Call, identityOf, MONDAY_10, questionOf, vocabularies } from './vocabulary.fixture.ts'

interface Case {
  readonly say: string
  readonly as?: string
  readonly do: Call
  readonly at?: string
  readonly expect: string
  readonly rule?: string
  readonly link?: string
  readonly obligations?: unknown
  readonly until?: string
  readonly visible?: boolean
  readonly hint?: string
  readonly message?: string
  /** each as `rule @ link` */
  readonly asks?: readonly string[]
  readonly grant?: string
  /** `deny: rule`, or none */
  readonly shadow?: string
  /** each as `role @ link`, or `role @ link and below` */
  readonly ways?: readonly string[]
}
type Grant = Omit<GrantedRole, 'until'> & { readonly until?: string }
interface Group {
  readonly about: string
  readonly roles: Readonly<Record<string, unknown>>
  readonly guardrails?: Readonly<Record<string, unknown>>
  readonly who?: Readonly<Record<string, Partial<Identity> & { readonly only?: readonly string[]; readonly grants?: readonly Grant[] }>>
  readonly cases: readonly Case[]
}

const groups = parse(readFileSync(new URL('matrix.yaml', import.meta.url), 'utf8')) as readonly Group[]
const documents = (specs: Readonly<Record<string, unknown>> = {}) => Object.entries(specs).map(([name, spec]) => ({ name, spec }))

for (const group of groups) {
  const policy = compilePolicy({ roles: documents(group.roles), guardrails: documents(group.guardrails) }, vocabularies)
  const linkOf = (name: string): Link => {
    const known = group.who?.[name]
    assert.ok(known || name === 'boris', `${group.about}: who is ${name}?`)
    const { only, grants, ...more } = known ?? { roles: Object.keys(group.roles) }
    return {
      identity: identityOf(name, more),
      ...(only === undefined ? {} : { limits: { roles: only } }),
      ...(grants === undefined ? {} : { grants: grants.map((each) => ({ ...each, until: Date.parse(each.until ?? '2026-11-23T11:00:00Z') })) }),
    }
  }
  for (const each of group.cases) {
    test(`${group.about}: ${each.say} (${each.expect})`, () => {
      const links = (each.as ?? 'boris').split(' > ').map(linkOf)
      const question = questionOf(links, each.do, each.at === undefined ? MONDAY_10 : Date.parse(each.at))
      const decision = decide(policy, question)
      const told = decision.verdict === 'deny' ? decision.reason : decision.verdict
      assert.equal(told, each.expect, JSON.stringify(decision))
      assert.equal(decision.verdict === 'allow' || decision.verdict === 'ask' ? decision.visible : true, true)
      if (each.rule !== undefined) assert.equal(decision.rule && ruleTitle(decision.rule), each.rule)
      if (each.link !== undefined) assert.equal(decision.link, each.link)
      if (each.obligations !== undefined) assert.deepEqual(decision.obligations, each.obligations)
      if (each.until !== undefined) assert.equal(decision.until, each.until === 'never' ? undefined : Date.parse(each.until))
      if (each.visible !== undefined) assert.equal(decision.visible, each.visible)
      if (each.hint !== undefined) assert.equal(decision.hint, each.hint === 'none' ? undefined : each.hint)
      if (each.message !== undefined) assert.equal(decision.message, each.message)
      const at = (link: string) => link.replace('usr_', '')
      if (decision.verdict === 'ask') assert.notEqual(decision.asks?.length ?? 0, 0, 'an ask without a question')
      if (each.asks !== undefined)
        assert.deepEqual(
          decision.asks?.map(({ rule, link }) => `${ruleTitle(rule)} @ ${at(link)}`),
          each.asks,
        )
      assert.equal(decision.grant, each.grant, 'grant')
      const shadow = decision.shadow && `${decision.shadow.verdict}: ${ruleTitle(decision.shadow.rule)}`
      assert.equal(shadow, each.shadow, 'shadow')
      const ways = decision.ways?.map(({ role, link, below }) => `${role} @ ${at(link)}${below ? ' and below' : ''}`)
      if (each.ways !== undefined) assert.deepEqual(ways ?? [], each.ways)
      const explained = explain(policy, question)
      assert.deepEqual(explained.decision, decision)
      assert.equal(explained.missing === undefined, decision.verdict === 'allow')
    })
  }
}

test('the matrix is not cut short', () => {
  assert.ok(groups.flatMap((group) => group.cases).length >= 80)
})
