import assert from 'node:assert/strict'
import { test } from 'node:test'
import { argsMatcher, trapLossy } from './args.ts'
import type { Variables } from './types.ts'
import { valueMatcher } from './value.ts'
import { identityOf } from './vocabulary.fixture.ts'

const variables: Variables = {
  identity: identityOf('boris/claude-code', {
    kind: 'agent',
    traits: { team: 'red', teams: ['red', 'blue'], odd: '*', empty: '', deep: { a: 1 }, up: '../..' },
  }),
  session: { id: 'ses_7', startedAt: 0, how: 'login' },
  now: 0,
}
const matches = (value: string | readonly string[], text: string) => valueMatcher(value)(text, variables)

test('a value is a name, a glob, a list of both, or any', () => {
  assert.equal(matches('read', 'read'), true)
  assert.equal(matches('read', 'read_file'), false)
  assert.equal(matches('read_*', 'read_file'), true)
  assert.equal(matches(['write', 'read_?'], 'read_1'), true)
  assert.equal(matches(['write', 'read_?'], 'write'), true)
  assert.equal(matches('any', 'whatever'), true)
})

test('an empty list is nothing, and any is not an entry of a list (peers R31)', () => {
  assert.equal(matches([], 'any'), false)
  assert.throws(() => valueMatcher(['any', 'read']), { code: 'invalid_document' })
})

test('templates stand for values of the identity and the session, and what they bring is never a pattern', () => {
  assert.equal(matches('{{identity.name}}', 'boris/claude-code'), true)
  assert.equal(matches('x-{{ identity.traits.team }}-*', 'x-red-1'), true)
  assert.equal(matches('{{identity.traits.teams}}-db', 'blue-db'), true)
  assert.equal(matches('{{session.id}}', 'ses_7'), true)
  assert.equal(matches('{{identity.kind}}', 'agent'), true)
  assert.equal(matches('{{identity.traits.odd}}', 'anything'), false)
  assert.equal(matches('{{identity.traits.odd}}', '*'), true)
  assert.equal(matches('{{identity.traits.odd}}?', '*1'), true)
})

test('a trait that is missing, empty or no text never matches', () => {
  for (const trait of ['missing', 'empty', 'deep', 'toString', 'constructor', '__proto__']) {
    for (const text of ['', '-db', 'undefined-db', '[object Object]-db']) assert.equal(matches(`{{identity.traits.${trait}}}-db`, text), false)
    assert.equal(matches(`{{identity.traits.${trait}}}*`, 'anything'), false)
  }
})

test('an unknown template and broken braces are faults of the document', () => {
  for (const text of ['{{identity.nmae}}', '{{user}}', '{{session.purpose}}', '{{identity.traits.a.b}}', '{{', 'a}}', '{{}}', '{{identity.name}']) {
    assert.throws(() => valueMatcher(text), { code: 'invalid_document' }, text)
  }
})

test('patterns of other languages are refused, so that no deny rule silently matches nothing (peers R28)', () => {
  for (const text of ['', '^read_.*$', '[rw]ead', '{read,write}_*', 'a**', 'a\0'])
    assert.throws(() => valueMatcher(text), { code: 'invalid_document' }, text)
})

test('rule 11: traits that multiply beyond reason fail instead of taking long', () => {
  const many = { ...variables, identity: { ...variables.identity, traits: { list: Array.from({ length: 100 }, (_, i) => `v${i}`) } } }
  const matcher = valueMatcher('{{identity.traits.list}}{{identity.traits.list}}{{identity.traits.list}}')
  assert.throws(() => matcher('x', many), { code: 'policy_error' })
})

const none = new Set<string>()

test('rule 1: a trait cannot move the fence of `under`', () => {
  const inside = (path: string, section: 'allow' | 'deny') =>
    argsMatcher({ path: { under: '/home/{{identity.traits.up}}' } }, section)({ path }, none, variables)
  assert.equal(inside('/etc/passwd', 'allow'), false)
  assert.equal(inside('/etc/passwd', 'deny'), true)
  assert.equal(argsMatcher({ path: { under: '/home/{{identity.name}}' } })({ path: '/home/boris/claude-code/x' }, none, variables), true)
})

test('args: a number that does not survive a double throws where it is read, and nowhere else', () => {
  const max = argsMatcher({ 'order.amount': { max: 500 } })
  assert.throws(() => max({ order: { amount: 1 } }, new Set(['/order/amount']), variables), { code: 'policy_error' })
  assert.equal(max({ order: { amount: 1, id: 1 } }, new Set(['/order/id']), variables), true)
  const list = argsMatcher({ ids: [1, 2] })
  assert.throws(() => list({ ids: [1, 2] }, new Set(['/ids/1']), variables), { code: 'policy_error' })
  const trapped = trapLossy({ a: { b: 1, c: 2 }, d: [1, 2] }, new Set(['/a/b', '/d/0'])) as { a: { b: number; c: number }; d: number[] }
  assert.equal(trapped.a.c, 2)
  assert.equal(trapped.d[1], 2)
  assert.throws(() => trapped.a.b, { code: 'policy_error' })
  assert.throws(() => trapped.d[0], { code: 'policy_error' })
})

test('args: what the prototype of an object has is not an argument', () => {
  for (const name of ['toString', 'constructor', '__proto__', 'a.constructor']) {
    assert.equal(argsMatcher({ [name]: 'any' })({ a: {} }, none, variables), false, name)
  }
})

test('args: specs that say nothing are faults of the document', () => {
  for (const spec of [{ a: {} }, { a: { max: 1, min: 2 } }, { a: { under: 'relative' } }, { a: null }, { a: ['any'] }, { a: '[x]*' }]) {
    assert.throws(() => argsMatcher(spec), { code: 'invalid_document' }, JSON.stringify(spec))
  }
})
