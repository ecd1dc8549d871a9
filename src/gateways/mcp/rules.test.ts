import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { compilePolicy } from '../../policy/compile.ts'
import { decide } from '../../policy/decide.ts'
import type { Action } from '../../policy/types.ts'
import { describeCall, describeItem, describeMcp, describeServerRequest, type Target } from './describe.ts'
import { mcpVocabulary } from './rules.ts'

const target: Target = {
  resource: { kind: 'mcp', id: 'res_files', name: 'files', labels: { env: 'prod' } },
  spec: { trusted: true, tools: { confirmed: { effects: ['read'] } } },
}
const tool = (name: string, args: Record<string, unknown> = {}, annotations = {}) => describeCall({ ...target, tool: name, args, annotations })
const read = (uri: string) => describeMcp(target, { method: 'resources/read', params: { uri } })
const session = (method: string) => describeMcp(target, { method, params: {} })
const listed = (name: string) => describeItem(target, 'tools/list', { name })!

function verdict(role: Record<string, unknown[]>, action: Action): string {
  const policy = compilePolicy({ roles: [{ name: 'r', spec: role }], guardrails: [] }, [mcpVocabulary])
  const identity = { id: 'agt_1', kind: 'agent' as const, name: 'bot', traits: {}, roles: ['r'] }
  return decide(policy, { links: [{ identity }], action, now: 0, session: { id: 'ses_1', startedAt: 0, how: 'join' } }).verdict
}
const allow = (...rules: unknown[]) => ({ allow: rules.map((rule) => ({ mcp: 'files', ...(rule as object) })) })

const READS = { readOnlyHint: true, openWorldHint: false }

describe('effects of a tool', () => {
  const cases: [what: string, Action['effects'], Action][] = [
    ["an administrator's word wins over what the server says", ['read'], tool('confirmed', {}, { readOnlyHint: false })],
    ['a read-only tool reads', ['read'], tool('a', {}, READS)],
    ['a read-only tool that says nothing of the world may carry data out', ['read', 'egress'], tool('a', {}, { readOnlyHint: true })],
    ['a tool that says nothing may do anything', ['write', 'destroy', 'egress'], tool('a')],
    ['a tool that destroys nothing writes', ['write'], tool('a', {}, { destructiveHint: false, openWorldHint: false })],
    ['a hint of another type is no hint', ['write', 'destroy', 'egress'], tool('a', {}, { readOnlyHint: 'true', openWorldHint: 0 })],
    [
      'an untrusted server is not believed',
      ['write', 'destroy', 'egress'],
      describeCall({ ...target, spec: { trusted: false, tools: {} }, tool: 'a', annotations: READS }),
    ],
    ['a name from the prototype is no tool', ['write', 'destroy', 'egress'], tool('constructor')],
  ]
  for (const [what, effects, action] of cases) test(what, () => assert.deepEqual(action.effects, effects))
})

