import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deadRules } from './lint.ts'
import { vocabularies } from './vocabulary.fixture.ts'

const rule = (tool: unknown, more: object = { tools: 'any' }) => ({ tool, ...more })
const dead = (spec: unknown, guardrail?: unknown) =>
  deadRules({ roles: [{ name: 'a', spec }], guardrails: guardrail === undefined ? [] : [{ name: 'g', spec: guardrail }] }, vocabularies).map(
    ({ kind, path, message }) => `${kind} ${path.join('.')}: ${message}`,
  )

test('a rule under a deny without conditions never fires', () => {
  for (const [wide, narrow] of [
    ['any', 'files'],
    ['files', 'files'],
    ['f*', 'files'],
    ['f*', ['fa', 'fb*']],
    [['x', 'files'], 'files'],
    ['any', { labels: { env: 'prod' } }],
  ] as const) {
    assert.deepEqual(
      dead({ allow: [rule(narrow)], deny: [rule(wide, { reason: 'no' })] }),
      ['role allow.0: It never fires: role a, deny rule 1 covers all of it.'],
      JSON.stringify([wide, narrow]),
    )
  }
  assert.equal(dead({ ask: [rule('files')], deny: [rule('files', {})] }).length, 1)
  assert.deepEqual(dead({ allow: [rule('files')] }, { deny: [rule('any', {})] }), [
    'role allow.0: It never fires: guardrail g, deny rule 1 covers all of it.',
  ])
})

test('nothing is said where something may still fire', () => {
  for (const [deny, allow] of [
    [rule('files', { tools: 'x' }), rule('files')],
    [rule('files', { where: 'args.x == 1' }), rule('files')],
    [rule('files', {}), rule('any')],
    [rule('files', {}), rule('f*')],
    [rule('f?les', {}), rule('f*les')],
    [rule('red', {}), rule('{{identity.traits.team}}')],
    [rule('{{identity.name}}', {}), rule('files')],
    [{ door: 'any' }, rule('files')],
    [rule('files', { shadow: true }), rule('files')],
    [rule({ labels: { env: 'prod' } }, {}), rule('files')],
  ]) {
    assert.deepEqual(dead({ allow: [allow], deny: [deny] }), [])
  }
  assert.deepEqual(dead({ allow: [rule('files')] }, { for: { kind: 'agent' }, deny: [rule('any', {})] }), [])
})

test('empty lists and hours that never come (peers R31)', () => {
  assert.deepEqual(dead({ allow: [rule('files', { tools: [] })] }), [
    'role allow.0: It gives and takes nothing: `tools` has an empty list, which means none.',
  ])
  assert.equal(dead({ allow: [rule([])] }).length, 1)
  assert.equal(dead({ deny: [rule({ labels: { env: [] } }, {})] }).length, 1)
  assert.equal(dead({ allow: [rule('files', { tools: 'any', args: { tags: [] } })] }).length, 1)
  assert.deepEqual(dead({ allow: [rule('files', { tools: [], can: ['read'] })] }), [])
  assert.deepEqual(dead({ allow: [rule('files', { tools: 'any', mask: [] })] }), [])
  assert.equal(dead({}, { limit: [rule([], { max_rows: 1 })] }).length, 1)
  assert.deepEqual(dead({ when: { days: [], zone: 'UTC' }, allow: [rule('files')] }), ['role when: The role never counts: `when` names no day.'])
})

test('documents that are not valid are left to the checks', () => {
  assert.deepEqual(dead({ alow: [] }, { deny: 5 }), [])
})
