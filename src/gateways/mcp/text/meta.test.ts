import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { continueTrace } from '../trace.ts'
import { type Request, readMessages } from '../wire.ts'
import { withMeta, withoutSpoofed } from './meta.ts'

const LIMITS = { bodyBytes: 1e6, depth: 32, batch: 1 }
const read = (text: string) => readMessages(Buffer.from(text), LIMITS) as Request
const call = (meta: string) => `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","big":12345678901234567890,"_meta":${meta}}}`
const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

describe('_meta of a client', () => {
  test('what looks like a word of Chaperone is taken out, the rest stays as it was written', () => {
    const text = call('{"x":1.0,"dev.chaperone/decision":"dec_1","Dev.Chaperone/origin":"proxy","progressToken":7}')
    assert.equal(withoutSpoofed(text), call('{"x":1.0,"progressToken":7}'))
  })

  test('a message in which nothing changes is the same text', () => {
    const text = call('{ "x" : 1.0 }')
    assert.equal(withoutSpoofed(text), text)
  })

  test('a message without params gets them only when there is something to say', () => {
    const set = (members: Map<string, string>) => void members.set('a', '1')
    assert.equal(
      withMeta('{"jsonrpc":"2.0"}', () => {}),
      '{"jsonrpc":"2.0"}',
    )
    assert.deepEqual(JSON.parse(withMeta('{"jsonrpc":"2.0"}', set)), { jsonrpc: '2.0', params: { _meta: { a: 1 } } })
    assert.deepEqual(JSON.parse(withMeta('{"params":{}}', set)), { params: { _meta: { a: 1 } } })
    assert.deepEqual(JSON.parse(withMeta('{"params":{"b":2}}', set)), { params: { _meta: { a: 1 }, b: 2 } })
  })

  test('the reader strips it, so the record and the server see the same message', () => {
    const message = read(call('{"dev.chaperone/decision":"dec_1"}'))
    assert.deepEqual(message.params._meta, {})
    assert.doesNotMatch(message.text, /chaperone/)
  })
})

describe('the trace of a client', () => {
  test('is continued with a span of ours, from _meta before the header', () => {
    const other = '00-11111111111111111111111111111111-2222222222222222-00'
    const { message, headers, trace } = continueTrace(read(call(`{"traceparent":"${PARENT}"}`)), { traceparent: other })
    assert.equal(trace, '0af7651916cd43dd8448eb211c80319c')
    const sent = JSON.parse(message.text).params._meta.traceparent as string
    assert.match(sent, /^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01$/)
    assert.notEqual(sent, PARENT)
    assert.equal(headers.traceparent, sent)
  })

  test('goes from the header into the message too, where a stdio server reads it', () => {
    const { message, headers } = continueTrace(read(call('{}')), { traceparent: PARENT, tracestate: 'a=1' })
    assert.equal(JSON.parse(message.text).params._meta.traceparent, headers.traceparent)
    assert.equal(JSON.parse(message.text).params._meta.tracestate, 'a=1')
  })

  test('baggage does not cross the border, and what is no trace is left alone', () => {
    const { message, trace } = continueTrace(read(call(`{"baggage":"user=boris","traceparent":"nonsense"}`)), {})
    assert.equal(trace, undefined)
    assert.deepEqual(JSON.parse(message.text).params._meta, { traceparent: 'nonsense' })
  })

  test('a message without one is the same message', () => {
    const message = read(call('{"progressToken":1}'))
    assert.equal(continueTrace(message, {}).message, message)
  })
})
