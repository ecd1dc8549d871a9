import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { type Harness, harness } from '../../src/gateways/mcp/harness.fixture.ts'
import { startFixture } from './fixture/fixture.ts'
import type { Era } from './fixture/rpc.ts'

const main = fileURLToPath(new URL('fixture/main.ts', import.meta.url))

/** Every tool is asked about; what a server asks of its client is not. */
const ROLE = { allow: [{ mcp: 'any', can: 'any' }], ask: [{ mcp: 'any', tools: 'any', approvers: { role: 'dba' } }] }

/** Says yes to each request as it comes, once. */
function approver(given: Harness): () => Promise<void> {
  let over = false
  const run = async () => {
    while (!over) {
      for (const one of await given.asked()) if (one.state === 'pending') await given.decide(one.id, 'approved')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const ended = run()
  return () => {
    over = true
    return ended
  }
}

async function clientOf(given: Harness, era: Era, elicitation: object) {
  const seen: string[] = []
  const client = new Client({ name: 'sdk', version: '1' }, {
    versionNegotiation: { mode: era === 'legacy' ? 'legacy' : { pin: '2026-07-28' } },
    capabilities: { sampling: {}, elicitation, roots: {} },
  } as never)
  client.setRequestHandler('sampling/createMessage', () => ({ role: 'assistant', model: 'm', content: { type: 'text', text: 'Paris' } }))
  client.setRequestHandler('elicitation/create', ({ params }) => {
    seen.push(String(params.mode === 'url' ? params.url : params.message))
    return { action: 'accept', ...(params.mode === 'url' ? {} : { content: { name: 'Ada', username: 'ada', email: 'ada@example.com', ok: true } }) }
  })
  client.setRequestHandler('roots/list', () => ({ roots: [{ uri: 'file:///home/ada', name: 'home' }] }))
  await client.connect(new StreamableHTTPClientTransport(new URL(`${given.base}s`)))
  return { client, seen }
}

const TOOLS = {
  legacy: [
    ['test_simple_text', {}, /simple text/],
    ['test_sampling', { prompt: 'Capital of France?' }, /Paris/],
    ['test_elicitation', { message: 'Who are you?' }, /ada/],
  ],
  modern: [
    ['test_simple_text', {}, /simple text/],
    ['test_input_required_result_sampling', {}, /Paris/],
    ['test_input_required_result_elicitation', {}, /Ada/],
    ['test_input_required_result_request_state', {}, /state-ok/],
  ],
} as const

describe('approvals with the SDK’s own client, also where the server asks back', () => {
  for (const transport of ['http', 'stdio'] as const)
    for (const server of ['legacy', 'modern'] as const)
      for (const era of ['legacy', 'modern'] as const)
        test(`rule 12: ${era} client, ${server} server over ${transport}: one yes is one call with all its rounds`, {
          timeout: 180_000,
        }, async (t) => {
          const fixture = await startFixture({ era: server })
          const spec =
            transport === 'http' ? { url: fixture.url } : { command: [process.execPath, main, '--stdio', '--era', server], isolation: 'none' }
          const given = await harness({ role: ROLE, servers: { s: spec } })
          const stop = approver(given)
          t.after(async () => {
            await stop()
            await given.close()
            await fixture.close()
          })
          const { client, seen } = await clientOf(given, era, { form: {}, url: {} })
          t.after(() => client.close().catch(() => {}))
          for (const [name, args, says] of TOOLS[server]) {
            const before = (await given.asked()).length
            const { content, isError } = await client.callTool({ name, arguments: args })
            const text = (content as { text?: string }[]).map((block) => block.text ?? '').join('')
            assert.ok(!isError, text)
            assert.match(text, says, name)
            assert.equal((await given.asked()).length, before + 1, `one question for ${name}`)
          }
          assert.ok(
            seen.some((page) => page.startsWith('https://chaperone.test/requests/req_')),
            'its person was shown the page',
          )
          // An outcome is not waited for by the answer.
          const used = async () => (await given.asked()).map(({ state, outcome }) => [state, outcome])
          while ((await used()).some(([, outcome]) => outcome === undefined || outcome === null))
            await new Promise((resolve) => setTimeout(resolve, 5))
          for (const one of await used()) assert.deepEqual(one, ['used', 'ok'])
        })
})
