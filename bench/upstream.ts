/** The resource behind everybody in W1 to W4: answers a `tools/call` in both eras with as little work as node:http allows. */
import { createServer } from 'node:http'

const tool = (name: string) => ({
  name,
  description: 'Says it back',
  inputSchema: { type: 'object', properties: { text: { type: 'string' } } },
  annotations: { readOnlyHint: true },
})
const few = ['echo', 'big', 'stream'].map(tool)
const twenty = Array.from({ length: 20 }, (_, i) => tool(`tool_${i}`))

/** 16 KiB, whole or in eight events. */
const BIG = 'y'.repeat(16_384)
const EVENTS = 8
const part = 'z'.repeat(16_384 / EVENTS)

const server = createServer((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    if (request.method !== 'POST') return void response.writeHead(405).end()
    const message = JSON.parse(Buffer.concat(chunks).toString())
    if (message.id === undefined) return void response.writeHead(202).end()
    const modern = request.headers['mcp-protocol-version'] === '2026-07-28'
    const answer = (result: object) => {
      const body = JSON.stringify({ jsonrpc: '2.0', id: message.id, result: modern ? { resultType: 'complete', ...result } : result })
      response.writeHead(200, {
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(body),
        ...(message.method === 'initialize' ? { 'Mcp-Session-Id': 'bench' } : {}),
      })
      response.end(body)
    }
    const stream = () => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      const event = (body: object) => response.write(`event: message\ndata: ${JSON.stringify({ jsonrpc: '2.0', ...body })}\n\n`)
      const progressToken = message.params._meta?.progressToken
      for (let progress = 1; progress < EVENTS; progress++)
        event({ method: 'notifications/progress', params: { progressToken, progress, message: part } })
      const result = { content: [{ type: 'text', text: `${part} event ${EVENTS}` }] }
      event({ id: message.id, result: modern ? { resultType: 'complete', ...result } : result })
      response.end()
    }
    const tools = request.url?.startsWith('/twenty/') ? twenty : few
    switch (message.method) {
      case 'initialize':
        return answer({ protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'bench', version: '1' } })
      case 'server/discover':
        return answer({ supportedVersions: ['2026-07-28', '2025-11-25'], capabilities: { tools: {} }, ttlMs: 0, cacheScope: 'private' })
      case 'tools/list':
        return answer(modern ? { tools, ttlMs: 0, cacheScope: 'private' } : { tools })
      case 'tools/call':
        if (message.params.name === 'stream') return stream()
        if (message.params.name === 'big') return answer({ content: [{ type: 'text', text: BIG }] })
        return answer({ content: [{ type: 'text', text: `echo: ${message.params?.arguments?.text ?? ''}` }] })
      default:
        return answer({})
    }
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  process.send?.({ port: typeof address === 'object' && address ? address.port : 0 })
})

// Nobody is left to measure.
process.on('disconnect', () => process.exit())
