import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Action } from '../../../policy/types.ts'
import { whatCanBeDone } from './server.ts'

/** What somebody is told who may only read, of a server with one tool, which says of itself that it only reads. */
async function toldOf(spec: object) {
  const resource = { kind: 'mcp', id: 'res_files', name: 'files', labels: {} }
  const approved = JSON.stringify({ name: 'read_file', annotations: { readOnlyHint: true, openWorldHint: false } })
  const row = { kind: 'tool', name: 'read_file', approved, approved_sha256: 'a', pending_sha256: null }
  const parts = {
    requests: { ways: () => [] },
    guard: { judge: (_: unknown, { effects }: Action) => ({ verdict: effects.every((effect) => effect === 'read') ? 'allow' : 'deny' }) },
    resources: { list: () => [{ resource, spec: { tools: {}, ...spec } }] },
    pins: { rows: async () => [row], row: async () => row },
    databases: () => [],
  }
  const { servers } = await whatCanBeDone(parts as never, {} as never, undefined)
  return servers[0]!.allowed
}

test('what a delegation to read leaves is told with the effects that a trusted server states, as its list has them', async () => {
  assert.deepEqual(await toldOf({ trusted: true }), ['read_file'])
})

test('the word of a server that is not trusted opens nothing in what is told', async () => {
  assert.deepEqual(await toldOf({ trusted: false }), [])
  assert.deepEqual(await toldOf({ trusted: true, tools: { read_file: { effects: ['write'] } } }), [])
})