describe('rules about MCP servers', () => {
  test('rule 1: what no rule names is denied', () => {
    assert.equal(verdict(allow({ tools: ['read_*'] }), tool('write_file')), 'deny')
    assert.equal(verdict(allow({ tools: [] }), tool('read_file')), 'deny')
    assert.equal(verdict({ allow: [{ mcp: 'other', tools: 'any' }] }, tool('read_file')), 'deny')
  })
  test('tools are named, globbed, or any', () => {
    assert.equal(verdict(allow({ tools: 'read_file' }), tool('read_file')), 'allow')
    assert.equal(verdict(allow({ tools: ['list_*', 'read_?ile'] }), tool('read_file')), 'allow')
    assert.equal(verdict(allow({ tools: 'any' }), tool('x')), 'allow')
    assert.equal(verdict(allow({ tools: ['read_file'] }), tool('Read_file')), 'deny')
  })
  test('can: in allow every effect must be covered', () => {
    assert.equal(verdict(allow({ can: 'read' }), tool('a', {}, READS)), 'allow')
    assert.equal(verdict(allow({ can: ['read', 'write'] }), tool('a')), 'deny')
    assert.equal(verdict(allow({ can: 'any' }), tool('a')), 'allow')
    assert.equal(verdict(allow({ tools: ['a'], can: 'read' }), tool('a')), 'deny')
  })
  test('can: in ask and deny one effect is enough', () => {
    assert.equal(verdict({ ...allow({ can: 'any' }), deny: [{ mcp: 'files', can: ['destroy'] }] }, tool('a')), 'deny')
    assert.equal(verdict({ ...allow({ can: 'any' }), ask: [{ mcp: 'files', can: 'write', approvers: 'owner' }] }, tool('a')), 'ask')
    assert.equal(verdict({ ...allow({ can: 'any' }), deny: [{ mcp: 'files', can: ['destroy'] }] }, tool('a', {}, READS)), 'allow')
  })
  test('a rule about tools says nothing of resources and prompts', () => {
    assert.equal(verdict(allow({ tools: 'any' }), read('file:///a')), 'deny')
    assert.equal(verdict(allow({ tools: 'any', can: 'read' }), read('file:///a')), 'deny')
    assert.equal(verdict(allow({ can: 'read' }), read('file:///a')), 'allow')
    assert.equal(verdict(allow({ prompts: ['greet'] }), describeMcp(target, { method: 'prompts/get', params: { name: 'greet' } })), 'allow')
    assert.equal(verdict({ ...allow({ can: 'any' }), deny: [{ mcp: 'files', tools: 'any' }] }, read('file:///a')), 'allow')
  })
  test('handshake, lists and notifications are allowed by any rule of the server, and no rule about tools blocks them (peers R30)', () => {
    for (const method of [
      'initialize',
      'server/discover',
      'ping',
      'tools/list',
      'resources/list',
      'notifications/initialized',
      'notifications/anything',
      'stream',
      'session/end',
    ]) {
      assert.equal(verdict(allow({ tools: ['x'] }), session(method)), 'allow', method)
      assert.equal(verdict({ ...allow({ tools: ['x'] }), deny: [{ mcp: 'files', tools: 'any' }] }, session(method)), 'allow', method)
      assert.equal(verdict({ ...allow({ tools: ['x'] }), deny: [{ mcp: 'files', can: 'read' }] }, session(method)), 'allow', method)
      assert.equal(verdict({ ...allow({ tools: ['x'] }), deny: [{ mcp: 'files' }] }, session(method)), 'deny', method)
      assert.equal(verdict({ allow: [] }, session(method)), 'deny', method)
    }
    assert.equal(verdict({ ...allow({ tools: ['x'] }), deny: [{ mcp: 'files', operations: ['logging/*'] }] }, session('logging/setLevel')), 'deny')
  })
  test('unknown methods and what servers ask must be granted by name', () => {
    assert.equal(verdict(allow({ tools: 'any' }), describeMcp(target, { method: 'tasks/get', params: { taskId: 't' } })), 'deny')
    assert.equal(verdict(allow({ can: ['read', 'write'] }), describeMcp(target, { method: 'new/thing', params: {} })), 'deny')
    assert.equal(verdict(allow({ operations: ['new/*'] }), describeMcp(target, { method: 'new/thing', params: {} })), 'allow')
    assert.equal(verdict(allow({ tools: 'any' }), describeServerRequest(target, 'sampling/createMessage')), 'deny')
    assert.equal(verdict(allow({ operations: ['sampling/createMessage'] }), describeServerRequest(target, 'sampling/createMessage')), 'allow')
  })
  test('a subscription is about each of its resources', () => {
    const listen = (...uris: string[]) =>
      describeMcp(target, { method: 'subscriptions/listen', params: { notifications: { resourceSubscriptions: uris } } })
    assert.equal(verdict(allow({ resources: ['test://a/*'] }), listen('test://a/1', 'test://a/2')), 'allow')
    assert.equal(verdict(allow({ resources: ['test://a/*'] }), listen('test://a/1', 'test://b')), 'deny')
    assert.equal(
      verdict({ ...allow({ resources: 'any' }), deny: [{ mcp: 'files', resources: ['test://b'] }] }, listen('test://a/1', 'test://b')),
      'deny',
    )
    assert.equal(
      verdict(allow({ tools: 'any' }), describeMcp(target, { method: 'subscriptions/listen', params: { notifications: { taskIds: ['t'] } } })),
      'deny',
    )
  })
  for (const uri of [
    'file:///reports/../etc/passwd',
    'file:///reports/%2e%2e/x',
    'file:///reports/..%2fx',
    'file:///reports\\..\\x',
    'file:///reports/a%00',
  ]) {
    test(`rule 2: ${uri} is under no pattern, and under every forbidden one`, () => {
      assert.equal(verdict(allow({ resources: ['file:///reports/*'] }), read(uri)), 'deny')
      assert.equal(verdict({ ...allow({ resources: 'any' }), deny: [{ mcp: 'files', resources: ['file:///secret/*'] }] }, read(uri)), 'deny')
    })
  }
})

