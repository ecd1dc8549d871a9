/**
 * What tokens of OAuth open: each MCP server, and the endpoint of all of them, is a protected resource (RFC 9728) with a
 * canonical address. That address is the audience of its tokens, letter by letter (RFC 8707). Pure.
 */

/** `mcp`: whatever was agreed to; `mcp:read`: of that, only what changes nothing. */
export const SCOPES = ['mcp', 'mcp:read'] as const
export type Scope = (typeof SCOPES)[number]

/** What a client is told to ask for: it has no way to know that less would do. */
export const DEFAULT_SCOPE: Scope = 'mcp'

/** Whether whoever asks for these scopes wants to read and no more. */
export const readsOnly = (scope: unknown): boolean => {
  const asked = typeof scope === 'string' ? scope.split(' ') : []
  return asked.includes('mcp:read') && !asked.includes('mcp')
}

const METADATA = '/.well-known/oauth-protected-resource'
/** The path of an MCP server: `/mcp/<name>`, nothing behind it; `/mcp/<resource>/<database>`, of a database; or `/mcp`, for all of them. */
const MCP_PATH = /^\/mcp(?:\/([A-Za-z0-9][A-Za-z0-9._-]{0,127})(?:\/([^/]{1,200}))?)?\/?$/

/** One of the resources: `server` is undefined for all servers together. */
export interface McpResource {
  readonly server: string | undefined
}

/** What of MCP a path leads to. The names of databases have any letters. */
export function mcpServerIn(path: string): { readonly name: string | undefined } | undefined {
  const parts = MCP_PATH.exec(path)
  if (!parts) return undefined
  const [, name, database] = parts
  if (database === undefined) return { name }
  try {
    return { name: `${name}/${decodeURIComponent(database)}` }
  } catch {
    return undefined
  }
}

const pathOf = (server: string | undefined): string => {
  if (server === undefined) return '/mcp'
  const [name = '', ...database] = server.split('/')
  return `/mcp/${name}${database.length === 0 ? '' : `/${encodeURIComponent(database.join('/'))}`}`
}

/** `https://host[:port]/mcp/<server>`; `web` is the web listener as others reach it. */
export const resourceUrl = (web: string, server: string | undefined): string => `https://${web}${pathOf(server)}`

/** Which of our resources this is the canonical address of, or undefined. Whether there is such a server is not said here (rule 8). */
export function readResource(web: string, text: string): McpResource | undefined {
  const url = URL.parse(text)
  if (!url) return undefined
  const found = mcpServerIn(url.pathname)
  // Compared as it was sent: scheme and host may be written in capitals (RFC 9728 section 3.3), and the port that goes without saying may be
  // said. Nothing else may differ, also what a URL parser puts right (`/./`, `\`, spaces): the next one would read another address in it.
  const sent = text.replace(/^https:\/\/[^/]*/i, (at) => (web.endsWith(':443') ? at : at.replace(/:443$/, '')).toLowerCase())
  return found && sent === resourceUrl(web, found.name) ? { server: found.name } : undefined
}

/** Of an address of the listener where certificates are shown, the same at the web listener: one resource has one audience, whichever of its two addresses a client was given. */
export function canonical({ web, data }: { readonly web: string; readonly data: string }, text: string): string {
  const there = readResource(data, text)
  return there ? resourceUrl(web, there.server) : text
}

/** `https://host/.well-known/oauth-protected-resource/mcp/<server>` (RFC 9728 section 3.1) */
export const metadataUrl = (web: string, server: string | undefined): string => `https://${web}${METADATA}${pathOf(server)}`

/** Which resource's metadata a path asks for: at the root that of all servers. */
export function metadataAt(path: string): McpResource | undefined {
  if (path === METADATA) return { server: undefined }
  if (!path.startsWith(`${METADATA}/`)) return undefined
  const found = mcpServerIn(path.slice(METADATA.length))
  return found && { server: found.name }
}

export const isMetadataPath = (path: string): boolean => path === METADATA || path.startsWith(`${METADATA}/`)

/** RFC 9728 section 3.2, of one of its addresses: at `mutual` certificates are shown, and tokens are believed only beside the one they are bound to. */
export const resourceMetadata = (at: string, issuer: string, { server }: McpResource, mutual: boolean) => ({
  resource: resourceUrl(at, server),
  tls_client_certificate_bound_access_tokens: mutual,
  authorization_servers: [issuer],
  scopes_supported: [DEFAULT_SCOPE],
  bearer_methods_supported: ['header'],
  resource_name: server === undefined ? 'MCP servers behind Chaperone' : `${server} behind Chaperone`,
})

/** `WWW-Authenticate` of a refusal at an MCP address (RFC 6750 section 3, RFC 9728 section 5.1). */
export function challenge(web: string, server: string | undefined, error?: 'invalid_token' | 'insufficient_scope'): string {
  const parts = [...(error === undefined ? [] : [`error="${error}"`]), `resource_metadata="${metadataUrl(web, server)}"`, `scope="${DEFAULT_SCOPE}"`]
  return `Bearer ${parts.join(', ')}`
}

/** The same for limits of a delegation. Behind the MCP server of a database stands the database: its statements are judged there. */
export const kindsOf = (server: string): readonly string[] =>
  server.includes('/') ? [`mcp/${server}`, `postgres/${server.slice(0, server.indexOf('/'))}`] : [`mcp/${server}`]
