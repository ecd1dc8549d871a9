import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Request, readMessages } from '../wire.ts'
import { cutName, cutUri, exposedItems, exposedName, exposedResponse, exposedUri, prefixOf, routed } from './exposed-names.ts'

const documentName = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,20}$/)
/** A document of a server, or a database of one: any letters stand behind its slash. */
const serverName = fc.oneof(
  documentName,
  fc.tuple(documentName, fc.oneof(fc.stringMatching(/^[a-z_-]{1,6}$/), fc.string({ minLength: 1 }))).map((parts) => parts.join('/')),
)
const read = (message: unknown) => readMessages(Buffer.from(JSON.stringify(message)), { bodyBytes: 1e6, depth: 32, batch: 1 }) as Request

test('R91, R92: no two things of different servers have one name, and each is found again', () => {
  fc.assert(
    fc.property(serverName, fc.string({ minLength: 1 }), serverName, fc.string({ minLength: 1 }), (a, x, b, y) => {
      assert.deepEqual(cutName(exposedName(a, x)), { prefix: prefixOf(a), own: x })
      assert.deepEqual(cutUri(exposedUri(a, x)), { prefix: prefixOf(a), own: x })
      if (exposedName(a, x) === exposedName(b, y)) assert.deepEqual([a, x], [b, y])
      if (exposedUri(a, x) === exposedUri(b, y)) assert.deepEqual([a, x], [b, y])
    }),
  )
  assert.notEqual(exposedName('acme_', 'status'), exposedName('acme', '_status'))
  assert.notEqual(prefixOf('a.b'), prefixOf('a_b'))
})

test('a prefix is what models accept in the name of a tool', () => {
  fc.assert(fc.property(documentName, (name) => assert.match(prefixOf(name), /^[a-z0-9-]{1,64}$/)))
  fc.assert(fc.property(serverName, (name) => assert.match(prefixOf(name), /^[a-z0-9_-]+$/)))
  assert.equal(exposedName('prod/top_secret', 'query'), 'prod_top_secret__query')
})

test('a name without a server leads nowhere', () => {
  for (const name of ['read', '__read', '_a__read', 'A__read', '']) assert.equal(cutName(name), undefined, name)
})

test('a call is rewritten only where it names its target', () => {
  const call = read({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'files__read', arguments: { name: 'files__read' } } })
  const found = routed(call)!
  assert.equal(found.prefix, 'files')
  assert.deepEqual(JSON.parse(found.text).params, { name: 'read', arguments: { name: 'files__read' } })
  const template = read({ jsonrpc: '2.0', id: 1, method: 'completion/complete', params: { ref: { type: 'ref/resource', uri: 'files+file:///{x}' } } })
  assert.equal(JSON.parse(routed(template)!.text).params.ref.uri, 'file:///{x}')
})

test('lists keep what they say of each thing, numbers and unknown fields included', () => {
  const text = '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"big":1.50,"name":"a","x":{"name":"a"}},{"name":"b"}]}}'
  assert.deepEqual(exposedItems('files', text, 'tools'), ['{"big":1.50,"name":"files__a","x":{"name":"a"}}', '{"name":"files__b"}'])
})

test('links in an answer lead to this endpoint, and text that only looks like one stays', () => {
  const content = [
    { type: 'resource_link', uri: 'file:///a' },
    { type: 'resource', resource: { uri: 'file:///b', text: '"uri":"file:///c"' } },
    { type: 'text', text: 'x', uri: 'not-a-link' },
  ]
  const out = JSON.parse(exposedResponse('files', JSON.stringify({ jsonrpc: '2.0', id: 1, result: { content } }))).result.content
  assert.equal(out[0].uri, 'files+file:///a')
  assert.deepEqual(out[1].resource, { uri: 'files+file:///b', text: '"uri":"file:///c"' })
  assert.equal(out[2].uri, 'not-a-link')
})
