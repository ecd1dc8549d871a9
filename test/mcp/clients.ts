import { Client, SSEClientTransport, StreamableHTTPClientTransport, type Transport } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import type { Era } from './fixture/rpc.ts'

interface Test {
  after(work: () => Promise<void>): void
}

/** How a client reaches a server. */
export type Place = { readonly url: string; readonly sse?: boolean } | { readonly command: readonly string[]; readonly env?: Record<string, string> }

const transportTo = (place: Place): Transport => {
  if ('command' in place) {
    const [command, ...args] = place.command
    return new StdioClientTransport({ command: command!, args, stderr: 'ignore', ...(place.env === undefined ? {} : { env: place.env }) })
  }
  return place.sse ? new SSEClientTransport(new URL(place.url)) : new StreamableHTTPClientTransport(new URL(place.url))
}

/** A client of the SDK, of one era only, whose person and model answer everything. Closed with the test. */
export async function connect(t: Test, era: Era, place: Place): Promise<Client> {
  const client = new Client(
    { name: 'test', version: '1' },
    {
      capabilities: { sampling: {}, elicitation: { form: {} }, roots: {} },
      versionNegotiation: { mode: era === 'legacy' ? 'legacy' : { pin: '2026-07-28' } },
    },
  )
  client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: { name: 'Ada', color: 'blue', ok: true } }))
  client.setRequestHandler('sampling/createMessage', () => ({
    role: 'assistant',
    content: { type: 'text', text: 'Paris' },
    model: 'none',
    stopReason: 'endTurn',
  }))
  client.setRequestHandler('roots/list', () => ({ roots: [{ uri: 'file:///somewhere', name: 'somewhere' }] }))
  t.after(() => client.close().catch(() => {}))
  await client.connect(transportTo(place))
  return client
}

export const toolNames = async (client: Client): Promise<readonly string[]> => (await client.listTools()).tools.map(({ name }) => name)

/** The text of a result. */
export async function called(client: Client, name: string, args: Record<string, unknown> = {}): Promise<string> {
  const result = await client.callTool({ name, arguments: args })
  return (result.content as readonly { readonly text?: string }[]).map((block) => block.text ?? '').join('\n')
}
