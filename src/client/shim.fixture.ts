import type { ServerResponse } from 'node:http'
import { PassThrough } from 'node:stream'
import type { TestContext } from 'node:test'
import { type FakeChaperone, fakeChaperone, type Seen } from '../../test/fakes/chaperone.ts'
import { runShim, type ShimOptions } from './shim.ts'

export const INITIALIZE = {
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'Claude Code', version: '1' } },
}
export const INITIALIZED = { jsonrpc: '2.0', method: 'notifications/initialized' }
export const modern = (id: number, method: string, params: object = {}) => ({
  jsonrpc: '2.0',
  id,
  method,
  params: { ...params, _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' } },
})
export const call = (id: number, name = 'echo') => ({ jsonrpc: '2.0', id, method: 'tools/call', params: { name, arguments: {} } })

export const json = (response: ServerResponse, value: unknown, status = 200, headers: Record<string, string> = {}) =>
  void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(typeof value === 'string' ? value : JSON.stringify(value))
export const result = (seen: Seen, value: object = {}) => ({ jsonrpc: '2.0', id: JSON.parse(seen.body).id, result: value })
export const methodOf = (seen: Seen) => (seen.body === '' ? seen.method : JSON.parse(seen.body).method)

export async function start(t: TestContext, more: Partial<ShimOptions> = {}) {
  const server = await fakeChaperone()
  const keeper = await server.keeper()
  const input = new PassThrough()
  const output = new PassThrough()
  const said: string[] = []
  const labels: string[] = []
  const lines: string[] = []
  const waiting: (() => void)[] = []
  let rest = ''
  const exit = runShim({
    server: 'files',
    input,
    output,
    say: (line) => said.push(line),
    connect: async (label) => {
      labels.push(label)
      return keeper
    },
    ...more,
  })
  if (more.output === undefined) {
    output.on('data', (chunk: Buffer) => {
      const parts = (rest + chunk).split('\n')
      rest = parts.pop()!
      lines.push(...parts)
      for (const wake of waiting.splice(0)) wake()
    })
  }
  t.after(async () => {
    input.destroy()
    await server.close()
  })
  let taken = 0
  return {
    server,
    keeper,
    input,
    output,
    said,
    labels,
    lines,
    exit,
    send: (...messages: (object | string)[]) => {
      for (const message of messages) input.write(`${typeof message === 'string' ? message : JSON.stringify(message)}\n`)
    },
    async next(): Promise<string> {
      while (lines.length <= taken) await new Promise<void>((resolve) => waiting.push(resolve))
      return lines[taken++]!
    },
  }
}

/** Answers the handshake of the era with sessions; the rest is the test's. */
export function legacy(server: FakeChaperone, more: (seen: Seen, response: ServerResponse) => void) {
  let count = 0
  server.answer = (seen, response) => {
    const method = methodOf(seen)
    if (method === 'initialize') json(response, result(seen, { protocolVersion: '2025-11-25' }), 200, { 'mcp-session-id': `session-${++count}` })
    else if (method === 'notifications/initialized') response.writeHead(202).end()
    else if (seen.method === 'DELETE') response.writeHead(200).end()
    else more(seen, response)
  }
}
