import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../../../errors.ts'
import { readList } from './filter.ts'

const limits = { bytes: 1_000_000, ttlMs: 60_000 }
const named = (name: string) => (value: unknown) => (value as { name: string }).name === name
const filtered = (text: string, keep: (value: unknown) => boolean, withheld?: readonly string[]) =>
  readList(text, 'tools/list', limits).text((item) => keep(item.value), withheld)
const list = (result: string) => `{"jsonrpc":"2.0","id":1,"result":${result}}`

test("rule 10: what stays of a list is the server's own text, unknown fields and numbers included (peers R14)", () => {
  const kept = '{"x-new": {"n": 12345678901234567890}, "name":"a" , "inputSchema":{"$defs":{"z":1.0}}}'
  const text = filtered(list(`{ "tools" : [ {"name":"b"}, ${kept},{"name":"c"} ], "nextCursor":"", "other":1e2 }`), named('a'))
  assert.equal(text, list(`{ "tools" : [${kept}], "nextCursor":"", "other":1e2 }`))
})

test('a list of which everything may be seen keeps its very bytes', () => {
  const text = list('{"tools":[ {"name":"a"} ]}')
  assert.equal(
    filtered(text, () => true),
    text,
  )
})

test('a modern list becomes private and its life is capped, even if nothing was taken out', () => {
  const text = filtered(list('{"resultType":"complete","tools":[],"ttlMs":86400000,"cacheScope":"public"}'), () => true)
  assert.equal(text, list('{"resultType":"complete","tools":[],"ttlMs":60000,"cacheScope":"private"}'))
  assert.match(
    filtered(list('{"tools":[],"ttlMs":5}'), () => true),
    /"ttlMs":5/,
  )
})

test('rule 1: a list that cannot be filtered is not passed on', () => {
  for (const bad of [
    list('{"tools":[{"name":"a"}],"tools":[{"name":"b"}]}'),
    list('{"tools":[{"name":"a"}],"Tools":[{"name":"b"}]}'),
    '{"jsonrpc":"2.0","id":1,"result":{"tools":[]},"Result":{"tools":[{"name":"b"}]}}',
    list('{"tools":{"0":{"name":"b"}}}'),
    list('{"resultType":"input_required","tools":[{"name":"b"}]}'),
    list('[{"name":"b"}]'),
    '{"jsonrpc":"2.0","id":1}',
    'x',
  ]) {
    assert.throws(() => filtered(bad, named('a')), ChaperoneError, bad)
  }
})

test('an error in the place of a list passes', () => {
  const text = '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"bad cursor"}}'
  assert.equal(
    filtered(text, () => false),
    text,
  )
})

test('what is left out for its definition is named in `_meta`; a key of that name that the server sent is not believed', () => {
  const say = (result: string) => JSON.parse(filtered(list(result), named('a'), ['b'])).result
  assert.deepEqual(say('{"tools":[{"name":"a"},{"name":"b"}]}'), { _meta: { 'dev.chaperone/quarantined': ['b'] }, tools: [{ name: 'a' }] })
  assert.deepEqual(say('{"tools":[],"_meta":{"x":1,"dev.chaperone/quarantined":[]}}')._meta, { 'dev.chaperone/quarantined': ['b'], x: 1 })
  assert.deepEqual(say('{"_meta":{},"tools":[]}')._meta, { 'dev.chaperone/quarantined': ['b'] })
  assert.deepEqual(say('{"_meta":null,"tools":[]}')._meta, { 'dev.chaperone/quarantined': ['b'] })
})

test('an item with a number that no double keeps is known as such', () => {
  const { items } = readList(list('{"n":12345678901234567890,"tools":[{"name":"a"},{"name":"b","max":12345678901234567890}]}'), 'tools/list', limits)
  assert.deepEqual(
    items.map((item) => item.exact),
    [true, false],
  )
})
