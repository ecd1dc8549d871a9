import assert from 'node:assert/strict'
import { answerOf, eventually, type Harness, harness, type Json } from '../../src/gateways/mcp/harness.fixture.ts'
import { rawServer } from './raw-server.ts'

export const VERSION = '2026-07-28'
/** What is asked about is an exception to what is allowed. */
export const ROLE = { allow: [{ mcp: 'any', can: 'any' }], ask: [{ mcp: 'any', tools: ['write', 'wizard', 'job'], approvers: { role: 'dba' } }] }
export const ARGS = { to: 'prod', n: 1 }

export interface Test {
  after(work: () => Promise<void>): void
}

export async function world(t: Test, era: 'legacy' | 'modern', more: Partial<Parameters<typeof harness>[0]> = {}) {
  const upstream = await rawServer(era, ['write', 'wizard', 'job', 'read'])
  const given = await harness({ role: ROLE, servers: { s: { url: upstream.url } }, ...more })
  t.after(async () => {
    await given.close()
    upstream.close()
  })
  return { upstream, given }
}

let id = 1
export const nextId = () => id++

/** One request of a modern client. */
export const modern = async (
  given: Harness,
  params: Record<string, unknown> = {},
  { as, server = 's', capabilities = {}, method = 'tools/call' }: { as?: string; server?: string; capabilities?: object; method?: string } = {},
): Promise<Json> => {
  const all: Record<string, unknown> = method === 'tools/call' ? { name: 'write', arguments: ARGS, ...params } : params
  const envelope = { 'io.modelcontextprotocol/protocolVersion': VERSION, 'io.modelcontextprotocol/clientCapabilities': capabilities }
  const name = String(all.name ?? all.uri ?? all.taskId)
  const response = await given.post(
    server,
    { jsonrpc: '2.0', id: nextId(), method, params: { ...all, _meta: envelope } },
    { 'mcp-protocol-version': VERSION, 'mcp-method': method, 'mcp-name': name, ...(as ? { 'x-test-as': as } : {}) },
  )
  return answerOf(response)
}

/** The events of an open answer, as they come. */
export async function* eventsOf(response: Response): AsyncGenerator<Json> {
  let text = ''
  for await (const chunk of response.body!) {
    text += Buffer.from(chunk).toString()
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const data = text
        .slice(0, end)
        .split('\n')
        .find((line) => line.startsWith('data: '))
      text = text.slice(end + 2)
      if (data) yield JSON.parse(data.slice(6))
    }
  }
}

export const call = (params: Record<string, unknown> = {}, callId: string | number = nextId()) => ({
  jsonrpc: '2.0',
  id: callId,
  method: 'tools/call',
  params: { name: 'write', arguments: ARGS, ...params },
})

export const pending = async (given: Harness, count = 1) => {
  let found = await given.asked()
  await eventually(() => {
    void given.asked().then((now) => {
      found = now
    })
    return found.length >= count
  }, `${count} requests`)
  return found[count - 1]!.id
}

export const textOf = ({ result }: Json): string => result.content[0].text
export const stateOf = ({ result }: Json): string => {
  assert.equal(result.resultType, 'input_required', JSON.stringify(result))
  return result.requestState
}
