import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Request, readMessages, readUpstream } from '../wire.ts'
import { canBeAsked, isAnswer } from './input-responses.ts'
import { type Greeting, legacyCapabilities, sameness, toLegacy, toModern } from './modern-results.ts'

const greeting: Greeting = { version: '2025-11-25', capabilities: { tools: {} }, result: '{}', info: '{"name":"old","version":"1"}' }
const key = fc.string({ minLength: 1, maxLength: 8 }).map((text) => `x-${text}`)
// A key `__proto__` is refused before anything is translated.
const json = fc.jsonValue({ maxDepth: 3 }).filter((value) => !JSON.stringify(value).includes('"__proto__":')) as fc.Arbitrary<unknown>
const members = fc.dictionary(key, json, { maxKeys: 4 })

const read = (value: unknown): Request => readMessages(Buffer.from(JSON.stringify(value)), { bodyBytes: 1 << 20, depth: 64, batch: 1 }) as Request
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

test('rule 10: what a client sends arrives but for the envelope, whatever it is', () => {
  fc.assert(
    fc.property(members, members, members, fc.nat(), (params, meta, args, id) => {
      const envelope = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} }
      const sent = { ...params, name: 'tool', arguments: args, _meta: { ...meta, ...envelope }, requestState: 's', inputResponses: {} }
      const { text, params: parsed } = toLegacy(read({ jsonrpc: '2.0', id: 'theirs', method: 'tools/call', params: sent }), id)
      const expected = { ...params, name: 'tool', arguments: args, ...(Object.keys(meta).length > 0 ? { _meta: meta } : {}) }
      assert.deepEqual(JSON.parse(text), plain({ jsonrpc: '2.0', id, method: 'tools/call', params: expected }))
      assert.deepEqual(plain(parsed), plain(expected))
    }),
  )
})

test('rule 10: what a server answers arrives with what the modern era adds, whatever it is', () => {
  fc.assert(
    fc.property(members, members, fc.oneof(fc.string(), fc.nat()), (result, meta, id) => {
      const response = readUpstream(JSON.stringify({ jsonrpc: '2.0', id: 7, result: { ...result, _meta: meta }, 'x-more': 1 }))
      const { status, text } = toModern(read({ jsonrpc: '2.0', id: 1, method: 'tools/list' }), JSON.stringify(id), response, greeting)
      assert.equal(status, 200)
      const _meta = { ...meta, 'io.modelcontextprotocol/serverInfo': { name: 'old', version: '1' } }
      const expected = { ...result, _meta, resultType: 'complete', ttlMs: 0, cacheScope: 'private' }
      assert.deepEqual(JSON.parse(text), plain({ jsonrpc: '2.0', id, result: expected, 'x-more': 1 }))
    }),
  )
})

test('an answer that is neither a result nor an error, or both, or no object, is none', () => {
  const message = read({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'tool' } })
  for (const text of [
    '{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"m"}}',
    '{"jsonrpc":"2.0","id":1,"result":[]}',
    '{"jsonrpc":"2.0","id":1,"error":"no"}',
  ])
    assert.throws(() => toModern(message, '1', readUpstream(text), greeting), { code: 'upstream_unavailable' })
  assert.throws(() => toModern(message, '1', readUpstream('{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}'), greeting), { code: 'ambiguous' })
})

test('two requests are the same call when all but their envelope and their answers is', () => {
  const call = (text: string) => sameness(readMessages(Buffer.from(text), { bodyBytes: 1 << 20, depth: 64, batch: 1 }) as Request)
  const of = (params: string) => call(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tool",${params}}}`)
  assert.equal(
    of('"arguments":{"a":1,"b":2}'),
    of('"arguments": {"b":2.0,"a":1},"_meta":{"x":1},"requestState":"s","inputResponses":{"k":{"n":12345678901234567890}}'),
  )
  assert.notEqual(of('"arguments":{"a":12345678901234567890}'), of('"arguments":{"a":12345678901234567891}'))
  assert.notEqual(of('"arguments":{"a":1}'), of('"arguments":{"a":"1"}'))
  assert.notEqual(of('"arguments":{"a":1}'), of('"arguments":{"a":1},"more":1'))
})

test('a client is asked only what it declared, and only in the mode that it declared', () => {
  const url = { mode: 'url' }
  assert.equal(canBeAsked({ elicitation: {} }, 'elicitation/create', {}), true)
  assert.equal(canBeAsked({ elicitation: {} }, 'elicitation/create', url), false)
  assert.equal(canBeAsked({ elicitation: { url: {} } }, 'elicitation/create', url), true)
  assert.equal(canBeAsked({ elicitation: { url: {} } }, 'elicitation/create', {}), false)
  assert.equal(canBeAsked({ sampling: {} }, 'sampling/createMessage', { tools: [] }), false)
  assert.equal(canBeAsked({ sampling: { tools: {} } }, 'sampling/createMessage', { tools: [] }), true)
  assert.equal(canBeAsked({}, 'roots/list', {}), false)
  assert.equal(canBeAsked({ roots: {} }, 'vendor/ask', {}), false)
})

test('an answer must have the form of its method', () => {
  assert.equal(isAnswer('elicitation/create', { action: 'accept', content: {} }), true)
  assert.equal(isAnswer('elicitation/create', { action: 'accept', content: [] }), false)
  assert.equal(isAnswer('sampling/createMessage', { role: 'assistant', model: 'm', content: null }), false)
  assert.equal(isAnswer('roots/list', { roots: {} }), false)
  assert.equal(isAnswer('vendor/ask', {}), false)
})

test('the handshake declares what can be bridged', () => {
  const declared = {
    roots: { listChanged: true },
    tasks: {},
    sampling: { context: {} },
    extensions: { 'io.modelcontextprotocol/tasks': {}, 'io.modelcontextprotocol/ui': { mimeTypes: [] } },
  }
  assert.deepEqual(legacyCapabilities(declared), {
    roots: {},
    sampling: { context: {} },
    extensions: { 'io.modelcontextprotocol/ui': { mimeTypes: [] } },
  })
  assert.deepEqual(legacyCapabilities({}), {})
})
