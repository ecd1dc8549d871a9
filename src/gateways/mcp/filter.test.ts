import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../../errors.ts'
import { filterList } from './filter.ts'

const limits = { bytes: 1_000_000, ttlMs: 60_000 }
const named = (name: string) => (item: unknown) => (item as { name: string }).name === name
const list = (result: string) => `{"jsonrpc":"2.0","id":1,"result":${result}}`

test("rule 10: what stays of a list is the server's own text, unknown fields and numbers included (peers R14)", () => {
  const kept = '{"x-new": {"n": 12345678901234567890}, "name":"a" , "inputSchema":{"$defs":{"z":1.0}}}'
  const { text } = filterList(
    list(`{ "tools" : [ {"name":"b"}, ${kept},{"name":"c"} ], "nextCursor":"", "other":1e2 }`),
    'tools/list',
    named('a'),
    limits,
  )
  assert.equal(text, list(`{ "tools" : [${kept}], "nextCursor":"", "other":1e2 }`))
})

test('a list of which everything may be seen keeps its very bytes', () => {
  const text = list('{"tools":[ {"name":"a"} ]}')
  assert.equal(filterList(text, 'tools/list', () => true, limits).text, text)
})

test('a modern list becomes private and its life is capped, even if nothing was taken out', () => {
  const { text } = filterList(list('{"resultType":"complete","tools":[],"ttlMs":86400000,"cacheScope":"public"}'), 'tools/list', () => true, limits)
  assert.equal(text, list('{"resultType":"complete","tools":[],"ttlMs":60000,"cacheScope":"private"}'))
  assert.match(filterList(list('{"tools":[],"ttlMs":5}'), 'tools/list', () => true, limits).text, /"ttlMs":5/)
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
    assert.throws(() => filterList(bad, 'tools/list', named('a'), limits), ChaperoneError, bad)
  }
})

test('an error in the place of a list passes', () => {
  const text = '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"bad cursor"}}'
  assert.equal(filterList(text, 'tools/list', () => false, limits).text, text)
})
