import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { answerOf, type Harness, harness, type Json, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { type Fixture, startFixture } from './fixture/fixture.ts'

const EVERYTHING = { allow: [{ mcp: 'any', can: 'any' }] }
const VERSION = '2026-07-28'
const capabilities = { elicitation: { form: {} } }
const envelope = (clientCapabilities: object = capabilities) => ({
  'io.modelcontextprotocol/protocolVersion': VERSION,
  'io.modelcontextprotocol/clientCapabilities': clientCapabilities,
})

describe('what a client brings back, and what stands beside its message', () => {
  let fixture: Fixture
  let given: Harness
  before(async () => {
    fixture = await startFixture({ era: 'modern' })
    given = await harness({ role: EVERYTHING, servers: { s: { url: fixture.url } } })
  })
  after(async () => {
    await given.close()
    await fixture.close()
  })

  const call = (name: string, params: object = {}, headers: Record<string, string> = {}) =>
    given.post(
      's',
      { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: {}, _meta: envelope(), ...params } },
      { 'mcp-protocol-version': VERSION, 'mcp-method': 'tools/call', 'mcp-name': name, ...headers },
    )
  const TOOL = 'test_input_required_result_request_state'
  const stateFor = async (): Promise<string> => (await answerOf(await call(TOOL))).result.requestState
  const answers = { confirm: { action: 'accept', content: { ok: true } } }
  const reached = () => fixture.world.received.length
  const refusedLast = () => given.of('message.refused').at(-1)?.data as Record<string, unknown>

  test('R51: a requestState opens the call of the identity that it was given to, and nobody else’s', async () => {
    const requestState = await stateFor()
    const before = reached()
    const stolen: Json = await answerOf(await call(TOOL, { inputResponses: answers, requestState }, { 'x-test-as': 'mallory' }))
    assert.equal(stolen.error.code, -32602)
    assert.match(String(refusedLast().message), /requestState/)
    const other: Json = await answerOf(await call('test_input_required_result_elicitation', { inputResponses: answers, requestState }))
    assert.equal(other.error.code, -32602, 'nor another call of its own')
    const forged: Json = await answerOf(await call(TOOL, { inputResponses: answers, requestState: `${requestState}A` }))
    assert.equal(forged.error.code, -32602)
    assert.equal(reached(), before, 'the server hears of none of them')
    const mine: Json = await answerOf(await call(TOOL, { inputResponses: answers, requestState }))
    assert.match(mine.result.content[0].text, /state-ok/)
  })

  test('R10: an argument whose header says something else is refused, recorded, and never sent', async () => {
    const name = 'test_x_mcp_header'
    // The list has said which argument stands in which header.
    await (
      await given.post(
        's',
        { jsonrpc: '2.0', id: 2, method: 'tools/list', params: { _meta: envelope() } },
        { 'mcp-protocol-version': VERSION, 'mcp-method': 'tools/list' },
      )
    ).text()
    const before = reached()
    for (const headers of [{ 'mcp-param-region': 'eu-west' }, {}] as Record<string, string>[]) {
      const response = await call(name, { arguments: { region: 'us-west1' } }, headers)
      assert.equal(response.status, 400)
      assert.equal((await answerOf(response)).error.code, -32020)
      assert.equal(refusedLast().reason, 'ambiguous')
    }
    assert.equal(reached(), before)
    assert.equal((await call(name, { arguments: { region: 'us-west1' } }, { 'mcp-param-region': 'us-west1' })).status, 200)
  })

  test('what is asked of a task by a client that does not know tasks is refused and recorded', async () => {
    const params = { taskId: 'x', _meta: envelope() }
    const headers = { 'mcp-protocol-version': VERSION, 'mcp-method': 'tasks/get', 'mcp-name': 'x' }
    const count = given.of('message.refused').length
    const response = await given.post('s', { jsonrpc: '2.0', id: 3, method: 'tasks/get', params }, headers)
    assert.equal((await answerOf(response)).error.code, -32021)
    assert.equal(given.of('message.refused').length, count + 1)
  })

  test('the trace of a request stands in its record, and goes on to the server with a span of ours', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    await (await call('test_simple_text', { _meta: { ...envelope(), traceparent } })).text()
    assert.equal(given.of('action.intent').at(-1)?.trace, '0af7651916cd43dd8448eb211c80319c')
    await (await call('test_simple_text')).text()
    assert.equal(given.of('action.intent').at(-1)?.trace, undefined)
  })
})

test('rule 11: one person cannot hold all ways to servers through the endpoint of all', async () => {
  const fixture = await startFixture({ era: 'legacy' })
  const servers = Object.fromEntries(['a', 'b', 'c'].map((name) => [name, { url: fixture.url }]))
  const given = await harness({ role: EVERYTHING, servers, limits: { lanesPerPerson: 4 } })
  try {
    const partial = async () => {
      const session = await openSession(given, '')
      const { result } = await answerOf(await given.post('', { jsonrpc: '2.0', id: 1, method: 'tools/list' }, session))
      return result._meta?.['dev.chaperone/partial'] ?? {}
    }
    assert.deepEqual(await partial(), {})
    assert.deepEqual(Object.values(await partial()), ['too_many', 'too_many'])
    assert.equal(
      (
        await given.post(
          'a',
          {
            jsonrpc: '2.0',
            id: 'i',
            method: 'initialize',
            params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'o', version: '1' } },
          },
          { 'x-test-as': 'other' },
        )
      ).status,
      200,
    )
  } finally {
    await given.close()
    await fixture.close()
  }
})

test('a response to nothing inside a batch is recorded as one by itself is', async () => {
  const fixture = await startFixture({ era: 'legacy' })
  const given = await harness({ role: EVERYTHING, servers: { s: { url: fixture.url } } })
  try {
    const session = await openSession(given, 's', {}, '2025-03-26')
    await (await given.post('s', [{ jsonrpc: '2.0', id: 9, result: {} }], session)).text()
    assert.equal(given.of('message.refused').at(-1)?.data?.reason, 'not_found')
  } finally {
    await given.close()
    await fixture.close()
  }
})
