/**
 * The HTTP headers that MCP 2026-07-28 wants beside a message, made from the message itself: the shim's client speaks
 * stdio and knows nothing of them. Pure.
 */
export type Message = Readonly<Record<string, unknown>>

const PROTOCOL_VERSION = 'io.modelcontextprotocol/protocolVersion'
const CLIENT_INFO = 'io.modelcontextprotocol/clientInfo'

const isObject = (value: unknown): value is Message => typeof value === 'object' && value !== null && !Array.isArray(value)

const metaOf = (message: Message): Message => {
  const params = isObject(message.params) ? message.params : {}
  return isObject(params._meta) ? params._meta : {}
}

/** The version that a message of the stateless era carries; undefined for one of the era with sessions. */
export function modernVersion(message: Message): string | undefined {
  const version = metaOf(message)[PROTOCOL_VERSION]
  return typeof version === 'string' ? version : undefined
}

/** What the client calls itself, in either era. Self-reported: good for a label, never for a decision. */
export function clientNameIn(message: Message): string | undefined {
  const params = isObject(message.params) ? message.params : {}
  const info = isObject(params.clientInfo) ? params.clientInfo : metaOf(message)[CLIENT_INFO]
  return isObject(info) && typeof info.name === 'string' ? info.name : undefined
}

/** Where `Mcp-Name` is read from, by method (specification 2026-07-28, headers). */
const NAMED_BY: Readonly<Record<string, string>> = {
  'tools/call': 'name',
  'prompts/get': 'name',
  'resources/read': 'uri',
  'tasks/get': 'taskId',
  'tasks/update': 'taskId',
  'tasks/cancel': 'taskId',
}

/** Plain where it may be, else the base64 form: a value from a model must never end a header line. */
export function headerValue(value: string): string {
  const plain = /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(value) && !/^=\?base64\?.*\?=$/.test(value)
  return plain ? value : `=?base64?${Buffer.from(value, 'utf8').toString('base64')}?=`
}

/** Tool name → argument path → header suffix, from the `x-mcp-header` marks of a tools/list result. */
export type Mirrored = Map<string, readonly { readonly path: readonly string[]; readonly header: string }[]>

const DEEPEST_SCHEMA = 16

/** Reads the marks of each tool in a `tools/list` result into `mirrored`. Marks in places the specification forbids are ignored. */
export function learnMirrored(result: unknown, mirrored: Mirrored): void {
  const tools = isObject(result) && Array.isArray(result.tools) ? result.tools : []
  for (const tool of tools) {
    if (!isObject(tool) || typeof tool.name !== 'string') continue
    const found: { path: string[]; header: string }[] = []
    const walk = (schema: unknown, path: string[]) => {
      if (!isObject(schema) || path.length > DEEPEST_SCHEMA) return
      for (const [name, property] of Object.entries(isObject(schema.properties) ? schema.properties : {})) {
        if (!isObject(property)) continue
        const header = property['x-mcp-header']
        if (typeof header === 'string' && /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$/.test(header)) found.push({ path: [...path, name], header })
        walk(property, [...path, name])
      }
    }
    walk(tool.inputSchema, [])
    if (found.length > 0) mirrored.set(tool.name, found)
    else mirrored.delete(tool.name)
  }
}

function argumentAt(root: unknown, path: readonly string[]): unknown {
  let value = root
  for (const key of path) {
    if (!isObject(value) || !Object.hasOwn(value, key)) return undefined
    value = value[key]
  }
  return value
}

/** The headers of one message of the stateless era. */
export function modernHeaders(message: Message, mirrored: Mirrored): Record<string, string> {
  const headers: Record<string, string> = { 'mcp-protocol-version': modernVersion(message) ?? '' }
  if (typeof message.method !== 'string') return headers
  headers['mcp-method'] = headerValue(message.method)
  const params = isObject(message.params) ? message.params : {}
  const name = params[NAMED_BY[message.method] ?? '']
  if (typeof name === 'string') headers['mcp-name'] = headerValue(name)
  if (message.method === 'tools/call' && typeof params.name === 'string') {
    for (const { path, header } of mirrored.get(params.name) ?? []) {
      const value = argumentAt(params.arguments, path)
      if (typeof value === 'string' || typeof value === 'boolean' || Number.isSafeInteger(value))
        headers[`mcp-param-${header.toLowerCase()}`] = headerValue(String(value))
    }
  }
  return headers
}

/** A client's own name as a part of an identity's name: lower case, digits and dashes. */
export function clientLabel(name: string | undefined): string {
  const label = (name ?? '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 40)
    .replace(/-+$/, '')
  return label || 'mcp-client'
}
