import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Action } from '../../policy/types.ts'
import { describeMcp, describeServerRequest, type McpFacts } from './describe.ts'
import { proposeRules, recalledFacts, recordedFacts } from './recorded.ts'

const target = { resource: { kind: 'mcp', id: 'res_1', name: 'files', labels: {} }, spec: { tools: {}, trusted: false } }

/** As the record has it: JSON, and the parameters beside it as `bodiesOf` writes them. */
function again(action: Action, params: Record<string, unknown>, args = params.arguments): Readonly<Record<string, unknown>> | undefined {
  const { facts } = recordedFacts(action)
  const texts = new Map([['arguments', JSON.stringify(args ?? params)]])
  return recalledFacts({ operation: action.operation, facts: JSON.parse(JSON.stringify(facts)), texts })
}

test('the facts of every message are put together again from its record', () => {
  const text = fc.string({ minLength: 1, maxLength: 40 })
  const call = fc.oneof(
    fc
      .record({ name: text, arguments: fc.dictionary(text, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 4 }) })
      .map((params) => ['tools/call', params] as const),
    fc.record({ name: text }).map((params) => ['tools/call', params] as const),
    fc.record({ name: text, arguments: fc.dictionary(text, text, { maxKeys: 3 }) }).map((params) => ['prompts/get', params] as const),
    fc.record({ uri: text }).map((params) => ['resources/read', params] as const),
    fc.constant(['tools/list', {}] as const),
    fc.constant(['tasks/get', { taskId: '1' }] as const),
  )
  fc.assert(
    fc.property(call, ([method, raw]) => {
      // What comes in is JSON, and no key stands in it that a parser may read in another way.
      const params = JSON.parse(JSON.stringify(raw)) as Record<string, unknown>
      fc.pre(!JSON.stringify(params).includes('__proto__') && JSON.stringify(params).isWellFormed() && !/-0\b/.test(JSON.stringify(raw)))
      const action = describeMcp(target, { method, params })
      assert.deepEqual({ ...again(action, params) }, { ...action.facts })
    }),
  )
})

test('a request of a server keeps who asked', () => {
  const params = { message: 'Your name?' }
  const action = describeServerRequest(target, 'elicitation/create', params)
  assert.deepEqual({ ...again(action, params) }, { ...action.facts })
})

test('nobody can tell what a call was whose arguments are gone, cut or not JSON any more', () => {
  const { facts } = recordedFacts(describeMcp(target, { method: 'tools/call', params: { name: 'x', arguments: { a: 1 } } }))
  for (const texts of [new Map(), new Map([['arguments', '{"a": [cut']]), new Map([['arguments', '7']])])
    assert.equal(recalledFacts({ operation: 'tools/call', facts, texts }), undefined)
})

test('a subscription of a thousand resources is a small record, and cannot be judged again', () => {
  const action = describeMcp(target, {
    method: 'subscriptions/listen',
    params: { notifications: { resourceSubscriptions: Array.from({ length: 1000 }, (_, i) => `file:///${i}`) } },
  })
  const { facts } = recordedFacts(action)
  assert.ok(JSON.stringify(facts).length < 1000)
  assert.equal(recalledFacts({ operation: action.operation, facts, texts: new Map() }), undefined)
})

test('rules are drafted from the tool and the folders of its paths, else from the tool, resource, prompt or method', () => {
  const draft = (method: string, params: Record<string, unknown>) => proposeRules(describeMcp(target, { method, params }))
  assert.deepEqual(draft('tools/call', { name: 'read', arguments: { path: '/a/b.txt', n: 3, 'odd.name': '/x/y' } }), [
    { tools: ['read'], args: { path: { under: '/a' } } },
    { tools: ['read'] },
  ])
  assert.deepEqual(draft('tools/call', { name: 'read', arguments: { path: '/b.txt' } })[0], { tools: ['read'], args: { path: { under: '/' } } })
  assert.deepEqual(draft('resources/read', { uri: 'file:///a' }), [{ resources: ['file:///a'] }])
  assert.deepEqual(draft('prompts/get', { name: 'p' }), [{ prompts: ['p'] }])
  assert.deepEqual(draft('tasks/get', { taskId: '1' }), [{ operations: ['tasks/get'] }])
  assert.equal((describeMcp(target, { method: 'tasks/get', params: {} }).facts as unknown as McpFacts).about, 'other')
})
