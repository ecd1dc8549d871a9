import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { type Harness, harness, type Json, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { MCP_LIMITS } from '../../src/gateways/mcp/limits.ts'
import { type RawServer, rawServer } from './raw-server.ts'
import { MODERN } from './whole.ts'

// A message that two readers could read in two ways reaches nobody, by no endpoint and in neither era.

const META = `"_meta":{"io.modelcontextprotocol/protocolVersion":"${MODERN}","io.modelcontextprotocol/clientCapabilities":{}}`

/** ALLOWED and DENIED become the names of tools at the endpoint, META the envelope of the era. */
const SHAPES: Readonly<Record<string, readonly [number: string, text: string]>> = {
  'Name beside name': ['R01', '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ALLOWED","Name":"DENIED","arguments":{},META}}'],
  'Name before name': ['R01', '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"DENIED","name":"ALLOWED","arguments":{},META}}'],
  'NAME alone beside arguments': [
    'R01',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ALLOWED","NAME":"DENIED","arguments":{},META}}',
  ],
  'Params beside params': [
    'R02',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ALLOWED","arguments":{},META},"Params":{"name":"DENIED","arguments":{}}}',
  ],
  'Method beside method': ['R03', '{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"DENIED","arguments":{},META}}'],
  'ID in the place of id': ['R04', '{"jsonrpc":"2.0","ID":1,"method":"tools/call","params":{"name":"DENIED","arguments":{},META}}'],
  'no id at all': ['R04', '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"DENIED","arguments":{},META}}'],
  'name twice': ['R05', '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ALLOWED","name":"DENIED","arguments":{},META}}'],
  'name and its escape': [
    'R05',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ALLOWED","n\\u0061me":"DENIED","arguments":{},META}}',
  ],
  'a byte order mark': ['R05', '\ufeff{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"DENIED","arguments":{},META}}'],
  'another message behind it': [
    'R05',
    '{"jsonrpc":"2.0","id":1,"method":"ping","params":{META}}\n{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"DENIED","arguments":{},META}}',
  ],
  'a batch': ['R05', '[{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"DENIED","arguments":{},META}}]'],
  depth: [
    'R05',
    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ALLOWED","arguments":{"x":${'['.repeat(500)}${']'.repeat(500)}},META}}`,
  ],
}

describe('rule 2: what could be read in two ways is refused, recorded, and reaches no server (R01, R02, R03, R04, R05)', () => {
  let raw: RawServer
  let given: Harness
  const sessions: Record<string, Record<string, string>> = {}
  before(async () => {
    raw = await rawServer('legacy', ['ok', 'drop'])
    given = await harness({ role: { allow: [{ mcp: 'any', tools: ['ok'] }] }, servers: { s: { url: raw.url } } })
    for (const path of ['s', '']) sessions[path] = await openSession(given, path)
  })
  after(async () => {
    await given.close()
    raw.close()
  })

  test('a message that is too large says whose limit it is and how much, in the protocol’s own form (R12)', async () => {
    const large = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ok","arguments":{"x":"${'x'.repeat(MCP_LIMITS.bodyBytes)}"}}}`
    for (const path of ['s', '']) {
      const answer = await given.post(path, large, sessions[path]!)
      assert.deepEqual([answer.status, answer.headers.get('x-chaperone-origin')], [413, 'proxy'])
      assert.match(answer.headers.get('content-type') ?? '', /^application\/json/)
      const { jsonrpc, error } = (await answer.json()) as Json
      assert.deepEqual([jsonrpc, error.data.reason, error.data.origin], ['2.0', 'too_large', 'proxy'])
      assert.match(error.message, new RegExp(`Chaperone, ${MCP_LIMITS.bodyBytes} bytes`))
    }
    const page = readFileSync(new URL('../../docs/operate.md', import.meta.url), 'utf8')
    assert.ok(
      page.includes(
        `| one message of a client | ${MCP_LIMITS.bodyBytes / 1024 / 1024} MiB, ${MCP_LIMITS.bodyMs / 1000} s, ${MCP_LIMITS.depth} levels deep |`,
      ),
    )
  })

  for (const [what, [number, shape]] of Object.entries(SHAPES)) {
    for (const path of ['s', '']) {
      for (const era of ['legacy', 'modern'] as const) {
        test(`${number}: ${what}, ${era}, ${path === '' ? 'all servers' : 'one server'}`, async () => {
          const prefix = path === '' ? 's__' : ''
          const text = shape
            .replaceAll('ALLOWED', `${prefix}ok`)
            .replaceAll('DENIED', `${prefix}drop`)
            .replaceAll(era === 'modern' ? /META/g : /,?META/g, era === 'modern' ? META : '')
          const modern = { 'mcp-protocol-version': MODERN, 'mcp-method': 'tools/call', 'mcp-name': `${prefix}ok` }
          const since = given.records.length
          const answer = await given.post(path, text, era === 'modern' ? modern : sessions[path]!)
          assert.doesNotMatch(await answer.text(), /done/)
          assert.equal(raw.calls('drop') + raw.calls('ok'), 0)
          assert.equal(raw.got.filter(({ text: got }) => /drop/.test(got)).length, 0)
          const added = given.records.slice(since)
          // At the endpoint of all, a notification goes nowhere and asks for nothing.
          if (what === 'no id at all' && path === '') return
          assert.ok(
            added.some(({ type }) => type === 'message.refused' || type === 'action.refused'),
            JSON.stringify(added),
          )
        })
      }
    }
  }
})
