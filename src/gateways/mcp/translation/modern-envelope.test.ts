import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MCP_LIMITS } from '../limits.ts'
import { appending, edited, spanAt, without } from '../text/json-text.ts'
import { type Request, readMessages } from '../wire.ts'
import { enveloped, plainHeaders } from './modern-envelope.ts'

const facts = { capabilities: '{"a":1.50}', info: '{"name":"x"}', level: undefined }
const ENVELOPE = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': { a: 1.5 },
  'io.modelcontextprotocol/clientInfo': { name: 'x' },
}
const key = fc.constantFrom('a', 'b', '_meta', 'io.modelcontextprotocol/logLevel', 'io.modelcontextprotocol/clientInfo', 'é"\\', '{', '', 'params')
/** As JSON has it: there is no minus zero when it is written again; and as the reader takes it: it refuses a key `__proto__`. */
const object = fc
  .dictionary(key, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 4 })
  .map((value) => JSON.parse(JSON.stringify(value)) as typeof value)
  .filter((value) => !JSON.stringify(value).includes('"__proto__"'))
/** Spaces and line breaks between the tokens of some JSON: its meaning stays. */
const spaced = (value: unknown, indent: string) => JSON.stringify(value, undefined, indent)

test('any request gets the envelope, and all else in it stays', () => {
  fc.assert(
    fc.property(
      fc.option(object, { nil: undefined }),
      fc.option(object, { nil: undefined }),
      fc.constantFrom('', ' ', '\t'),
      fc.boolean(),
      (given, meta, indent, further) => {
        const { _meta, ...rest } = given ?? {}
        const params = given && { ...rest, ...(meta ? { _meta: meta } : {}) }
        const text = spaced({ method: 'x/y', ...(params ? { params } : {}), id: 5, jsonrpc: '2.0' }, indent)
        const message = readMessages(Buffer.from(text), MCP_LIMITS) as Request
        const out = enveloped(message, 'new', facts, further ? [['further', '[1.0]']] : [])
        const { 'io.modelcontextprotocol/logLevel': level, ...kept } = params?._meta ?? {}
        assert.deepEqual(JSON.parse(out), {
          method: 'x/y',
          id: 'new',
          jsonrpc: '2.0',
          params: { ...params, ...(further ? { further: [1] } : {}), _meta: { ...kept, ...ENVELOPE } },
        })
      },
    ),
  )
})

test('a member is put in and taken out without a change to any other', () => {
  fc.assert(
    fc.property(object, key, fc.constantFrom('', ' '), (value, name, indent) => {
      const text = spaced({ deep: value }, indent)
      const rest = Object.fromEntries(Object.entries(value).filter(([other]) => other !== name))
      const less = without(text, ['deep', name])
      assert.deepEqual(JSON.parse(less), { deep: rest })
      if (!(name in value)) assert.equal(less, text)
      const more = edited(less, [appending(less, spanAt(less, ['deep'])!, `${JSON.stringify(name)}:1.0`)])
      assert.deepEqual(JSON.parse(more), { deep: { ...rest, [name]: 1 } })
      assert.equal(without(more, ['deep', name]).replaceAll(/\s/g, ''), less.replaceAll(/\s/g, ''))
    }),
  )
  assert.equal(without('{"a":1.50,"b":2e0}', ['a']), '{"b":2e0}')
  assert.equal(without('[1]', ['a']), '[1]')
  assert.equal(without('{"a":[1]}', ['a', 'b']), '{"a":[1]}')
})

test("headers about the client's own message do not go on", () => {
  const headers = { 'mcp-method': 'a', 'mcp-param-x': 'b', 'mcp-session-id': 'c', 'last-event-id': '1', traceparent: 't', accept: '*/*' }
  assert.deepEqual(plainHeaders(headers), { traceparent: 't', accept: 'application/json, text/event-stream', 'content-type': 'application/json' })
})
