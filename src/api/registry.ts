import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { type ChaperoneError, REASONS, toChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import type { ApiParts } from './parts.ts'
import { type Offered, type RegistryEntry, readQuery, registryEntry, registryPage } from './registry-entries.ts'

/**
 * The MCP registry API under `/v0.1` of the web listener, as editors read it (VS Code, GitHub Copilot): whoever shows a
 * token finds what he may see and nothing else; whoever shows none finds what its document calls public.
 */
export interface Registry {
  has(path: string): boolean
  /** Editors in a browser ask from pages of their own. Nothing here is done with a cookie, so no page can ask in somebody's name. */
  anyOrigin(path: string): boolean
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>
}

interface RegistryParts extends Pick<ApiParts, 'state' | 'store' | 'trustDomain' | 'places' | 'builtinServers' | 'log'> {
  readonly guard: Pick<ApiParts['guard'], 'judge'>
  /** Who shows a token; throws when it is not a good one. */
  readonly bearer: (request: IncomingMessage) => Promise<{ readonly session: LiveSession; release(): void } | undefined>
}

const HEADERS = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Methods': 'GET, OPTIONS',
  'Access-Control-Allow-Headers': 'Authorization, Content-Type, If-None-Match',
  'Access-Control-Expose-Headers': 'ETag',
  // Kept by whoever asked and nobody between, and asked about each time: a right that ended is gone with the next look.
  'Cache-Control': 'private, no-cache',
  Vary: 'Authorization',
}
const LONGEST_URL = 4096

type Answer = readonly [status: number, body?: unknown]

export function createRegistry(parts: RegistryParts): Registry {
  const { state, store, guard, places, trustDomain, builtinServers, log } = parts
  const has = (path: string) => path === '/v0.1' || path.startsWith('/v0.1/')
  let times: { readonly revision: number; readonly of: Promise<ReadonlyMap<string, number>> } | undefined

  /** When each document was applied; read once for each change of them. */
  const updated = (): Promise<ReadonlyMap<string, number>> => {
    const { revision } = state.current()
    if (times?.revision !== revision) {
      const of = store.db
        .selectFrom('documents')
        .select(['id', 'updated_at'])
        .where('kind', 'in', ['mcp', 'postgres'])
        .execute()
        .then((rows) => new Map(rows.map(({ id, updated_at }) => [id, Number(updated_at)])))
      times = { revision, of }
      of.catch(() => {
        times = undefined
      })
    }
    return times.of
  }

  const entriesFor = async (session: LiveSession | undefined): Promise<readonly RegistryEntry[]> => {
    const at = await updated()
    const documents = state
      .current()
      .list('mcp')
      .filter(({ resource, spec }) =>
        session === undefined
          ? (spec as McpServerSpec).registry === 'public'
          : guard.judge(session, { kind: 'mcp', resource, operation: 'list', effects: ['read'], facts: {}, summary: 'list' }).visible,
      )
    const builtin = session === undefined ? [] : builtinServers(session)
    const offered: Offered[] = [
      ...documents.map(({ resource, spec }) => {
        const { description } = spec as McpServerSpec
        return { resource, updatedAt: at.get(resource.id) ?? 0, ...(description === undefined ? {} : { description }) }
      }),
      ...builtin.map(({ resource }) => ({ resource, updatedAt: at.get(resource.id) ?? 0 })),
    ]
    return offered.map((one) => registryEntry(one, { trustDomain, web: places.web }))
  }

  const answer = async (request: IncomingMessage, session: LiveSession | undefined): Promise<Answer> => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'https://registry')
    const [, , servers, encoded, versions, version, ...more] = pathname.replace(/\/$/, '').split('/')
    if (servers !== 'servers' || more.length > 0) return unknownPath
    if (encoded === undefined) {
      const query = readQuery(searchParams)
      if ('wrong' in query) return [400, { error: query.wrong }]
      return [200, registryPage(await entriesFor(session), query)]
    }
    const name = decoded(encoded)
    if (versions !== 'versions') return unknownPath
    const found = (await entriesFor(session)).filter(({ server }) => server.name === name)
    if (found.length === 0) return notFound
    if (version === undefined) return [200, { servers: found, metadata: { count: found.length } }]
    const wanted = decoded(version)
    const one = found.find(({ server }) => wanted === 'latest' || wanted === server.version)
    return one ? [200, one] : notFound
  }

  return {
    has,
    anyOrigin: has,
    async handle(request, response) {
      const send = ([status, body]: Answer, more: Readonly<Record<string, string>> = {}) => {
        const text = body === undefined ? '' : JSON.stringify(body)
        const tag = status === 200 ? { ETag: `"${createHash('sha256').update(text).digest('base64url')}"` } : {}
        if (tag.ETag !== undefined && knows(request.headers['if-none-match'], tag.ETag)) {
          response.writeHead(304, { ...HEADERS, ...tag, ...more })
          return void response.end()
        }
        const about = body === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': String(Buffer.byteLength(text)) }
        response.writeHead(status, { ...HEADERS, ...about, ...tag, ...more })
        response.end(request.method === 'HEAD' ? '' : text)
      }
      try {
        if (request.method === 'OPTIONS') return send([204], { 'Access-Control-Max-Age': '86400' })
        if (request.method !== 'GET' && request.method !== 'HEAD')
          return send([405, { error: 'Method not allowed' }], { Allow: 'GET, HEAD, OPTIONS' })
        if ((request.url ?? '').length > LONGEST_URL) return send([414, { error: 'URI too long' }])
        const caller = await parts.bearer(request)
        try {
          send(await answer(request, caller?.session))
        } finally {
          caller?.release()
        }
      } catch (cause) {
        const error: ChaperoneError = toChaperoneError(cause)
        const { http } = REASONS[error.code]
        if (http >= 500) log(error, 'registry')
        if (response.headersSent) return void response.destroy()
        send([http, { error: error.message, code: error.code }], http === 401 ? { 'WWW-Authenticate': 'Bearer realm="chaperone"' } : {})
      }
    },
  }
}

/** RFC 9110 section 13.1.2: weak or not is no difference here. */
const knows = (asked: string | undefined, tag: string): boolean =>
  (asked ?? '').split(',').some((one) => one.trim() === '*' || one.trim().replace(/^W\//, '') === tag)

const notFound: Answer = [404, { error: 'Server not found' }]
const unknownPath: Answer = [404, { error: 'Not found' }]

/** What is no text is the name of nothing. */
function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}
