/**
 * The HTTP headers that MCP 2026-07-28 wants beside a message, made from the message itself: for a client that speaks stdio
 * (the shim) or another era (the translator), and knows nothing of them. Pure.
 */
export type Json = Readonly<Record<string, unknown>>

const PROTOCOL_VERSION = 'io.modelcontextprotocol/protocolVersion'

const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

/** The version that a message of the stateless era carries; undefined for one of the era with sessions. */
export function modernVersion(message: Json): string | undefined {
  const params = isObject(message.params) ? message.params : {}
  const version = isObject(params._meta) ? params._meta[PROTOCOL_VERSION] : undefined
  return typeof version === 'string' ? version : undefined
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
/** More tools than any server has: a list without end must not fill our memory. */
const MAX_TOOLS = 10_000

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
    if (found.length === 0) mirrored.delete(tool.name)
    else if (mirrored.size < MAX_TOOLS || mirrored.has(tool.name)) mirrored.set(tool.name, found)
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
export function modernHeaders(message: Json, mirrored: Mirrored): Record<string, string> {
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

/**
 * The header that does not say what the argument says, or is missing: whoever routes or decides by it would see another call
 * than the one that is made. Undefined: all is well. Headers of arguments that are not marked are not ours to judge.
 */
export function wronglyMirrored(
  call: { readonly params: Json },
  headers: Readonly<Record<string, string | undefined>>,
  mirrored: Mirrored,
  decode: (value: string) => string,
): string | undefined {
  const { name, arguments: args } = call.params
  for (const { path, header } of mirrored.get(String(name)) ?? []) {
    const value = argumentAt(args, path)
    const given = headers[`mcp-param-${header.toLowerCase()}`]
    const said = given === undefined ? undefined : decode(given.trim())
    const expected = value === undefined || value === null ? undefined : value
    const same =
      typeof expected === 'number'
        ? said !== undefined && said.trim() !== '' && Number(said) === expected
        : said === (expected === undefined ? undefined : String(expected))
    if (!same) return `Mcp-Param-${header}`
  }
  return undefined
}
