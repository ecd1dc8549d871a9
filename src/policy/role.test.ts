import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { compilePolicy } from './compile.ts'
import { checkGuardrail, guardrailSchema } from './guardrail.ts'
import { checkRole, roleSchema } from './role.ts'
import { vocabularies } from './vocabulary.fixture.ts'

/** Problems as `path: message (fix)`. */
function faults(checked: ReturnType<typeof checkRole> | ReturnType<typeof checkGuardrail>): string[] {
  return checked.ok ? [] : checked.problems.map(({ path, message, fix }) => `${path.join('.')}: ${message}${fix === undefined ? '' : ` (${fix})`}`)
}
const role = (spec: unknown) => faults(checkRole(spec, vocabularies))
const guardrail = (spec: unknown) => faults(checkGuardrail(spec, vocabularies))

test('a role with everything in it is valid', () => {
  const spec = {
    when: { days: ['mon', 'wed-fri'], hours: '08:00-18:00', zone: 'Europe/Berlin' },
    allow: [
      {
        tool: { labels: { env: 'prod', team: ['a', 'b'] }, name: 'x-*' },
        tools: ['read_*'],
        args: { path: { under: '/reports' }, n: { min: 1, max: 5 }, ok: true },
        mask: ['email'],
      },
      { door: 'any', open: 'any', where: 'resource.name != "vault"' },
    ],
    ask: [{ tool: 'files', tools: 'any', approvers: { role: ['dba', 'lead'] }, reason: 'required', max_rows: 5 }],
    deny: [{ tool: 'files', reason: 'not now' }],
    request: [{ role: 'admin', max: '30m', reason: 'required', approvers: 'owner' }],
  }
  assert.deepEqual(checkRole(spec, vocabularies), { ok: true, role: spec })
})

test('every problem of a role is found at once, with its place and a fix', () => {
  const spec = {
    wen: {},
    when: { days: 'mon-fry', zone: 'UTC' },
    allow: [
      { tool: 'files' },
      { toll: 'files', tools: 'any' },
      { tool: 'files', tols: ['x'], tools: 'any' },
      { tool: 'files', door: 'front', tools: 'any' },
      { tool: 'files', tools: 'any', where: 'args.x ==' },
      { tool: 'files', tools: '{{identity.nmae}}' },
      { tool: { lables: { env: 'x' } }, tools: 'any' },
      { tool: 'files', tools: 'any', approvers: 'owner' },
      'files',
    ],
    deny: [{ tool: '^a$', max_rows: 5 }],
    request: [{ role: 'admin', max: 'soon' }],
  }
  const { wen, ...rest } = spec
  assert.deepEqual(role({ wen }), ['wen: Unknown key `wen`. (Did you mean `when`?)'])
  const found = role(rest)
  const expected = [
    /^when: "mon-fry" is not a day/,
    /^request\.0\.max: "soon" is not a duration/,
    /^allow\.0: This allow rule does not say what may be done with tool\. \(Write tools or can; any means everything\.\)/,
    /^allow\.1: A rule names what it is about: one of tool, door\. \(Did you mean `tool`\?\)/,
    /^allow\.2\.tols: Unknown key `tols`\. \(Did you mean `tools`\?\)/,
    /^allow\.3\.door: A rule is about one kind/,
    /^allow\.4\.where: `where` is not valid/,
    /^allow\.5: .*identity\.nmae.* is unknown/,
    /^allow\.6\.tool\.lables: Unknown key `lables`\. \(Did you mean `labels`\?\)/,
    /^allow\.7\.approvers: Unknown key `approvers`/,
    /^allow\.8: A rule is a mapping/,
    /^deny\.0\.max_rows: `max_rows` has no meaning in a deny rule/,
    /^deny\.0\.tool: .*regular expressions are not read here/,
  ]
  for (const pattern of expected)
    assert.ok(
      found.some((line) => pattern.test(line)),
      `${pattern} in\n${found.join('\n')}`,
    )
  assert.equal(found.length, expected.length, found.join('\n'))
})

test('what is no role at all is said in one line', () => {
  for (const spec of [null, 'x', [], 5, undefined]) assert.equal(role(spec).length, 1)
  assert.match(role({ allow: 'x' })[0]!, /^allow: /)
  assert.match(role({ when: { days: 'mon' } })[0]!, /^when\.zone: /)
})

