import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { ChaperoneError, REASONS, toChaperoneError } from '../../errors.ts'
import type { Keeper } from '../credential.ts'
import { openDataPlane } from '../data-plane.ts'
import { forward } from '../forward.ts'

/**
 * The one door of a run: a unix socket that speaks HTTP and leads to Chaperone, and nowhere else, as the identity of the run. MCP
 * (`/mcp...`), the API (`/v1/...`), and `/run`, who the child is. Whoever can open it acts as that identity: so it stands in a
 * folder that only its user can enter, and the key stays with the runner.
 */
export interface RunDoor {
  close(): Promise<void>
}

/** What `GET /run` answers. */
export interface RunAbout {
  readonly name: string
  readonly kind: string
  readonly id: string
  readonly session: string
  readonly address: string
  readonly trustDomain: string
  /** ms since 1970: the run ends there at the latest */
  readonly until: number
}

const METHODS = new Set(['GET', 'POST', 'PUT', 'DELETE'])
const MOST_AT_ONCE = 256
/** Those that say nothing cost a descriptor each, and the runner has other use for its own. */
const MOST_CONNECTIONS = 512
/**
 * What would end or copy the runner's own credential: a certificate for a key of the child's would be the next of this session,
 * and the runner's own next one would look like a thief's.
 */
const OURS_ALONE = new Set(['/v1/renew', '/v1/prove', '/v1/logout', '/v1/clients', '/v1/runs'])

export async function openRunDoor({ keeper, socket }: { readonly keeper: Keeper; readonly socket: string }): Promise<RunDoor> {
  const plane = openDataPlane(keeper)
  let running = 0

  const refuse = (response: ServerResponse, error: ChaperoneError) => {
    const { code, message, fix } = error
    response.writeHead(REASONS[code].http, { 'content-type': 'application/json', connection: 'close' })
    response.end(JSON.stringify({ error: { code, message, ...(fix === undefined ? {} : { fix }) } }))
  }

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = request.url ?? ''
    const path = url.split('?')[0]!
    if (!METHODS.has(request.method ?? '')) throw new ChaperoneError('unsupported', 'Only GET, POST, PUT and DELETE.')
    if (path === '/run') {
      response.writeHead(200, { 'content-type': 'application/json' })
      return void response.end(JSON.stringify(aboutOf(keeper)))
    }
    const plain = decoded(path)
    if (plain === undefined || !/^\/(?:mcp|v1)(?:\/|$)/.test(plain)) throw new ChaperoneError('not_found', 'There is no such path.')
    if (OURS_ALONE.has(plain))
      throw new ChaperoneError('issue_refused', 'The credential of a run is kept by its runner.', {
        fix: 'Ask for a token with `chaperone agent jwt`, or for a part of these rights with a token exchange.',
      })
    if (running >= MOST_AT_ONCE) throw new ChaperoneError('too_many', 'Too many requests at once; try again later.')
    running++
    response.once('close', () => {
      running--
    })
    await forward(plane, url, request, response)
  }

  const server = createServer({ maxHeaderSize: 16 * 1024, requestTimeout: 0, headersTimeout: 10_000 }, (request, response) => {
    handle(request, response).catch((cause: unknown) => {
      if (response.headersSent) response.destroy()
      else refuse(response, toChaperoneError(cause))
    })
  })
  server.maxConnections = MOST_CONNECTIONS
  const before = process.umask(0o177)
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(socket, resolve)
  })
  process.umask(before)
  await listening
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      plane.close()
      await closed
    },
  }
}

/** The path as the server reads it; undefined for one that another reader could take for another: `/v1/%72enew`, `/v1//renew`, `/v1/renew#x`. */
function decoded(path: string): string | undefined {
  // Whoever makes a URL of it cuts off what stands behind a `#`, and takes a backslash for a slash.
  if (/[#\\]/.test(path)) return undefined
  const parts = path.split('/').slice(1)
  if (parts.some((part) => part === '' || part === '.' || part === '..')) return undefined
  try {
    const read = parts.map(decodeURIComponent)
    return read.some((part) => part === '.' || part === '..') ? undefined : `/${read.join('/')}`
  } catch {
    return undefined
  }
}

export function aboutOf(keeper: Keeper): RunAbout {
  const { profile } = keeper.current()
  const { identity, session, address, trustDomain, sessionUntil } = profile
  return { name: identity.name, kind: identity.kind, id: identity.id, session, address, trustDomain, until: sessionUntil }
}