describe('rules about arguments', () => {
  const under = allow({ tools: ['read'], args: { path: { under: '/reports' } } })
  test('a missing, other, or wandering argument does not match', () => {
    assert.equal(verdict(under, tool('read', { path: '/reports/q3' })), 'allow')
    for (const args of [{}, { path: null }, { path: '/etc' }, { path: '/reports/../etc' }, { path: 7 }])
      assert.equal(verdict(under, tool('read', args)), 'deny', JSON.stringify(args))
  })
  test('rule 2: the same argument in another case does not slip past an ask beside a broad allow', () => {
    const role = { allow: [{ mcp: 'files', tools: 'any' }], ask: [{ mcp: 'files', tools: ['write'], args: { path: { under: '/etc' } } }] }
    assert.equal(verdict(role, tool('write', { path: '/etc/x' })), 'ask')
    assert.equal(verdict(role, tool('write', { Path: '/etc/x' })), 'ask')
    assert.equal(verdict(role, tool('write', { path: '/tmp/x' })), 'allow')
  })

  test('a `where` about arguments blocks neither the handshake nor a list, and still decides the call (peers R30)', () => {
    const role = allow({ tools: ['query'], where: 'args.sql == "SELECT 1"' })
    assert.equal(verdict(role, session('initialize')), 'allow')
    assert.equal(verdict(role, listed('query')), 'allow')
    assert.equal(verdict(role, listed('other')), 'deny')
    assert.equal(verdict(role, tool('query', { sql: 'SELECT 1' })), 'allow')
    assert.equal(verdict(role, tool('query', { sql: 'DROP TABLE t' })), 'deny')
    const denied = { ...allow({ tools: 'any' }), deny: [{ mcp: 'files', tools: ['query'], where: 'args.sql == "DROP"' }] }
    assert.equal(verdict(denied, listed('query')), 'allow')
    assert.equal(verdict(denied, tool('query', {})), 'deny')
  })

  test('rule 2: the same argument in another case is ambiguous: never allowed, always denied', () => {
    assert.equal(verdict(under, tool('read', { path: '/reports/a', Path: '/etc/shadow' })), 'deny')
    const forbidden = { ...allow({ tools: 'any' }), deny: [{ mcp: 'files', args: { path: { under: '/secret' } } }] }
    assert.equal(verdict(forbidden, tool('read', { PATH: '/secret/a' })), 'deny')
    assert.equal(verdict(forbidden, tool('read', { path: '/public/a' })), 'allow')
  })
  test('a number that a double does not keep is never allowed by a rule that reads it', () => {
    const lossy = (text: string) =>
      describeMcp(target, {
        method: 'tools/call',
        params: { name: 'pay', arguments: JSON.parse(text) },
        lossy: new Set(['/params/arguments/amount']),
      })
    assert.equal(verdict(allow({ tools: ['pay'], args: { amount: { max: 9007199254740992 } } }), lossy('{"amount":9007199254740993}')), 'deny')
    assert.equal(verdict(allow({ tools: ['pay'] }), lossy('{"amount":9007199254740993}')), 'allow')
    assert.equal(
      verdict({ ...allow({ tools: 'any' }), deny: [{ mcp: 'files', args: { amount: { min: 1e17 } } }] }, lossy('{"amount":9007199254740993}')),
      'deny',
    )
  })
  test('a tool that some arguments allow is listed, and one that only some deny is not hidden', () => {
    assert.equal(verdict(under, listed('read')), 'allow')
    assert.equal(verdict(under, listed('write')), 'deny')
    assert.equal(verdict({ ...allow({ tools: 'any' }), deny: [{ mcp: 'files', tools: ['read'], args: { path: '/x' } }] }, listed('read')), 'allow')
    assert.equal(verdict({ ...allow({ tools: 'any' }), deny: [{ mcp: 'files', tools: ['read'] }] }, listed('read')), 'deny')
  })
})

test('a summary fits on one line of a terminal', () => {
  assert.equal(tool('a\u001b[2J\nb').summary, 'tools/call a?[2J?b')
})

test('who may do nothing but ask can begin a session and see what may be asked about', () => {
  const role = { ask: [{ mcp: 'files', tools: ['write_file'], args: { path: { under: '/reports' } } }] }
  for (const method of ['initialize', 'server/discover', 'tools/list', 'notifications/initialized'])
    assert.equal(verdict(role, session(method)), 'allow', method)
  assert.equal(verdict(role, tool('write_file', { path: '/reports/a' })), 'ask')
  assert.equal(verdict(role, tool('write_file', { path: '/etc/passwd' })), 'deny')
  assert.equal(verdict(role, listed('write_file')), 'ask')
  assert.equal(verdict({ ask: [{ ...role.ask[0]!, mcp: 'other' }] }, session('initialize')), 'deny')
})
