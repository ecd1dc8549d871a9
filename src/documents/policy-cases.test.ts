import assert from 'node:assert/strict'
import { test } from 'node:test'
import { administer, chaperoneResource, chaperoneVocabulary, PRESETS, type Verb } from '../access/administration.ts'
import { describeCall } from '../gateways/mcp/describe.ts'
import { mcpVocabulary } from '../gateways/mcp/rules.ts'
import { documentKinds } from './kinds.ts'
import { type CaseParts, runCases } from './policy-cases.ts'
import { readDocuments } from './read.ts'

const vocabularies = [chaperoneVocabulary, mcpVocabulary]
const parts: CaseParts = {
  vocabularies,
  presets: PRESETS,
  async describe(done, found) {
    if ('chaperone' in done) return administer(chaperoneResource('chaperone'), done.chaperone as Verb, done.chaperone)
    if (!('mcp' in done)) throw new Error('not in these tests')
    return describeCall({ resource: found!.resource, spec: found!.spec as never, tool: done.tool, args: done.args ?? {} })
  },
}
const WORLD = `
kind: mcp
name: files
labels: { env: prod }
spec: { command: [x], tools: { read: { effects: [read] } } }
---
kind: role
name: analyst
spec:
  when: { hours: "08:00-18:00", zone: UTC }
  allow: [{ mcp: { labels: { env: prod } }, can: read }]
  deny: [{ mcp: files, tools: [read], args: { path: { under: /secret } }, shadow: true }]
---
kind: role
name: writer
spec: { allow: [{ mcp: files, tools: any }] }
---
kind: guardrail
name: careful
spec: { for: { kind: agent }, ask: [{ mcp: files, tools: [write] }] }
---
kind: user
name: boris
spec: { roles: [analyst] }
---
kind: agent
name: bot
spec: { owner: boris, roles: [writer] }
`
const run = (cases: string) => {
  const { documents, problems } = readDocuments([{ path: 'world.yaml', text: WORLD }], documentKinds(vocabularies))
  assert.deepEqual(problems, [])
  return runCases(parts, documents, [{ path: 'cases.yaml', text: cases }])
}

test('cases that hold, over identities of documents, of the file, clients of a person and chains', async () => {
  const results = await run(`
who: { kim: { roles: [writer], traits: { team: red } }, ann: { roles: [admin] } }
cases:
  - { say: by effect, as: boris, do: { mcp: files, tool: read }, expect: allow, rule: "role analyst, allow rule 1" }
  - { say: nothing else, as: boris, do: { mcp: files, tool: write }, expect: deny }
  - { say: by reason, as: boris, do: { mcp: files, tool: write }, expect: no_rule, rule: no rule }
  - { say: at night, as: boris, do: { mcp: files, tool: read }, at: "2026-11-23T22:00:00Z", expect: no_rule }
  - { say: a client of his, as: boris/claude-code, do: { mcp: files, tool: read }, expect: allow }
  - { say: a chain, as: boris > bot, do: { mcp: files, tool: write }, expect: delegation_exceeded }
  - { say: a guardrail, as: kim > bot, do: { mcp: files, tool: write }, expect: ask, rule: "guardrail careful, ask rule 1" }
  - { say: granted for a while, as: boris, do: { mcp: files, tool: write }, granted: [writer], expect: allow }
  - { say: a rule on trial, as: boris, do: { mcp: files, tool: read, args: { path: /secret/a } }, expect: allow, shadow: "deny: role analyst, deny rule 1" }
  - { say: none, as: boris, do: { mcp: files, tool: read }, expect: allow, shadow: none }
  - { say: a verb of a preset, as: ann, do: { chaperone: lock }, expect: allow }
`)
  assert.deepEqual(
    results.filter(({ holds }) => !holds),
    [],
  )
  assert.equal(results.length, 11)
})

test('a case that does not hold says where it stands, what was expected, and what is', async () => {
  const [wrong, nobody, nothing, never] = await run(`cases:
  - say: analysts write
    as: boris
    do: { mcp: files, tool: write }
    expect: allow
    rule: role analyst, allow rule 2
  - { say: x, as: carla, do: { mcp: files, tool: write }, expect: allow }
  - { say: y, as: boris, do: { mcp: fils, tool: write }, expect: deny }
  - { say: z, as: boris, do: { mcp: files, tool: write }, expect: maybe }
`)
  assert.deepEqual([wrong?.file, wrong?.line, wrong?.what], ['cases.yaml', 2, 'tools/call write on mcp/files'])
  assert.deepEqual(wrong?.differences, [
    { of: 'verdict', expected: 'allow', is: 'deny' },
    { of: 'rule', expected: 'role analyst, allow rule 2', is: 'no rule' },
  ])
  // Nothing that cannot be judged counts as the deny that somebody expected.
  assert.deepEqual([nobody?.message, nobody?.line], ['Nobody knows carla.', 7])
  assert.deepEqual([nothing?.holds, nothing?.message], [false, 'There is no mcp resource of that name among the files.'])
  assert.match(never?.message ?? '', /neither allow, ask, deny nor a reason code/)
})

test('files that hold no cases are refused, with what a file holds', async () => {
  for (const [text, message] of [
    ['cases: []', /cases: /],
    ['case: 1', /cases/],
    ['cases: [', /cases\.yaml: /],
    ['cases: [{ say: x, as: y, do: { mcp: files }, expect: allow }]', /cases\.0\.do/],
    ['a: &a [x]\ncases: *a', /./],
  ] as const)
    await assert.rejects(run(text), { code: 'usage', message }, text)
})
