import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clientLabel, clientNameIn } from './mcp-headers.ts'

test("the client's own name is found in both eras and made fit for an identity's name", () => {
  assert.equal(clientNameIn({ method: 'initialize', params: { clientInfo: { name: 'claude-ai' } } }), 'claude-ai')
  assert.equal(
    clientNameIn({ method: 'server/discover', params: { _meta: { 'io.modelcontextprotocol/clientInfo': { name: 'Claude Code' } } } }),
    'Claude Code',
  )
  assert.equal(clientLabel('Claude Code'), 'claude-code')
  assert.equal(clientLabel('../../etc'), 'etc')
  assert.equal(clientLabel('✓'), 'mcp-client')
  assert.equal(clientLabel(undefined), 'mcp-client')
})
