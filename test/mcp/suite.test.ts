import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DENIED, oneFlipped, pairsFor } from './pairs.ts'
import { compare, parseResults, REQUIREMENTS, totals } from './suite.ts'
import { comparable, exceptionsFor, unforeseen } from './translatable.ts'

const NONE = new Map()
const results = (...lines: readonly string[]) => parseResults(`${lines.join('\n')}\n`)

test('what the suite prints is read line by line; its lists of what is not scored are not results', () => {
  const read = results('=== Running', '✓ ping: 2 passed, 0 failed', '✗ auth/x: 1 passed, 2 failed', '  ✓ ping (pending)', 'Total: 3 passed, 2 failed')
  assert.deepEqual([...read.keys()], ['ping', 'auth/x'])
  assert.deepEqual(totals(read), { pass: 3, fail: 2 })
})

test('lines are compared by their counts: a tick with nothing checked is a difference, and so is a scenario that did not run', () => {
  const direct = results('✓ ping: 2 passed, 0 failed', '✓ tools-list: 1 passed, 0 failed')
  assert.deepEqual(compare(direct, direct, NONE), [])
  const why = new Map([['ping', ['FAILURE x: y']]])
  assert.deepEqual(compare(direct, results('✓ ping: 0 passed, 0 failed'), why), [
    { scenario: 'ping', direct: '2 passed, 0 failed', through: '0 passed, 0 failed', why: ['FAILURE x: y'] },
    { scenario: 'tools-list', direct: '1 passed, 0 failed', through: 'absent', why: [] },
  ])
})

test('with one tool denied its scenario must fail, and no other', () => {
  const direct = results(`✓ ${DENIED.scenario}: 2 passed, 0 failed`, '✓ ping: 2 passed, 0 failed')
  const judge = (...lines: readonly string[]) => {
    const through = results(...lines)
    return oneFlipped(compare(direct, through, NONE), through).map(({ scenario }) => scenario)
  }
  assert.deepEqual(judge(`✗ ${DENIED.scenario}: 1 passed, 1 failed`, '✓ ping: 2 passed, 0 failed'), [])
  assert.deepEqual(judge(`✓ ${DENIED.scenario}: 2 passed, 0 failed`, '✓ ping: 2 passed, 0 failed'), [DENIED.scenario])
  assert.deepEqual(judge(`✗ ${DENIED.scenario}: 1 passed, 1 failed`, '✗ ping: 1 passed, 1 failed'), ['ping'])
})

test('an exception foresees one line, no other', () => {
  const exceptions = exceptionsFor('stdio', '2025-11-25')
  const line = exceptions['server-sse-polling']!.line
  const one = (through: string) => [{ scenario: 'server-sse-polling', through }]
  assert.deepEqual(unforeseen(one(line), exceptions), [])
  assert.deepEqual(unforeseen(one('0 passed, 1 failed'), exceptions), one('0 passed, 1 failed'))
  for (const requirements of REQUIREMENTS) {
    assert.deepEqual([exceptionsFor('http', requirements), exceptionsFor('deny', requirements)], [{}, {}], 'nothing is excused over HTTP')
  }
})

test('across the eras only what one of them has no word for is left out', () => {
  const all = results('✓ tasks-lifecycle: 9 passed, 0 failed', '✓ tools-list: 4 passed, 0 failed')
  assert.deepEqual([...comparable(all, '2026-07-28').keys()], ['tools-list'])
  assert.deepEqual([...comparable(all, '0.1.16-active').keys()], ['tasks-lifecycle', 'tools-list'])
})

test('each set of requirements is run over HTTP and stdio; the two of alpha.12 translated in their direction, too', () => {
  const upstreams = (requirements: (typeof REQUIREMENTS)[number]) => pairsFor(requirements).map(({ upstream }) => upstream)
  assert.deepEqual(upstreams('0.1.16-active'), ['http', 'stdio', 'sse'])
  assert.deepEqual(upstreams('2025-11-25'), ['http', 'stdio', 'sse', 'http, one denied', 'http, modern', 'stdio, modern'])
  assert.deepEqual(upstreams('2026-07-28'), ['http', 'stdio', 'sse, legacy', 'http, one denied', 'http, legacy', 'stdio, legacy'])
})
