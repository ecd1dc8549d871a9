import type { Resource } from '../policy/types.ts'

const OFFICIAL = 'io.modelcontextprotocol.registry/official'
/** Ours, as with everything that we add to messages. */
const OWN = 'dev.chaperone/catalog'

/**
 * What the registry API says of a server (MCP Server Registry API v0.1 of 2025-12-01; server.json of 2025-12-11). The
 * address is always the gateway's: where a server really lives is nobody's business who looks for one. Pure.
 */
export interface RegistryServer {
  readonly $schema: string
  readonly name: string
  readonly title: string
  readonly description: string
  readonly version: string
  readonly remotes: readonly { readonly type: 'streamable-http'; readonly url: string }[]
}

export interface RegistryEntry {
  readonly server: RegistryServer
  readonly _meta: { readonly [OFFICIAL]: { readonly updatedAt: string; readonly [more: string]: unknown }; readonly [OWN]: unknown }
}

/** A server of the catalog, as far as the registry is about it. */
export interface Offered {
  readonly resource: Pick<Resource, 'name' | 'labels'>
  readonly description?: string
  /** ms since 1970 */
  readonly updatedAt: number
}

const SCHEMA = 'https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json'
const LONGEST_DESCRIPTION = 100
const LONGEST_NAME = 200
const DAY_MS = 86_400_000

/** `chaperone.example.com` -> `com.example.chaperone`: whoever has the name may name servers under it. */
const reversed = (trustDomain: string): string => trustDomain.split('.').reverse().join('.')

/** server.json takes letters, digits, `.`, `_` and `-` behind one slash; the tools of a database have a slash and any letters in their name. */
function registryName(trustDomain: string, server: string): string {
  const own = server.replace('/', '_').replace(/[^A-Za-z0-9._-]/g, (letter) => `-${letter.codePointAt(0)!.toString(16)}-`)
  return `${reversed(trustDomain)}/${own}`.slice(0, LONGEST_NAME)
}

/** A version that grows with each change: days and seconds, as semantic versioning wants them. Ranges and `latest` are none. */
const registryVersion = (updatedAt: number): string => `1.${Math.floor(updatedAt / DAY_MS)}.${Math.floor((updatedAt % DAY_MS) / 1000)}`

export function registryEntry(offered: Offered, { trustDomain, web }: { readonly trustDomain: string; readonly web: string }): RegistryEntry {
  const { resource, description, updatedAt } = offered
  const [name = '', database] = cut(resource.name)
  const at = new Date(updatedAt).toISOString()
  const said = description || `${resource.name}, through Chaperone of ${trustDomain}`
  return {
    server: {
      $schema: SCHEMA,
      name: registryName(trustDomain, resource.name),
      title: shortened(resource.name),
      description: shortened(said),
      version: registryVersion(updatedAt),
      remotes: [{ type: 'streamable-http', url: `https://${web}/mcp/${name}${database === undefined ? '' : `/${encodeURIComponent(database)}`}` }],
    },
    _meta: {
      [OFFICIAL]: { status: 'active', statusChangedAt: at, publishedAt: at, updatedAt: at, isLatest: true },
      [OWN]: { trustDomain, name: resource.name },
    },
  }
}

function cut(name: string): readonly [string, string?] {
  const slash = name.indexOf('/')
  return slash < 0 ? [name] : [name.slice(0, slash), name.slice(slash + 1)]
}

const shortened = (text: string): string => {
  const letters = [...text]
  return letters.length <= LONGEST_DESCRIPTION ? text : `${letters.slice(0, LONGEST_DESCRIPTION - 1).join('')}…`
}

export interface RegistryQuery {
  readonly cursor?: string
  readonly limit: number
  readonly search?: string
  /** ms since 1970 */
  readonly updatedSince?: number
  readonly version?: string
}

const MOST = 100
const USUAL = 30
/** RFC 3339: a day, a time, and a zone. */
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/i

/** The query of a list, or what is wrong with it. What we do not know is not looked at, as the API wants. */
export function readQuery(params: URLSearchParams): RegistryQuery | { readonly wrong: string } {
  const text = (name: string) => params.get(name) || undefined
  const limit = text('limit')
  if (limit !== undefined && !/^[1-9]\d{0,5}$/.test(limit)) return { wrong: 'limit is a number from 1' }
  const since = text('updated_since')
  if (since !== undefined && (!MOMENT.test(since) || Number.isNaN(Date.parse(since)))) return { wrong: 'updated_since is a time as in RFC 3339' }
  const cursor = text('cursor')
  const [search, version] = [text('search'), text('version')]
  return {
    limit: Math.min(Number(limit ?? USUAL), MOST),
    ...(cursor === undefined ? {} : { cursor: Buffer.from(cursor, 'base64url').toString('utf8') }),
    ...(search === undefined ? {} : { search: search.toLowerCase() }),
    ...(since === undefined ? {} : { updatedSince: Date.parse(since) }),
    ...(version === undefined ? {} : { version }),
  }
}

/** One page, in the order of names: what is added or taken away meanwhile makes nobody miss another. */
export function registryPage(entries: readonly RegistryEntry[], query: RegistryQuery) {
  const found = entries
    .filter(
      ({ server }) =>
        query.search === undefined || server.name.toLowerCase().includes(query.search) || server.title.toLowerCase().includes(query.search),
    )
    .filter((entry) => query.updatedSince === undefined || Date.parse(entry._meta[OFFICIAL].updatedAt) >= query.updatedSince)
    .filter(({ server }) => query.version === undefined || query.version === 'latest' || query.version === server.version)
    .filter(({ server }) => query.cursor === undefined || server.name > query.cursor)
    .sort((a, b) => (a.server.name < b.server.name ? -1 : 1))
  const servers = found.slice(0, query.limit)
  const last = servers.at(-1)
  const nextCursor = found.length > servers.length && last ? Buffer.from(last.server.name).toString('base64url') : undefined
  return { servers, metadata: { ...(nextCursor === undefined ? {} : { nextCursor }), count: servers.length } }
}
