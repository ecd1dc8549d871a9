import assert from 'node:assert/strict'
import { test } from 'node:test'
import { headerValue, type Json, learnMirrored, type Mirrored, modernHeaders, modernVersion } from './modern-headers.ts'

const modern = (method: string, params: Json = {}) => ({
  jsonrpc: '2.0',
  id: 1,
  method,
  params: {
    ...params,
    _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' },
  },
})

test('a message of the stateless era gets the headers that repeat its body', () => {
  const message = modern('tools/call', { name: 'read file', arguments: {} })
  assert.deepEqual(modernHeaders(message, new Map()), { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'read file' })
  assert.equal(
    modernHeaders(modern('resources/read', { uri: 'file:///é' }), new Map())['mcp-name'],
    `=?base64?${Buffer.from('file:///é').toString('base64')}?=`,
  )
  assert.equal(modernVersion({ method: 'initialize', params: {} }), undefined)
})

test('a name that would end the header line travels as base64', () => {
  assert.equal(headerValue('a\r\nx-evil: 1'), '=?base64?YQ0KeC1ldmlsOiAx?=')
  assert.equal(headerValue(' padded'), '=?base64?IHBhZGRlZA==?=')
  assert.equal(headerValue('=?base64?eA==?='), `=?base64?${Buffer.from('=?base64?eA==?=').toString('base64')}?=`)
  assert.equal(headerValue('=?base64?only a prefix'), '=?base64?only a prefix')
})

test('arguments that a tool marks with x-mcp-header are mirrored, others and nulls are not', () => {
  const mirrored: Mirrored = new Map()
  const properties = {
    region: { type: 'string', 'x-mcp-header': 'Region' },
    deep: { type: 'object', properties: { on: { type: 'boolean', 'x-mcp-header': 'On' } } },
    plain: {},
  }
  learnMirrored(
    {
      tools: [
        { name: 't', inputSchema: { type: 'object', properties } },
        { name: 'bad', inputSchema: { properties: { x: { 'x-mcp-header': 'no spaces!\n' } } } },
      ],
    },
    mirrored,
  )
  const headers = modernHeaders(modern('tools/call', { name: 't', arguments: { region: 'eu', deep: { on: true }, plain: 'x' } }), mirrored)
  assert.equal(headers['mcp-param-region'], 'eu')
  assert.equal(headers['mcp-param-on'], 'true')
  assert.equal(Object.keys(headers).filter((name) => name.startsWith('mcp-param-')).length, 2)
  assert.equal(modernHeaders(modern('tools/call', { name: 't', arguments: { region: null } }), mirrored)['mcp-param-region'], undefined)
  assert.equal(mirrored.has('bad'), false)
})
