import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { openDataPlane } from '../../src/client/data-plane.ts'

interface Test {
  after(work: () => Promise<void>): void
}

/** An MCP server that answers nothing until it is told to, and counts what reaches it. */
export async function holding(t: Test) {
  const held = new Set<ServerResponse>()
  let calls = 0
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      if (request.method !== 'POST') return void response.writeHead(405).end()
      const message = JSON.parse(Buffer.concat(chunks).toString())
      if (message.id === undefined) return void response.writeHead(202).end()
      const answer = (result: object) =>
        response
          .writeHead(200, { 'Content-Type': 'application/json' })
          .end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { resultType: 'complete', ...result } }))
      if (message.method === 'server/discover')
        return answer({ supportedVersions: ['2026-07-28'], capabilities: { tools: {} }, ttlMs: 0, cacheScope: 'private' })
      if (message.method === 'tools/list') {
        const tools = ['hold', 'wait', 'say'].map((name) => ({ name, description: 'x', inputSchema: { type: 'object' } }))
        return answer({ tools, ttlMs: 0, cacheScope: 'private' })
      }
      if (message.method !== 'tools/call') return answer({})
      calls++
      if (message.params.name === 'say') return answer({ content: [{ type: 'text', text: 'said' }] })
      held.add(response)
      response.on('close', () => held.delete(response))
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.after(async () => {
    server.closeAllConnections()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, underWay: () => held.size, calls: () => calls }
}

/** One call over mTLS, to its end: the text of the answer, or why there was none. */
export function call(plane: ReturnType<typeof openDataPlane>, tool: string): Promise<string> {
  const meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} }
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: tool, arguments: {}, _meta: meta } })
  const headers = {
    ...{ 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream', 'Content-Length': String(Buffer.byteLength(body)) },
    ...{ 'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': 'tools/call', 'Mcp-Name': tool },
  }
  return plane.send({ method: 'POST', path: '/mcp/files', headers, body: Buffer.from(body) }).then(
    async (answer) => {
      let text = `${answer.statusCode} `
      try {
        for await (const chunk of answer) text += chunk
      } catch (error) {
        text += (error as Error).message
      }
      return text
    },
    (error: Error) => `none: ${error.message}`,
  )
}

export const until = async (what: () => boolean) => {
  while (!what()) await new Promise((done) => setImmediate(done))
}
