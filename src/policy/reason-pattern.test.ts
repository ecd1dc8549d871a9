import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { reasonFault } from './approval.ts'
import { compileReasonPattern } from './reason-pattern.ts'

test('the form of a ticket is found in a reason', () => {
  for (const [pattern, fitting, other] of [
    ['OPS-\\d+', 'for OPS-17, urgent', 'for OPS-'],
    ['^(OPS|INC)-[0-9]{3,5}$', 'INC-1234', 'INC-1234!'],
    ['^[A-Z]{2,}\\.[^ ]$', 'AB.c', 'A.c'],
    ['a|b|', '', undefined],
    ['\\$\\^', 'for $^', 'for $'],
    ['x\\$', 'x$y', 'x'],
    ['^\\\\$', '\\', '\\\\'],
    ['^.{2}$', '🙂é', '🙂'],
    ['^[a-]$', '-', 'b'],
  ] as const) {
    assert.equal(compileReasonPattern(pattern).fits(fitting), true, pattern)
    if (other !== undefined) assert.equal(compileReasonPattern(pattern).fits(other), false, pattern)
  }
})

test('what is not read is refused, with how to write it', () => {
  for (const pattern of [
    '',
    'a**',
    '(',
    'a)',
    '[',
    '[]',
    '[z-a]',
    '*',
    '\\q',
    '(?=a)',
    '(?<x>a)',
    '\\1',
    'a{9',
    'a{5,2}',
    'a{999}',
    'a^b',
    'a$b',
    'x'.repeat(201),
  ])
    assert.throws(() => compileReasonPattern(pattern), { code: 'invalid_document', message: /not a pattern for reasons/ }, pattern)
  assert.throws(() => compileReasonPattern('((((((((((((a))))))))))))'), /nested/)
  assert.throws(() => compileReasonPattern('(((a{50}){50}){50})'), /says too much/)
})

const sign = fc.constantFrom('a', 'b', '1', '-', ' ')
const atom = fc.oneof(sign, fc.constantFrom('.', '\\d', '\\w', '\\s', '[ab]', '[^a]', '[a-z1]', '\\.'))
const pattern = fc.letrec<{ whole: string; part: string; one: string }>((tie) => ({
  one: fc.oneof(
    { maxDepth: 3 },
    atom,
    tie('whole').map((inner) => `(${inner})`),
  ),
  part: fc.tuple(tie('one'), fc.constantFrom('', '', '?', '*', '+', '{2}', '{1,3}', '{2,}')).map((pieces) => pieces.join('')),
  whole: fc
    .array(
      fc.array(tie('part'), { maxLength: 3 }).map((parts) => parts.join('')),
      { minLength: 1, maxLength: 3 },
    )
    .map((all) => all.join('|')),
})).whole

test('what is read means what it means in regular expressions', () => {
  fc.assert(
    fc.property(pattern, fc.boolean(), fc.boolean(), fc.string({ unit: sign, maxLength: 8 }), (inner, start, end, text) => {
      const source = `${start ? '^' : ''}(${inner})${end ? '$' : ''}`
      // Beyond these sizes it is refused, and the other engine may stall.
      if (source.length > 60) return
      assert.equal(compileReasonPattern(source).fits(text), new RegExp(source, 'u').test(text), source)
    }),
    { numRuns: 2000 },
  )
})

test('rule 11: what stalls a backtracking engine takes time that grows with the text alone', () => {
  const slow = compileReasonPattern('^(([a-z])+.)+[A-Z]([a-z])+$')
  const started = process.cpuUsage().user
  assert.equal(slow.fits('a'.repeat(1000)), false)
  // Backtracking would take longer than the universe is old.
  assert.ok(process.cpuUsage(undefined).user - started < 8_000_000)
})

test('a reason is held against what is wanted', () => {
  assert.equal(reasonFault(undefined, undefined), undefined)
  assert.equal(reasonFault('optional', ''), undefined)
  assert.match(reasonFault('required', '  ') ?? '', /is needed/)
  assert.equal(reasonFault('required', 'because'), undefined)
  assert.match(reasonFault({ pattern: 'OPS-\\d+' }, undefined) ?? '', /needed that holds OPS/)
  assert.match(reasonFault({ pattern: 'OPS-\\d+' }, 'soon') ?? '', /has to hold OPS/)
  assert.equal(reasonFault({ pattern: 'OPS-\\d+' }, 'OPS-1: soon'), undefined)
  assert.match(reasonFault('optional', 'x'.repeat(1001)) ?? '', /longer than 1000/)
})