test('of a value with several forms the nearest is spoken of', () => {
  const args = (args: unknown) => role({ allow: [{ tool: 'files', tools: 'any', args }] }).join('\n')
  assert.match(args({ n: { max: '5' } }), /^allow\.0\.args\.n\.max: `allow\[0\]\.args\.n\.max`: Invalid input: expected number, received string\.$/)
  assert.match(args({ n: { undr: '/x' } }), /^allow\.0\.args\.n\.undr: Unknown key `undr`\. \(Did you mean `under`\?\)$/)
  assert.equal(role({ allow: [{ tool: 5, tools: 'any' }] })[0], 'allow.0.tool: Expected string or array or object.')
  assert.equal(role({ ask: [{ tool: 'x', tools: 'any', approvers: 'me' }] })[0], 'ask.0.approvers: Expected "owner" or object.')
})

test('a selector that names nothing, and any in a list, are refused', () => {
  assert.match(role({ allow: [{ tool: {}, tools: 'any' }] })[0]!, /^allow\.0\.tool: The selector names neither/)
  assert.match(role({ allow: [{ tool: { labels: {} }, tools: 'any' }] })[0]!, /Write any when all are meant/)
  assert.match(role({ allow: [{ tool: ['any'], tools: 'any' }] })[0]!, /cannot be an entry of a list/)
})

test('a guardrail cannot allow, and a limit must limit (peers R23)', () => {
  assert.deepEqual(
    guardrail({
      for: { kind: ['agent', 'node'], roles: 'x', names: '*-bot' },
      deny: [{ tool: 'any' }],
      ask: [{ tool: 'any', max_rows: 4 }],
      limit: [{ tool: 'any', mask: ['a'] }],
    }),
    [],
  )
  assert.match(guardrail({ allow: [] })[0]!, /^allow: Unknown key/)
  assert.match(guardrail({ limit: [{ tool: 'any' }] })[0]!, /^limit\.0: This limit rule limits nothing\. \(Write mask or max_rows\.\)/)
  assert.match(guardrail({ limit: [{ door: 'any' }] })[0]!, /Nothing of door can be limited/)
  assert.match(guardrail({ for: {} })[0]!, /^for: `for` names nobody/)
  assert.match(guardrail({ for: { kinds: 'agent' } })[0]!, /Did you mean `kind`/)
  assert.match(guardrail({ for: { kind: 'person' } })[0]!, /^for\.kind/)
})

test('compilePolicy refuses what the checks refuse, and two documents of one name', () => {
  assert.throws(() => compilePolicy({ roles: [{ name: 'a', spec: { allow: [{ tool: 'x' }] } }], guardrails: [] }, vocabularies), {
    code: 'invalid_document',
    message: /role a/,
  })
  const empty = { name: 'a', spec: {} }
  assert.throws(() => compilePolicy({ roles: [empty, empty], guardrails: [] }, vocabularies), { code: 'invalid_document' })
  assert.throws(() => compilePolicy({ roles: [], guardrails: [empty, empty] }, vocabularies), { code: 'invalid_document' })
})

test('the digest of a rule depends on what it says, not on where it stands or how its keys are ordered', () => {
  const digest = (rule: object, at = 0) => {
    const filler = Array.from({ length: at }, () => ({ tool: 'other', tools: 'any' }))
    const policy = compilePolicy({ roles: [{ name: 'a', spec: { allow: [...filler, rule] } }], guardrails: [] }, vocabularies)
    return policy.roles.get('a')!.kinds.get('tool')!.allow.all.at(-1)!.ref.digest
  }
  const one = digest({ tool: 'files', tools: 'any' })
  assert.match(one, /^[0-9a-f]{64}$/)
  assert.equal(digest({ tools: 'any', tool: 'files' }, 2), one)
  assert.notEqual(digest({ tool: 'files', tools: ['any_'] }), one)
})

test('a policy knows whether its answers may be kept for an identity', () => {
  const reads = (spec: unknown) => compilePolicy({ roles: [{ name: 'a', spec }], guardrails: [] }, vocabularies).readsTimeOrSession
  assert.equal(reads({ allow: [{ tool: 'files', tools: '{{identity.name}}', where: 'args.x == 1' }] }), false)
  assert.equal(reads({ allow: [{ tool: 'files', tools: 'x-{{session.id}}' }] }), true)
  assert.equal(reads({ allow: [{ tool: '{{session.id}}', tools: 'any' }] }), true)
  assert.equal(reads({ deny: [{ tool: 'files', where: 'has(session.purpose)' }] }), true)
  assert.equal(reads({ when: { days: 'mon', zone: 'UTC' } }), true)
})

test('reference pages and editors can have the schemas as JSON Schema', () => {
  for (const schema of [roleSchema(vocabularies), guardrailSchema(vocabularies)]) {
    assert.equal(z.toJSONSchema(schema, { io: 'input' }).type, 'object')
  }
})
