import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { parse } from 'yaml'
import { compilePolicy, type PolicyDocuments } from './compile.ts'
import { decide } from './decide.ts'
import { proposeRule, type Wish } from './propose.ts'
import type { Question, Vocabulary } from './types.ts'
import { type Call, doorVocabulary, identityOf, questionOf, toolVocabulary } from './vocabulary.fixture.ts'

const proposing: Vocabulary = {
  ...toolVocabulary,
  propose: ({ facts, effects }) => [{ tools: [facts.tool], can: [...effects] }, { tools: [facts.tool] }],
}
const vocabularies = [proposing, doorVocabulary]

const role = (name: string, spec: unknown) => ({ name, spec })
const readers = role('readers', { allow: [{ tool: 'files', tools: ['read_*'] }] })
const holding = (...roles: readonly string[]) => [{ identity: identityOf('dana', { roles }) }]

function propose(documents: Partial<PolicyDocuments>, links: Question['links'], call: Call, wish: Wish) {
  return proposeRule({ roles: [], guardrails: [], ...documents }, vocabularies, questionOf(links, call), wish)
}

describe('a rule drafted from an action', () => {
  it('refuses what a role allowed, in that role', () => {
    const { now, draft, withDraft, message } = propose({ roles: [readers] }, holding('readers'), { tool: 'read_file' }, { want: 'deny' })
    assert.equal(now.verdict, 'allow')
    assert.deepEqual([draft?.document, draft?.section, draft?.isNew, draft?.givenTo], ['readers', 'deny', false, []])
    assert.deepEqual(draft?.rule, { tool: 'files', tools: ['read_file'], can: ['read'] })
    assert.equal(withDraft?.reason, 'denied_by_rule')
    assert.match(message, /^With this rule in role readers, it would have been refused\.$/)
  })

  it('refuses it to everybody, when a guardrail is asked for', () => {
    const { draft, withDraft } = propose({ roles: [readers] }, holding('readers'), {}, { want: 'deny', guardrail: 'no-files' })
    assert.deepEqual([draft?.kind, draft?.document], ['guardrail', 'no-files'])
    assert.equal(withDraft?.reason, 'denied_by_guardrail')
  })

  it('allows what no rule allowed, in the role that speaks of the resource already', () => {
    const { draft, withDraft } = propose({ roles: [readers] }, holding('readers'), { tool: 'write_file', effects: ['write'] }, { want: 'allow' })
    assert.deepEqual([draft?.document, draft?.section, draft?.isNew], ['readers', 'allow', false])
    assert.equal(withDraft?.verdict, 'allow')
  })

  it('drafts a new role, and says to whom it must be given, where no role speaks of the resource', () => {
    const { draft, message } = propose({ roles: [readers] }, holding('readers'), { on: 'mail', tool: 'send' }, { want: 'allow' })
    assert.deepEqual([draft?.document, draft?.isNew, draft?.givenTo], ['dana-mail', true, ['dana']])
    assert.match(message, /in a new role dana-mail, given to dana, it would have been allowed/)
  })

  it('gives the role to every link of the chain that lacks it', () => {
    const links = [{ identity: identityOf('dana', { roles: ['readers'] }) }, { identity: identityOf('bot', { roles: [] }) }]
    const both = propose({ roles: [readers] }, links, { on: 'mail' }, { want: 'allow' })
    assert.deepEqual(both.draft?.givenTo, ['dana', 'bot'])
    const one = propose({ roles: [readers] }, links, { tool: 'read_file' }, { want: 'allow' })
    assert.deepEqual(one.draft?.givenTo, ['bot'])
  })

  it('says that nothing helps where a delegation leaves every other role out', () => {
    const links = [{ identity: identityOf('dana', { roles: [] }), limits: { roles: [] } }]
    const { draft, message } = propose({ roles: [readers] }, links, {}, { want: 'allow' })
    assert.equal(draft, undefined)
    assert.match(message, /No rule was found that would allow it\. Still: /)
  })

  it('goes into another role where the ask beside it would win', () => {
    const asking = role('asking', { ask: [{ tool: 'files', tools: 'any' }] })
    const { draft } = propose({ roles: [asking] }, holding('asking'), {}, { want: 'allow' })
    assert.deepEqual([draft?.document, draft?.givenTo], ['dana-files', ['dana']])
  })

  for (const [what, documents, call, want, message] of [
    [
      'a guardrail refuses it',
      { roles: [readers], guardrails: [role('stop', { deny: [{ tool: 'files' }] })] },
      {},
      'allow',
      /No role can allow it: guardrail stop, deny rule 1/,
    ],
    [
      'a guardrail asks',
      { roles: [readers], guardrails: [role('slow', { ask: [{ tool: 'files' }] })] },
      {},
      'allow',
      /No role can lift it: guardrail slow/,
    ],
    [
      'a role refuses it',
      { roles: [role('readers', { deny: [{ tool: 'files' }] })] },
      {},
      'allow',
      /A further rule cannot allow it: role readers, deny rule 1/,
    ],
    ['its meaning is not sure', { roles: [readers] }, { unclear: 'who knows' }, 'allow', /No rule can allow it, because .*: who knows\./],
    ['it is allowed already', { roles: [readers] }, {}, 'allow', /allowed already, by role readers, allow rule 1/],
    ['it is refused already', { roles: [readers] }, { tool: 'write' }, 'deny', /refused already: no rule allows it/],
    ['nothing speaks its kind', {}, { kind: 'boat' }, 'allow', /Nothing here speaks boat/],
  ] as const)
    it(`is none, with the reason, where ${what}`, () => {
      const proposal = propose(documents, holding('readers'), call, { want })
      assert.equal(proposal.draft, undefined)
      assert.match(proposal.message, message)
    })

  it('does what it says when it is applied, whatever the roles and the action', () => {
    const tools = fc.constantFrom('read_file', 'write_file', 'send')
    const rule = fc.record({
      tool: fc.constantFrom('files', 'mail', 'any'),
      tools: fc.subarray(['read_file', 'write_file', 'read_*'], { minLength: 1 }),
    })
    const spec = fc.record({ allow: fc.array(rule, { maxLength: 2 }), ask: fc.array(rule, { maxLength: 1 }), deny: fc.array(rule, { maxLength: 1 }) })
    fc.assert(
      fc.property(spec, spec, tools, fc.constantFrom('files', 'mail'), fc.constantFrom('allow' as const, 'deny' as const), (a, b, tool, on, want) => {
        const documents = { roles: [role('a', a), role('b', b)], guardrails: [] }
        const links = [{ identity: identityOf('dana', { roles: ['a', 'b'] }) }, { identity: identityOf('bot', { roles: ['a'] }) }]
        const question = questionOf(links, { tool, on })
        const { draft, withDraft } = proposeRule(documents, vocabularies, question, { want })
        if (!draft) return
        assert.equal(withDraft?.verdict, want)
        const [written] = parse(draft.yaml) as [unknown]
        const before = (documents.roles.find(({ name }) => name === draft.document)?.spec ?? {}) as Record<string, unknown[]>
        const spec = { ...before, [want]: [...(before[want] ?? []), written] }
        const roles = [...documents.roles.filter(({ name }) => name !== draft.document), { name: draft.document, spec }]
        const given = links.map(({ identity }) => ({
          identity: { ...identity, roles: draft.givenTo.includes(identity.name) ? [...identity.roles, draft.document] : identity.roles },
        }))
        assert.equal(decide(compilePolicy({ roles, guardrails: [] }, vocabularies), { ...question, links: given }).verdict, want)
      }),
      { numRuns: 200 },
    )
  })
})
