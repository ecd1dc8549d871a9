import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compilePolicy } from './compile.ts'
import { explain } from './explain.ts'
import type { Link } from './types.ts'
import { type Call, identityOf, MONDAY_10, questionOf, vocabularies } from './vocabulary.fixture.ts'

const policy = compilePolicy(
  {
    roles: [
      {
        name: 'reader',
        spec: {
          allow: [
            { tool: 'files', tools: 'read_*', args: { path: { under: '/reports' } } },
            { tool: 'data', tools: 'query', where: 'args.rows < 10' },
          ],
        },
      },
      { name: 'night', spec: { when: { hours: '22:00-06:00', zone: 'UTC' }, allow: [{ tool: 'files', tools: 'write_file' }] } },
      { name: 'careful', spec: { deny: [{ tool: 'files', tools: 'drop' }], ask: [{ tool: 'files', tools: 'move' }] } },
    ],
    guardrails: [{ name: 'agents', spec: { for: { kind: 'agent' }, deny: [{ tool: 'any', tools: 'read_keys' }] } }],
  },
  vocabularies,
)
const boris = { identity: identityOf('boris', { roles: ['reader', 'night', 'careful', 'gone'] }) }
const bot = { identity: identityOf('bot', { kind: 'agent', roles: ['reader', 'careful'] }), limits: { roles: ['reader'] } }
const ask = (call: Call, links: readonly Link[] = [boris]) => explain(policy, questionOf(links, call))

test('explain: an allow shows the rule that gave it', () => {
  const said = ask({ tool: 'read_file', args: { path: '/reports/a' } })
  assert.equal(said.decision.verdict, 'allow')
  assert.equal(said.missing, undefined)
  assert.match(said.ruleText ?? '', /^- tool: files\n {2}tools: read_\*\n/)
})

test('explain: the rule that came nearest is named with the part that does not fit', () => {
  const said = ask({ tool: 'read_file', args: { path: '/etc/passwd' } })
  assert.equal(said.missing, 'role reader, allow rule 1 comes nearest, but `args` does not fit this action.')
  assert.match(said.ruleText ?? '', /under: \/reports/)
  assert.match(ask({ tool: 'query', on: 'data', args: {} }).missing ?? '', /its `where` fails on this action/)
  assert.match(ask({ tool: 'query', on: 'data', args: { rows: 11 } }).missing ?? '', /its `where` does not fit/)
})

test('explain: what refuses, what asks, and what has other hours', () => {
  assert.match(ask({ tool: 'drop' }).missing ?? '', /role careful, deny rule 1 refuses it; as long as it does, no other role can allow it/)
  assert.match(ask({ tool: 'move' }).missing ?? '', /wants a human to say yes/)
  assert.match(ask({ tool: 'write_file' }).missing ?? '', /Role night would give it, but these are not its hours/)
  assert.match(ask({ tool: 'read_keys', args: { path: '/reports/k' } }, [boris, bot]).missing ?? '', /no role can allow it/)
})

test('explain: nothing about the resource at all gives the beginning of a rule', () => {
  const said = ask({ tool: 'x', on: 'vault' })
  assert.match(said.missing ?? '', /No rule of boris's roles gives anything on tool vault \(night: outside its hours, gone: does not exist\)/)
  assert.equal(said.ruleText, '- tool: vault\n  tools:\n    - ...')
})

test('explain: every link, role and rule is there with what it said', () => {
  const said = ask({ tool: 'move' }, [boris, bot])
  assert.deepEqual(
    said.links.map((link) => [link.name, link.verdict, link.reason, link.roles.map((role) => `${role.name}: ${role.state}`)]),
    [
      ['boris', 'ask', 'approval_required', ['reader: counts', 'night: outside its hours', 'careful: counts', 'gone: does not exist']],
      ['bot', 'deny', 'delegation_exceeded', ['reader: counts', 'careful: left out by the delegation']],
    ],
  )
  assert.deepEqual(
    said.links[0]!.roles[0]!.rules.map((rule) => [rule.title, rule.said, rule.part]),
    [
      ['role reader, allow rule 1', 'does not match', 'tools'],
      ['role reader, allow rule 2', 'does not match', 'resource'],
    ],
  )
  assert.deepEqual(
    said.links[0]!.guardrails.map((rule) => rule.part),
    ['for'],
  )
})

test('explain: the grant that allowed it, and every granted role with what became of it', () => {
  const until = MONDAY_10 + 60_000
  const grants = [
    { role: 'careful', request: 'req_1', until: MONDAY_10 },
    { role: 'reader', request: 'req_2', until, resourceId: 'res_data' },
    { role: 'reader', request: 'req_3', until },
  ]
  const said = ask({ tool: 'read_file', args: { path: '/reports/a' } }, [{ identity: identityOf('kim'), grants }])
  assert.deepEqual(said.grant, { request: 'req_3', role: 'reader', link: 'kim', until })
  assert.deepEqual(
    said.links[0]!.roles.map(({ name, state, grant }) => `${name} ${grant?.request}: ${state}`),
    ['careful req_1: over', 'reader req_2: given for another resource', 'reader req_3: counts'],
  )
  const own = ask({ tool: 'read_file', args: { path: '/reports/a' } }, [{ ...boris, grants }])
  assert.equal(own.grant, undefined)
})

test('explain: rules in shadow mode are listed, and never come nearest', () => {
  const spec = { allow: [{ tool: 'files', tools: 'read' }], ask: [{ tool: 'files', tools: 'write', args: { n: 1 }, shadow: true }] }
  const shadowed = compilePolicy({ roles: [{ name: 'trial', spec }], guardrails: [] }, vocabularies)
  const said = explain(shadowed, questionOf([{ identity: identityOf('kim', { roles: ['trial'] }) }], { tool: 'write' }))
  assert.deepEqual(
    said.links[0]!.roles[0]!.rules.map((rule) => [rule.title, rule.said, rule.shadow]),
    [
      ['role trial, allow rule 1', 'does not match', undefined],
      ['role trial, ask rule 1', 'does not match', true],
    ],
  )
  assert.match(said.missing ?? '', /role trial, allow rule 1 comes nearest/)
})

test('explain: what cannot be judged says so', () => {
  assert.match(ask({ unclear: 'it is not SQL' }).missing ?? '', /it is not SQL/)
  assert.match(ask({ kind: 'telnet' }).missing ?? '', /Nothing here speaks telnet/)
  assert.equal(explain(policy, { ...questionOf([boris], {}), links: [] }).decision.reason, 'policy_error')
})
