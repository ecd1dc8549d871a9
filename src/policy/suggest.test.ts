import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compilePolicy } from './compile.ts'
import { decide } from './decide.ts'
import { suggestRole } from './suggest.ts'
import type { Vocabulary } from './types.ts'
import { actionOf, type Call, identityOf, questionOf, type ToolFacts, toolVocabulary } from './vocabulary.fixture.ts'

/** Drafts as gateways make them: the tool with its argument, then the tool alone. */
const drafting: Vocabulary = {
  ...toolVocabulary,
  propose(action) {
    const { tool, args } = action.facts as unknown as ToolFacts
    const path = typeof args.path === 'string' ? [{ tools: [tool], args: { path: args.path } }] : []
    return [...path, { tools: [tool] }]
  },
}
const suggest = (calls: readonly (Call & { readonly asked?: boolean })[]) =>
  suggestRole(
    [drafting],
    calls.map(({ asked = false, ...call }) => ({ action: actionOf(call), asked })),
  )

test('rules that differ in one list become one, and what was asked stays asked', () => {
  assert.deepEqual(suggest([{ tool: 'read' }, { tool: 'write' }, { tool: 'read' }, { tool: 'drop', asked: true }, { tool: 'read', on: 'data' }]), {
    spec: {
      allow: [
        { tool: 'data', tools: ['read'] },
        { tool: 'files', tools: ['read', 'write'] },
      ],
      ask: [{ tool: 'files', tools: ['drop'] }],
    },
    covered: 5,
    left: [],
  })
})

test('what was done with and without a yes stands under ask alone', () => {
  const { spec, covered } = suggest([{ tool: 'drop' }, { tool: 'drop', asked: true }, { tool: 'read' }])
  assert.deepEqual(spec, { allow: [{ tool: 'files', tools: ['read'] }], ask: [{ tool: 'files', tools: ['drop'] }] })
  assert.equal(covered, 3)
})

test('conditions on arguments are never joined, and what has no draft is left and named', () => {
  const found = suggest([
    { tool: 'read', args: { path: '/a' } },
    { tool: 'write', args: { path: '/b' } },
    { unclear: 'it runs code', tool: 'run' },
  ])
  assert.deepEqual(found.spec.allow, [
    { tool: 'files', tools: ['read'], args: { path: '/a' } },
    { tool: 'files', tools: ['write'], args: { path: '/b' } },
  ])
  assert.deepEqual([found.covered, found.left], [2, ['call run on tool/files']])
  assert.deepEqual(suggest([]), { spec: {}, covered: 0, left: [] })
})

test('a suggested role covers all that it has rules for, and gives no tool that was not used', () => {
  const tool = fc.constantFrom('read', 'write', 'drop', 'move')
  const deed = fc.record({
    tool,
    on: fc.constantFrom('files', 'data'),
    args: fc.constantFrom<Record<string, unknown>[]>({}, { path: '/a' }, { path: '/b' }),
    asked: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(deed, { maxLength: 8 }), deed, (done, other) => {
      const { spec, covered, left } = suggest(done)
      assert.equal(covered, done.length)
      assert.deepEqual(left, [])
      const policy = compilePolicy({ roles: [{ name: 'r', spec }], guardrails: [] }, [drafting])
      const { verdict } = decide(policy, questionOf([{ identity: identityOf('kim', { roles: ['r'] }) }], other))
      if (!done.some(({ tool, on }) => tool === other.tool && on === other.on)) assert.equal(verdict, 'deny')
    }),
    { numRuns: 300 },
  )
})
