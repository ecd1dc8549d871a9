import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import { listen } from '../../src/gateways/mcp/harness.fixture.ts'
import type { Era } from './fixture/rpc.ts'

// biome-ignore lint/suspicious/noExplicitAny: what a test looks into is not worth a type
export type Json = any

export interface Got {
  readonly verb: string
  readonly headers: IncomingHttpHeaders
  readonly text: string
  readonly message: Json
  readonly response: ServerResponse
}

/** A server that says exactly what the test wants, to the byte: the text of a result by method, or by `tools/call NAME`. */
export interface RawServer {
  readonly url: string
  readonly got: Got[]
  /** calls of this tool that arrived */
  calls(name: string): number
  readonly results: Map<string, string>
  /** Answers by hand, by method as above or by the verb of what is no POST: what has an entry here is not answered otherwise. */
  readonly behaviours: Map<string, (got: Got) => void>
  close(): void
}

const SCHEMA = '{"type":"object"}'

export const tool = (name: string, more = ''): string => `{"name":"${name}","inputSchema":${SCHEMA}${more}}`

export async function rawServer(era: Era = 'legacy', tools: readonly string[] = []): Promise<RawServer> {
  const got: Got[] = []
  const about = '"capabilities":{"tools":{"listChanged":true},"prompts":{},"resources":{}}'
  const results = new Map<string, string>([
    ['initialize', `{"protocolVersion":"2025-11-25",${about},"serverInfo":{"name":"raw","version":"1"}}`],
    ['server/discover', `{"supportedVersions":["2026-07-28"],${about}}`],
    ['tools/list', `{"tools":[${tools.map((name) => tool(name)).join(',')}]}`],
    ['tools/call', '{"content":[{"type":"text","text":"done"}]}'],
    ['ping', '{}'],
  ])
  const behaviours: RawServer['behaviours'] = new Map()
  let sessions = 0
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString('utf8')
    const message = text === '' ? {} : JSON.parse(text)
    const one: Got = { verb: request.method ?? '', headers: request.headers, text, message, response }
    got.push(one)
    const keys = one.verb === 'POST' ? [`${message.method} ${message.params?.name}`, String(message.method)] : [one.verb]
    for (const key of keys) {
      const behaviour = behaviours.get(key)
      if (behaviour) return behaviour(one)
    }
    if (one.verb !== 'POST') return void response.writeHead(one.verb === 'DELETE' ? 204 : 405).end()
    if (message.id === undefined) return void response.writeHead(202).end()
    const speaks = era === 'modern' ? message.method !== 'initialize' : message.method !== 'server/discover'
    const result = speaks ? keys.map((key) => results.get(key)).find((known) => known !== undefined) : undefined
    const id = JSON.stringify(message.id)
    const body = result ? `{"jsonrpc":"2.0","id":${id},"result":${result}}` : `{"jsonrpc":"2.0","id":${id},"error":{"code":-32601,"message":"no"}}`
    const session: Record<string, string> =
      message.method === 'initialize' && result !== undefined ? { 'mcp-session-id': `upstream-${++sessions}` } : {}
    response.writeHead(200, { 'content-type': 'application/json', ...session }).end(body)
  })
  return {
    url: await listen(server),
    got,
    calls: (name) => got.filter(({ message }) => message.method === 'tools/call' && message.params?.name === name).length,
    results,
    behaviours,
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}
