import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RecordType } from '../audit/record.ts'
import { RECORD_TYPES } from '../audit/record.ts'
import { storyOf } from './audit-story.ts'

const names = (id: string) => (id === 'res_1' ? 'mcp/files' : undefined)
const told = (type: RecordType, data?: Record<string, unknown>) => {
  const { resource = '-', action = '-' } = storyOf({ type, ...(data ? { data } : {}) }, names)
  return `${resource} | ${action}`
}
const server = { id: 'res_1', name: 'files' }
const changes = ['create mcp/files', 'update user/dana', 'delete role/reader']

test('a record that is not about an action says what it is about and what happened', () => {
  const pins = [
    { kind: 'tool', name: 'read', sha256: 'x' },
    { kind: 'instructions', name: '' },
  ]
  for (const [type, data, line] of [
    ['server.started', { server, isolation: 'none', share: 'identity', command: 'node' }, 'mcp/files | node, isolation none, shared by identity'],
    ['server.stopped', { server, reason: 'crashed', code: 1, signal: null, message: 'It ended.' }, 'mcp/files | crashed: exit 1'],
    ['server.stopped', { server, reason: 'crashed', code: null, signal: 'SIGKILL' }, 'mcp/files | crashed: signal SIGKILL'],
    ['server.stopped', { server, reason: 'memory', code: null, signal: 'SIGTERM', message: 'Too much.' }, 'mcp/files | memory: Too much.'],
    ['server.listed', { server, tools: 1, prompts: 0, templates: 2 }, 'mcp/files | 1 tool, 0 prompts, 2 templates'],
    ['server.listed', { list: 'tools/list', again: true, servers: ['a', 'b'] }, '- | tools/list of a, b, from a list that was kept'],
    ['pin.seen', { server, pins, count: 2 }, 'mcp/files | tool read, instructions'],
    ['pin.approved', { server, pins, count: 70 }, 'mcp/files | tool read, instructions and 68 more'],
    ['upstream.login', { server, what: 'begun' }, 'mcp/files | begun'],
    ['documents.applied', { changes, created: 1, updated: 1, deleted: 1 }, `- | ${changes.join(', ')}`],
    ['documents.applied', { changes: [...changes, 'x'], created: 90, updated: 0, deleted: 0 }, `- | ${changes.join(', ')} and 87 more`],
    ['session.ended', { reason: 'logout' }, '- | signed out'],
    ['session.ended', { reason: 'killed', by: 'dana' }, '- | ended by dana'],
    ['connection.opened', { protocol: 'mcp', resource: 'res_1' }, 'mcp/files | mcp'],
    ['connection.opened', { protocol: 'postgres', resource: 'res_9', database: 'd', user: 'u' }, 'res_9 | postgres d as u'],
    ['connection.opened', { protocol: 'mcp', resource: '*' }, 'mcp | mcp'],
    ['connection.closed', { protocol: 'mcp', resource: 'res_1', reason: 'locked', message: 'A lock.' }, 'mcp/files | locked: A lock.'],
    ['request.made', { kind: 'mcp', name: 'mail', reason: 'to write' }, '- | mcp mail: to write'],
    ['request.decided', { state: 'approved', kind: 'mcp', name: 'mail', resource: 'res_1' }, 'mcp/files | approved mcp mail'],
    ['request.made', { kind: 'access', role: 'writer', forMs: 600_000, reason: 'order 17' }, '- | access role writer for 10m: order 17'],
    ['request.made', { kind: 'access', role: 'writer', forMs: 600_000, breakGlass: true }, '- | access role writer for 10m (break-glass)'],
    ['request.voted', { kind: 'call', verdict: 'approve', reason: 'fine' }, '- | approve call: fine'],
    ['request.decided', { kind: 'call', state: 'approved', confirmation: true }, '- | approved call (confirmation)'],
    [
      'request.decided',
      { kind: 'access', state: 'approved', role: 'w', by: 'automatic: r request 0' },
      '- | approved access role w by automatic: r request 0',
    ],
    ['request.ended', { kind: 'access', state: 'revoked', reason: 'wrong table' }, '- | revoked access: wrong table'],
    ['request.reviewed', { note: 'incident 42' }, '- | incident 42'],
    ['message.refused', { reason: 'malformed', message: 'No JSON.', server: 'files' }, 'mcp/files | malformed: No JSON.'],
  ] as const)
    assert.equal(told(type, data), line)
})

test('data that is missing, cut or of another form says nothing, and is no fault', () => {
  const odd = { server: 5, pins: [1, null, {}], count: 'x', changes: 'x', reason: {}, code: 'x', resource: null, servers: [{}], what: 1, how: [] }
  for (const type of Object.keys(RECORD_TYPES) as RecordType[]) {
    assert.equal(told(type), '- | -', type)
    assert.equal(told(type, { cut: { size: 9, sha256: 'x' }, head: '{' }), '- | -', type)
    assert.equal(told(type, odd), '- | -', type)
  }
})

test('what others wrote does not make the line endless', () => {
  assert.ok(told('message.refused', { reason: 'x'.repeat(60_000), server: 'y'.repeat(60_000) }).length < 700)
})
