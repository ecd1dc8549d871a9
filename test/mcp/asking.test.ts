import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { type Harness, harness, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { startFixture } from './fixture/fixture.ts'

const main = fileURLToPath(new URL('fixture/main.ts', import.meta.url))
const ASKS = ['sampling/createMessage', 'elicitation/create', 'roots/list']
const MAY_ASK = { allow: [{ mcp: 'any', can: 'any' }] }
const MAY_NOT_ASK = { allow: [{ mcp: 'any', can: 'any' }], deny: [{ mcp: 'any', operations: ASKS }] }

/** A client that answers whatever it is asked, as a person and a model would. */
async function clientOf(given: Harness, server: string, era: 'legacy' | 'modern') {
  const asked: string[] = []
  const client = new Client({ name: 'asked', version: '1' }, {
    versionNegotiation: { mode: era === 'legacy' ? 'legacy' : { pin: '2026-07-28' } },
    capabilities: { sampling: {}, elicitation: { form: {} }, roots: {} },
  } as never)
  client.setRequestHandler('sampling/createMessage', async () => {
    asked.push('sampling')
    return { role: 'assistant', model: 'm', content: { type: 'text', text: 'Paris' } }
  })
  client.setRequestHandler('elicitation/create', async () => {
    asked.push('elicitation')
    return { action: 'accept', content: { username: 'ada', email: 'ada@example.com', name: 'Ada', ok: true } }
  })
  client.setRequestHandler('roots/list', async () => {
    asked.push('roots')
    return { roots: [{ uri: 'file:///home/ada', name: 'home' }] }
  })
  await client.connect(new StreamableHTTPClientTransport(new URL(given.base + server)))
  const call = async (name: string, args: Record<string, unknown> = {}) => {
    const { content, isError } = await client.callTool({ name, arguments: args })
    return { text: (content as { text?: string }[])[0]?.text ?? '', isError: isError === true }
  }
  return { client, asked, call }
}

/** What each era of server offers to make it ask: tool, arguments, what it asked for, what its answer then says. */
const TOOLS = {
  legacy: [
    ['test_sampling', { prompt: 'Capital of France?' }, 'sampling', /Paris/],
    ['test_elicitation', { message: 'Who are you?' }, 'elicitation', /ada/],
  ],
  modern: [
    ['test_input_required_result_sampling', {}, 'sampling', /Paris/],
    ['test_input_required_result_elicitation', {}, 'elicitation', /Ada/],
    ['test_input_required_result_list_roots', {}, 'roots', /ada|home/],
    ['test_input_required_result_request_state', {}, 'elicitation', /state-ok/],
  ],
} as const

describe('what a server asks of its client', () => {
  for (const transport of ['http', 'stdio'] as const) {
    for (const server of ['legacy', 'modern'] as const) {
      for (const client of ['legacy', 'modern'] as const) {
        test(`reaches it and comes back: ${client} client, ${server} server over ${transport}`, { timeout: 180_000 }, async () => {
          const fixture = await startFixture({ era: server })
          const spec =
            transport === 'http' ? { url: fixture.url } : { command: [process.execPath, main, '--stdio', '--era', server], isolation: 'none' }
          const given = await harness({ role: MAY_ASK, servers: { s: spec } })
          try {
            const ada = await clientOf(given, 's', client)
            for (const [tool, args, kind, says] of TOOLS[server]) {
              const before = ada.asked.length
              const { text, isError } = await ada.call(tool, args)
              assert.equal(isError, false, text)
              assert.match(text, says, tool)
              assert.deepEqual(ada.asked.slice(before), [kind], tool)
              const record = given.of('action.intent').findLast((one) => ASKS.includes(one.action?.operation ?? ''))
              assert.match(record?.action?.summary ?? '', /asked by the server/)
            }
            await ada.client.close()
          } finally {
            await given.close()
            await fixture.close()
          }
        })

        test(`does not reach it where no rule allows it: ${client} client, ${server} server over ${transport}`, { timeout: 180_000 }, async () => {
          const fixture = await startFixture({ era: server })
          const spec =
            transport === 'http' ? { url: fixture.url } : { command: [process.execPath, main, '--stdio', '--era', server], isolation: 'none' }
          const given = await harness({ role: MAY_NOT_ASK, servers: { s: spec } })
          try {
            const ada = await clientOf(given, 's', client)
            const [tool, args] = TOOLS[server][0]
            // R15: neither the server nor the client waits for ever; how a server says it to its model is its own matter.
            await ada.call(tool, args).catch(() => undefined)
            assert.deepEqual(ada.asked, [])
            const refused = given.of('action.refused').at(-1)
            assert.equal(refused?.action?.operation, 'sampling/createMessage')
            await ada.client.close()
          } finally {
            await given.close()
            await fixture.close()
          }
        })
      }
    }
  }

  test('R51: an answer by somebody else, or to nothing, reaches no server', async () => {
    const fixture = await startFixture({ era: 'legacy' })
    const given = await harness({ role: MAY_ASK, servers: { s: { url: fixture.url } } })
    try {
      const hello = {
        jsonrpc: '2.0',
        id: 'init',
        method: 'initialize',
        params: { protocolVersion: '2025-11-25', capabilities: { sampling: {} }, clientInfo: { name: 't', version: '1' } },
      }
      const opened = await given.post('s', hello)
      await opened.text()
      const mine = { 'mcp-session-id': opened.headers.get('mcp-session-id')!, 'mcp-protocol-version': '2025-11-25' }
      const theirs = await openSession(given, 's', { 'x-test-as': 'mallory' })
      const call = await given.post(
        's',
        { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: 'test_sampling', arguments: { prompt: 'x' } } },
        mine,
      )
      const reader = call.body!.getReader()
      let heard = ''
      while (!heard.includes('sampling/createMessage')) heard += Buffer.from((await reader.read()).value ?? []).toString('utf8')
      const data = heard
        .split('\n')
        .find((line) => line.startsWith('data: ') && line.includes('sampling'))!
        .slice(6)
      const { id } = JSON.parse(data)
      const answer = (text: string) => ({ jsonrpc: '2.0', id, result: { role: 'assistant', model: 'm', content: { type: 'text', text } } })
      assert.equal((await given.post('s', answer('forged'), theirs)).status, 400)
      assert.equal((await given.post('s', answer('forged'), { ...mine, 'x-test-as': 'mallory' })).status, 404)
      assert.equal((await given.post('s', { ...answer('forged'), id: 'made-up' }, mine)).status, 400)
      assert.equal((await given.post('s', answer('true'), mine)).status, 202)
      assert.equal((await given.post('s', answer('again'), mine)).status, 400)
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) heard += Buffer.from(piece.value).toString('utf8')
      assert.match(heard, /LLM response: true/)
      assert.doesNotMatch(heard, /forged|again/)
      const outcome = given.of('action.outcome').findLast((one) => one.action?.operation === 'sampling/createMessage')
      assert.match(String(outcome?.bodies?.[0]?.bytes), /true/)
    } finally {
      await given.close()
      await fixture.close()
    }
  })
})
