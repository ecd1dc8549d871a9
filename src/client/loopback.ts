import { randomBytes, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ChaperoneError, REASONS, type ReasonCode, toChaperoneError } from '../errors.ts'
import type { Keeper } from './credential.ts'
import { mcpPath, openDataPlane } from './data-plane.ts'
import { forward } from './forward.ts'

/**
 * `chaperone mcp proxy`: an MCP endpoint on the loopback for clients that speak only HTTP. It adds the identity, so
 * whoever can call it acts as it; hence a secret path that lives as long as the process, and Host and Origin checked
 * against pages in a browser that reach for local ports (DNS rebinding).
 */
export interface LoopbackOptions {
  /** name of the MCP server; undefined: all */
  readonly server: string | undefined
  readonly keeper: Keeper
  /** default 0: any free one */
  readonly port?: number
  /** web pages that may call it, for example the MCP Inspector's */
  readonly origins?: readonly string[]
}

export interface Loopback {
  /** with the secret in its path */
  readonly url: string
  close(): Promise<void>
}

const METHODS = new Set(['GET', 'POST', 'DELETE'])
const MOST_AT_ONCE = 256
/** Every user of the machine can connect to the port, and one that says nothing holds a descriptor of ours. */
const MOST_CONNECTIONS = 512

export async function openLoopback(options: LoopbackOptions): Promise<Loopback> {
  const secret = randomBytes(24).toString('base64url')
  const upstreamPath = mcpPath(options.server)
  const path = Buffer.from(`/${secret}${upstreamPath}`)
  const plane = openDataPlane(options.keeper)
  const origins = new Set(options.origins)
  let hosts = new Set<string>()
  let running = 0

  const refuse = (response: ServerResponse, code: ReasonCode, message: string) => {
    response.writeHead(REASONS[code].http, { 'content-type': 'application/json', connection: 'close' })
    response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: REASONS[code].jsonrpc, message, data: { code } } }))
  }

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { origin } = request.headers
    if (!hosts.has(request.headers.host ?? '')) return refuse(response, 'foreign_origin', 'The Host header is not that of this endpoint.')
    if (origin !== undefined && !origins.has(origin)) return refuse(response, 'foreign_origin', 'Pages of this origin may not call this endpoint.')
    const given = Buffer.from(request.url ?? '')
    if (given.length !== path.length || !timingSafeEqual(given, path)) return refuse(response, 'not_found', 'There is no such thing here.')
    if (!METHODS.has(request.method ?? '')) return refuse(response, 'unsupported', 'Only GET, POST and DELETE.')
    if (running >= MOST_AT_ONCE) return refuse(response, 'too_many', 'Too many requests at once; try again later.')
    running++
    response.once('close', () => {
      running--
    })
    await forward(plane, upstreamPath, request, response)
  }

  const server = createServer({ maxHeaderSize: 16 * 1024, requestTimeout: 0, headersTimeout: 10_000 }, (request, response) => {
    handle(request, response).catch((cause: unknown) => {
      const error = toChaperoneError(cause)
      if (response.headersSent) response.destroy()
      else refuse(response, error.code, error.message)
    })
  })
  server.maxConnections = MOST_CONNECTIONS
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? new ChaperoneError('conflict', `Port ${options.port} is taken.`, { fix: 'Choose another with --port, or leave it out.' })
          : error,
      ),
    )
    server.listen(options.port ?? 0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  hosts = new Set([`127.0.0.1:${port}`, `localhost:${port}`])
  return {
    url: `http://127.0.0.1:${port}${path}`,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      plane.close()
      await closed
    },
  }
}
