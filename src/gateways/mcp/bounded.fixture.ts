import { createServer, type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type Json, listen } from './harness.fixture.ts'

/** What the server does when a tool of this name is called. All of it harms nobody else (rule 11). */
type Behaviour = (response: ServerResponse, id: Json) => void

export const MB = 1024 * 1024
const json = (value: unknown) => JSON.stringify({ jsonrpc: '2.0', ...(value as object) })
const event = (value: unknown) => `data: ${json(value)}\n\n`
const progress = event({ method: 'notifications/progress', params: { progressToken: 1, progress: 1, message: 'x'.repeat(16 * 1024) } })
const result = (id: Json) => ({ id, result: { content: [{ type: 'text', text: 'done' }] } })

/** Answers that are being written without end. */
export const floods = new Set<ServerResponse>()

/** Writes as fast as the other side reads, until it goes away. */
function flood(response: ServerResponse, chunk: string): void {
  floods.add(response)
  response.on('close', () => floods.delete(response))
  const more = () => {
    while (!response.destroyed && response.write(chunk)) {}
  }
  response.on('drain', more).on('error', () => {})
  more()
}
const stream = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' })

const BEHAVIOURS: Readonly<Record<string, Behaviour>> = {
  ok: (response, id) => response.writeHead(200, { 'content-type': 'application/json' }).end(json(result(id))),
  never() {},
  twice: (response, id) => stream(response).end(event(result(id)) + event({ id, result: { content: [], second: true } })),
  endless: (response) => flood(stream(response), progress),
  'endless-after': (response, id) => {
    stream(response).write(event(result(id)))
    flood(response, progress)
  },
  'endless-body': (response) => flood(response.writeHead(200, { 'content-type': 'application/json' }), 'x'.repeat(64 * 1024)),
  'endless-line': (response) =>
    flood(
      stream(response).on('pipe', () => {}),
      `data: ${'x'.repeat(64 * 1024)}`.repeat(1).replace(/\n/g, ''),
    ),
  garbage: (response, id) => stream(response).end(`${'data: {nonsense\n\n'.repeat(2_000)}${event(result(id))}`),
  asks: (response, id) =>
    stream(response).end(Array.from({ length: 1_000 }, (_, i) => event({ id: i, method: 'ping' })).join('') + event(result(id))),
  headers: (response, id) => response.writeHead(200, { 'content-type': 'application/json', 'x-long': 'x'.repeat(64 * 1024) }).end(json(result(id))),
}

/** A legacy server over HTTP. `sockets` are those that are open to it. */
export async function upstream() {
  const sockets = new Set<Socket>()
  const told: Json[] = []
  let greet: Behaviour | undefined
  const server = createServer({ maxHeaderSize: 256 * 1024 }, async (request, response) => {
    if (request.method === 'GET') return flood(stream(response), progress)
    let text = ''
    for await (const chunk of request) text += chunk
    const message = text === '' ? {} : JSON.parse(text)
    const answer = (value: object, headers: OutgoingHttpHeaders = {}) =>
      response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(json({ id: message.id, result: value }))
    if (message.method === 'initialize') {
      if (greet) return greet(response, message.id)
      return answer(
        { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'x', version: '1' } },
        { 'mcp-session-id': 's' },
      )
    }
    if (message.method === 'tools/list') return answer({ tools: Object.keys(BEHAVIOURS).map((name) => ({ name, inputSchema: { type: 'object' } })) })
    if (message.method === 'tools/call') return BEHAVIOURS[message.params.name]!(response, message.id)
    told.push(message)
    response.writeHead(202).end()
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
  })
  const url = await listen(server)
  return {
    url,
    sockets,
    told,
    greetBy: (behaviour: string | undefined) => {
      greet = behaviour === undefined ? undefined : BEHAVIOURS[behaviour]
    },
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

let calls = 0
export const call = (name: string, args: unknown = {}) => ({
  jsonrpc: '2.0',
  id: `call ${++calls}`,
  method: 'tools/call',
  params: { name, arguments: args },
})
