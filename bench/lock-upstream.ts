/** The MCP server behind W6: answers a call after a while, holds a stream open, and knows when each call reached it. */
import { createServer } from 'node:http'
import { micros } from './micros.ts'

/** Long enough that a thousand calls are running at any moment. */
const CALL_MS = 1_000
const EVENT_MS = 1_000

const tools = ['wait', 'stream'].map((name) => ({ name, description: 'Takes its time', inputSchema: { type: 'object' } }))
let arrivals: number[] = []

const server = createServer((request, response) => {
  const at = micros()
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    if (request.method !== 'POST') return void response.writeHead(405).end()
    const message = JSON.parse(Buffer.concat(chunks).toString())
    if (message.id === undefined) return void response.writeHead(202).end()
    const result = (value: object) => ({ jsonrpc: '2.0', id: message.id, result: { resultType: 'complete', ...value } })
    const answer = (value: object) => {
      if (!response.destroyed) response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(result(value)))
    }
    if (message.method === 'server/discover')
      return answer({ supportedVersions: ['2026-07-28'], capabilities: { tools: {} }, ttlMs: 0, cacheScope: 'private' })
    if (message.method === 'tools/list') return answer({ tools, ttlMs: 0, cacheScope: 'private' })
    if (message.method !== 'tools/call') return answer({})
    arrivals.push(at)
    if (message.params.name === 'wait') return void setTimeout(() => answer({ content: [{ type: 'text', text: 'done' }] }), CALL_MS)
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    const progressToken = message.params._meta?.progressToken
    let progress = 0
    const timer = setInterval(() => {
      const event = { jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken, progress: ++progress } }
      response.write(`event: message\ndata: ${JSON.stringify(event)}\n\n`)
    }, EVENT_MS)
    response.on('close', () => clearInterval(timer))
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  process.send?.({ port: typeof address === 'object' && address ? address.port : 0 })
})

/** How many calls have come in after that moment; those before are forgotten. */
process.on('message', ({ after }: { readonly after: number }) => {
  const late = arrivals.filter((at) => at > after)
  process.send?.({ calls: arrivals.length, late: late.length, latest: late.length === 0 ? 0 : Math.max(...late) - after })
  arrivals = []
})
process.on('disconnect', () => process.exit())
