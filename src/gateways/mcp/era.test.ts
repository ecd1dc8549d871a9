import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { classifyInboundRequest } from '@modelcontextprotocol/server'
import fc from 'fast-check'
import { decodeHeader, eraOf } from './era.ts'
import { MCP_LIMITS } from './limits.ts'
import { type Message, ProtocolError, readMessages } from './wire.ts'

const VERSION = '2026-07-28'
const envelope = { 'io.modelcontextprotocol/protocolVersion': VERSION, 'io.modelcontextprotocol/clientCapabilities': {} }
const message = (method: string, params: object = {}, id: number | undefined = 1): Message =>
  readMessages(Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...(id === undefined ? {} : { id }), method, params })), MCP_LIMITS) as Message
const call = message('tools/call', { name: 'read', arguments: {}, _meta: envelope })
const headers = { 'mcp-protocol-version': VERSION, 'mcp-method': 'tools/call', 'mcp-name': 'read' }

const refuses = (given: Message, sent: Record<string, string>, code: number, http = 400) =>
  assert.throws(
    () => eraOf(given, sent),
    (error: unknown) => error instanceof ProtocolError && error.jsonrpc === code && error.http === http,
  )

describe('headers say what the body says, or the message is refused', () => {
  test('a complete modern call passes, padded and encoded headers too', () => {
    assert.equal(eraOf(call, headers), 'modern')
    assert.equal(eraOf(call, { ...headers, 'mcp-name': ' read ' }), 'modern')
    assert.equal(eraOf(call, { ...headers, 'mcp-name': '=?base64?cmVhZA==?=' }), 'modern')
  })
  test('rule 2: Mcp-Name says an allowed tool, the body a denied one (peers R10)', () => refuses(call, { ...headers, 'mcp-name': 'other' }, -32020))
  test('a name that differs in case only is another one', () => refuses(call, { ...headers, 'mcp-name': 'Read' }, -32020))
  test('a name that came twice', () => refuses(call, { ...headers, 'mcp-name': 'read, read' }, -32020))
  test('broken Base64', () => refuses(call, { ...headers, 'mcp-name': '=?base64?cmVhZA=?=' }, -32020))
  test('a method that differs', () => refuses(call, { ...headers, 'mcp-method': 'tools/list' }, -32020))
  test('a name that is missing', () => refuses(call, { 'mcp-protocol-version': VERSION, 'mcp-method': 'tools/call' }, -32020))
  test('a version header that differs, even from an unknown body version', () =>
    refuses(message('ping', { _meta: { ...envelope, 'io.modelcontextprotocol/protocolVersion': 'v999' } }), { ...headers }, -32020))
  test('an unknown version in both', () =>
    refuses(
      message('server/discover', { _meta: { ...envelope, 'io.modelcontextprotocol/protocolVersion': 'v999.0.0' } }),
      { 'mcp-protocol-version': 'v999.0.0', 'mcp-method': 'server/discover' },
      -32022,
    ))
  test('a modern header without the envelope', () => refuses(message('tools/list'), { 'mcp-protocol-version': VERSION }, -32602))
  test('an envelope without capabilities', () =>
    refuses(
      message('tools/list', { _meta: { 'io.modelcontextprotocol/protocolVersion': VERSION } }),
      { 'mcp-protocol-version': VERSION, 'mcp-method': 'tools/list' },
      -32602,
    ))
  for (const method of ['initialize', 'ping', 'logging/setLevel']) {
    test(`${method} does not exist in the modern era`, () =>
      refuses(message(method, { _meta: envelope }), { ...headers, 'mcp-method': method }, -32601, 404))
  }
  test('a legacy call whose Mcp-Name lies', () => refuses(message('tools/call', { name: 'read' }), { 'mcp-name': 'other' }, -32020))
  test('an unknown version header on a legacy message', () => refuses(message('tools/list'), { 'mcp-protocol-version': '1999-01-01' }, -32022))
  test('a legacy message without a version is tolerated (Gemini CLI sends none)', () => assert.equal(eraOf(message('tools/list'), {}), 'legacy'))
})

test('the era is the one that the SDK sees, wherever neither refuses', () => {
  const meta = fc.constantFrom(undefined, {}, envelope, { 'io.modelcontextprotocol/protocolVersion': VERSION }, { progressToken: 1 })
  const method = fc.constantFrom('initialize', 'tools/list', 'tools/call', 'server/discover', 'notifications/initialized')
  const version = fc.constantFrom(undefined, VERSION, '2025-06-18')
  fc.assert(
    fc.property(meta, method, version, fc.boolean(), (_meta, name, header, mirrored) => {
      const params = { ...(name === 'tools/call' ? { name: 'a' } : {}), ...(_meta === undefined ? {} : { _meta }) }
      const notification = name.startsWith('notifications/')
      const body = { jsonrpc: '2.0', ...(notification ? {} : { id: 1 }), method: name, params }
      const theirs = classifyInboundRequest({
        httpMethod: 'POST',
        body,
        ...(header ? { protocolVersionHeader: header } : {}),
        ...(mirrored ? { mcpMethodHeader: name } : {}),
      })
      let ours: string
      try {
        ours = eraOf(message(name, params, notification ? undefined : 1), {
          ...(header ? { 'mcp-protocol-version': header } : {}),
          ...(mirrored ? { 'mcp-method': name, 'mcp-name': 'a' } : {}),
        })
      } catch {
        return
      }
      if (theirs.kind !== 'reject') assert.equal(ours, theirs.kind)
      else assert.fail(`the SDK refuses what passes here: ${JSON.stringify(body)} ${header} ${JSON.stringify(theirs)}`)
    }),
  )
})

test('encoded header values come back as they were', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) =>
      assert.equal(decodeHeader(`=?base64?${Buffer.from(text.toWellFormed()).toString('base64')}?=`), text.toWellFormed()),
    ),
  )
})
