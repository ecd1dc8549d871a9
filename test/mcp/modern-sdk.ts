/**
 * A server of the modern era only, built with the SDK: what a client with a handshake cannot speak to by itself.
 *
 *   node test/mcp/modern-sdk.ts    serves it on stdin and stdout
 */
import { acceptedContent, completable, createMcpHandler, inputRequired, inputResponse, McpServer } from '@modelcontextprotocol/server'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { z } from 'zod'

const text = (value: unknown) => ({ content: [{ type: 'text' as const, text: typeof value === 'string' ? value : JSON.stringify(value) }] })

export function modernServer(): McpServer {
  const server = new McpServer(
    { name: 'modern-only', version: '3' },
    { capabilities: { logging: {}, resources: { subscribe: true, listChanged: true } }, instructions: 'Only the new way.' },
  )
  server.registerTool('echo', { inputSchema: z.object({ value: z.unknown() }) }, ({ value }) => text(value))
  server.registerTool('slow', { inputSchema: z.object({}) }, async (_, { mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken
    for (const progress of [1, 2])
      if (progressToken !== undefined) await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress } })
    await mcpReq.log('info', 'nearly done')
    return text('done')
  })
  server.registerTool(
    'hang',
    { inputSchema: z.object({}) },
    (_, { mcpReq }) => new Promise((_resolve, reject) => mcpReq.signal.addEventListener('abort', () => reject(new Error('cancelled')))),
  )
  server.registerTool('crash', { inputSchema: z.object({}) }, () => process.exit(3))
  server.registerTool('deploy', { inputSchema: z.object({ to: z.string() }) }, ({ to }, { mcpReq }) => {
    const schema = z.object({ sure: z.boolean() })
    const answer = acceptedContent(mcpReq.inputResponses, 'sure', schema)
    if (answer) return text(`${to}: ${answer.sure}, state ${mcpReq.requestState()}`)
    if (inputResponse(mcpReq.inputResponses, 'sure').kind !== 'missing') return text('not deployed')
    const sure = inputRequired.elicit({ message: `Deploy to ${to}?`, requestedSchema: schema })
    return inputRequired({ inputRequests: { sure }, requestState: `opaque ${to}` })
  })
  server.registerTool('ask_all', { inputSchema: z.object({}) }, (_, { mcpReq }) => {
    const given = mcpReq.inputResponses
    if (given) return text(given)
    return inputRequired({
      inputRequests: {
        page: inputRequired.elicitUrl({ message: 'Sign in', url: 'https://login.example/' }),
        model: inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text: 'Capital of France?' } }], maxTokens: 5 }),
        folders: inputRequired.listRoots(),
      },
    })
  })
  server.registerResource('report', 'test://report', {}, () => ({ contents: [{ uri: 'test://report', text: 'figures' }] }))
  server.registerPrompt('greet', { argsSchema: z.object({ name: completable(z.string(), (start) => [`${start}!`]) }) }, ({ name }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `hello ${name}` } }],
  }))
  return server
}

export const modernHandler = () => createMcpHandler(modernServer, { legacy: 'reject' })

if (import.meta.main) serveStdio(modernServer, { legacy: 'reject' })
