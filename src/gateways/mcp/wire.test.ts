import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../../errors.ts'
import { MCP_LIMITS } from './limits.ts'
import { type Message, readMessages, readUpstream } from './wire.ts'

const read = (text: string | Buffer) => readMessages(Buffer.from(text as string), MCP_LIMITS)
const refused = (text: string | Buffer, code: string) =>
  assert.throws(
    () => read(text),
    (error: unknown) => error instanceof ChaperoneError && error.code === code,
  )

const call = '"jsonrpc":"2.0","id":1,"method":"tools/call"'
const params = '"params":{"name":"read","arguments":{"path":"/a"}}'

const BAD: Record<string, readonly [text: string | Buffer, code: string]> = {
  'a case variant of `name` in params (peers R01)': [`{${call},"params":{"name":"allowed","Name":"denied"}}`, 'ambiguous'],
  'a second Params beside params (peers R02)': [`{${call},${params},"Params":{"name":"denied"}}`, 'ambiguous'],
  'a Method beside method (peers R03)': [`{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call",${params}}`, 'ambiguous'],
  'ID instead of id (peers R04)': [`{"jsonrpc":"2.0","ID":1,"method":"tools/call",${params}}`, 'ambiguous'],
  'a key that Unicode folds to a protocol key': [`{${call},"param\u017f":{}}`, 'ambiguous'],
  'a variant of arguments': [`{${call},"params":{"name":"a","arguments":{},"Arguments":{}}}`, 'ambiguous'],
  'a variant of _meta': [`{${call},"params":{"name":"a","_META":{}}}`, 'ambiguous'],
  'a variant of uri': [`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a","URI":"b"}}`, 'ambiguous'],
  'a duplicate key (peers R05)': [`{${call},"params":{"name":"a","name":"b"}}`, 'ambiguous'],
  'a duplicate key written with an escape': [`{${call},"params":{"name":"a","n\\u0061me":"b"}}`, 'ambiguous'],
  'a duplicate key deep in the arguments': [`{${call},"params":{"name":"a","arguments":{"x":{"k":1,"k":2}}}}`, 'ambiguous'],
  'a byte order mark': [`\ufeff{${call},${params}}`, 'malformed'],
  'trailing data': [`{${call},${params}} {}`, 'malformed'],
  'two messages on two lines': [`{${call},${params}}\n{${call},${params}}`, 'malformed'],
  'a raw NUL': [`{${call},"params":{"name":"a\0b"}}`, 'malformed'],
  'an escaped NUL': [`{${call},"params":{"name":"a","arguments":{"path":"/a\\u0000.txt"}}}`, 'ambiguous'],
  'UTF-16': [Buffer.from(`{${call},${params}}`, 'utf16le'), 'malformed'],
  'broken UTF-8': [Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 'malformed'],
  'half a surrogate pair': [`{${call},"params":{"name":"\\ud800"}}`, 'ambiguous'],
  'an overlong message': [`{${call},"params":{"name":"a","arguments":{"x":"${'x'.repeat(MCP_LIMITS.bodyBytes)}"}}}`, 'too_large'],
  'a deep message': [`{${call},"params":{"name":"a","arguments":{"x":${'['.repeat(100)}${']'.repeat(100)}}}}`, 'too_large'],
  'a very deep message': ['['.repeat(1_000_000), 'too_large'],
  'an empty batch': ['[]', 'malformed'],
  'a batch of a thousand': [`[${Array(1000).fill('{"jsonrpc":"2.0","method":"x"}').join(',')}]`, 'too_large'],
  'a batch in a batch': ['[[{"jsonrpc":"2.0","method":"x"}]]', 'malformed'],
  'a text': ['"ping"', 'malformed'],
  null: ['null', 'malformed'],
  'no JSON': ['GET / HTTP/1.1', 'malformed'],
  'an empty body': ['', 'malformed'],
  'another version of JSON-RPC': ['{"jsonrpc":"1.0","id":1,"method":"ping"}', 'malformed'],
  'a null id': ['{"jsonrpc":"2.0","id":null,"method":"ping"}', 'malformed'],
  'an id that is a fraction': ['{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 'malformed'],
  'an id that a double does not keep': ['{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}', 'malformed'],
  'an id that is an object': ['{"jsonrpc":"2.0","id":{},"method":"ping"}', 'malformed'],
  'an endless id': [`{"jsonrpc":"2.0","id":"${'i'.repeat(1000)}","method":"ping"}`, 'malformed'],
  'a method with a line break': ['{"jsonrpc":"2.0","id":1,"method":"tools/call\\n"}', 'malformed'],
  'params as a list': ['{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', 'malformed'],
  'arguments as a text': [`{${call},"params":{"name":"a","arguments":"{}"}}`, 'malformed'],
  'a call without a name': [`{${call},"params":{}}`, 'malformed'],
  'a call whose name is a list': [`{${call},"params":{"name":["a"]}}`, 'malformed'],
  'a request that is a response too': [`{${call},${params},"result":{}}`, 'malformed'],
  'a response with both outcomes': ['{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}', 'malformed'],
  'an unknown member': [`{${call},${params},"extra":1}`, 'malformed'],
  ['__proto__']: [`{${call},"params":{"name":"a","__proto__":{"name":"b"}}}`, 'ambiguous'],
}

for (const [what, [text, code]] of Object.entries(BAD)) test(`rule 2: ${what} is refused as ${code}`, () => refused(text, code))

test('rule 10: unknown params, order and numbers do not disturb a message', () => {
  const text = `{"params":{"zeta":1.0,"name":"a","arguments":{"n":12345678901234567890,"Name":"mine","x":"\\\\u0000"}},${call}}`
  const message = read(text) as Message
  assert.equal(message.text, text)
  assert.deepEqual([...message.lossy], ['/params/arguments/n'])
})

test('a batch is cut into the very texts of its messages', () => {
  const one = '{"jsonrpc":"2.0", "method":"a"}'
  const two = '{"id":"x","jsonrpc":"2.0","method":"b","params":{"n":1e400}}'
  const [first, second] = read(`[ ${one} ,\n${two}]`) as Message[]
  assert.equal(first!.text, one)
  assert.equal(second!.text, two)
  assert.deepEqual([...second!.lossy], ['/params/n'])
})

test('whatever arrives is read or refused with a code, and what is read says what its text says', () => {
  const key = fc.constantFrom('jsonrpc', 'id', 'method', 'params', 'Method', 'ID', 'result', 'error', 'x')
  const value = fc.oneof(
    fc.constant('2.0'),
    fc.constant('tools/call'),
    fc.integer(),
    fc.constant(null),
    fc.dictionary(fc.constantFrom('name', 'Name', 'arguments', '_meta', 'uri'), fc.oneof(fc.string(), fc.constant({}))),
  )
  const almost = fc
    .array(fc.tuple(key, value), { maxLength: 6 })
    .map((pairs) => `{${pairs.map(([name, item]) => `${JSON.stringify(name)}:${JSON.stringify(item)}`).join(',')}}`)
  fc.assert(
    fc.property(fc.oneof(almost, fc.json(), fc.string()), (text) => {
      let messages: Message | readonly Message[]
      try {
        messages = read(text)
      } catch (error) {
        assert.ok(error instanceof ChaperoneError && ['malformed', 'ambiguous', 'too_large'].includes(error.code), String(error))
        return
      }
      for (const message of [messages].flat() as Message[]) {
        const value = JSON.parse(message.text)
        assert.equal('method' in message ? message.method : undefined, value.method)
        assert.equal(message.kind === 'notification' ? undefined : message.id, value.id)
      }
    }),
    { numRuns: 2000 },
  )
})

test('a server message is routed by exactly one reading', () => {
  for (const bad of [
    '{"id":1,"id":2,"result":{}}',
    '{"id":1,"Id":2,"result":{}}',
    '{"id":1}',
    '[]',
    'listening on stdio',
    '{"id":{},"method":"x"}',
    '{"id":1,"result":{}',
  ]) {
    assert.throws(() => readUpstream(bad), ChaperoneError, bad)
  }
  const { kind, id } = readUpstream(' { "result" : {"id":9,"id":8} , "id" : "a\\"b" } ')
  assert.deepEqual({ kind, id }, { kind: 'response', id: 'a"b' })
})
