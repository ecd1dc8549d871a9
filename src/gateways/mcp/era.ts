import type { IncomingHttpHeaders } from 'node:http'
import {
  HEADER_MISMATCH,
  INVALID_PARAMS,
  isObject,
  META_VERSION,
  METHOD_NOT_FOUND,
  type Message,
  type Notification,
  ProtocolError,
  REMOVED,
  type Request,
  TARGETS,
  UNSUPPORTED_VERSION,
} from './wire.ts'

/** `legacy`: an `initialize` handshake opens a session. `modern`: every request carries its version in `_meta`. */
export type Era = 'legacy' | 'modern'

export const LEGACY_VERSIONS: readonly string[] = ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25']
export const MODERN_VERSIONS: readonly string[] = ['2026-07-28']
/** The only version that allowed an array of messages. */
export const BATCH_VERSION = '2025-03-26'

export const META_CAPABILITIES = 'io.modelcontextprotocol/clientCapabilities'
export const META_SUBSCRIPTION = 'io.modelcontextprotocol/subscriptionId'

type Headers = IncomingHttpHeaders

/**
 * The era of one posted message, with all that its headers say checked against its body, in the order of the
 * specification (2026-07-28, streamable HTTP). Policy decides on the body; a header that says something else would let a
 * server or proxy behind us act on another call than the one that was judged (peers R10). Throws ProtocolError.
 */
export function eraOf(message: Message, headers: Headers): Era {
  const id = message.kind === 'request' ? message.id : undefined
  const header = single(headers, 'mcp-protocol-version', id)
  const meta = message.kind === 'response' ? undefined : message.params._meta
  const claim = isObject(meta) && META_VERSION in meta ? meta : undefined
  const mismatch = (what: string) =>
    new ProtocolError(HEADER_MISMATCH, `The header ${what} does not say what the body says.`, { id, code: 'ambiguous' })

  if (!claim) {
    if (header !== undefined && MODERN_VERSIONS.includes(header) && message.kind === 'request') {
      throw new ProtocolError(INVALID_PARAMS, `A request of ${header} must carry its version and capabilities in params._meta.`, { id })
    }
    if (header !== undefined && !MODERN_VERSIONS.includes(header) && !LEGACY_VERSIONS.includes(header)) throw unsupported(header, id)
    checkNames(message, headers, false, id)
    return header !== undefined && MODERN_VERSIONS.includes(header) && message.kind === 'notification' ? 'modern' : 'legacy'
  }
  const version = claim[META_VERSION]
  if (header !== undefined && header !== version) throw mismatch('MCP-Protocol-Version')
  const method = single(headers, 'mcp-method', id)
  if (method !== undefined && message.kind !== 'response' && method !== message.method) throw mismatch('Mcp-Method')
  if (message.kind === 'notification') return 'modern'
  if (typeof version !== 'string' || !isObject(claim[META_CAPABILITIES])) {
    throw new ProtocolError(INVALID_PARAMS, `params._meta needs ${META_VERSION}, a string, and ${META_CAPABILITIES}, an object.`, { id })
  }
  if (!MODERN_VERSIONS.includes(version)) throw unsupported(version, id)
  if (header === undefined) throw missing('MCP-Protocol-Version', id)
  if (message.kind === 'request' && REMOVED.has(message.method)) {
    checkMethod(message, headers, true, id)
    throw new ProtocolError(METHOD_NOT_FOUND, `${message.method} does not exist in ${version}.`, { id, http: 404, code: 'unsupported' })
  }
  checkNames(message, headers, true, id)
  return 'modern'
}

const missing = (name: string, id: Request['id'] | undefined) =>
  new ProtocolError(HEADER_MISMATCH, `The header ${name} is missing.`, { id, code: 'ambiguous' })

const unsupported = (version: string, id: Request['id'] | undefined) =>
  new ProtocolError(UNSUPPORTED_VERSION, 'The protocol version is not supported.', {
    id,
    code: 'unsupported',
    // Of those that stand in a request by itself; whoever speaks none of them opens a session instead.
    data: { supported: MODERN_VERSIONS, requested: version.slice(0, 64) },
  })

function checkMethod(message: Request | Notification, headers: Headers, required: boolean, id: Request['id'] | undefined): void {
  const method = single(headers, 'mcp-method', id)
  if (method === undefined ? required : method !== message.method)
    throw method === undefined ? missing('Mcp-Method', id) : mismatched('Mcp-Method', id)
}

/** `Mcp-Method` and `Mcp-Name` must be there in the modern era, and must be true in any. */
function checkNames(message: Message, headers: Headers, required: boolean, id: Request['id'] | undefined): void {
  if (message.kind === 'response') return
  checkMethod(message, headers, required, id)
  const target = TARGETS[message.method]
  const name = single(headers, 'mcp-name', id)
  const needed = target !== undefined && message.method !== 'resources/subscribe' && message.method !== 'resources/unsubscribe' ? target : undefined
  if (needed === undefined) return
  if (name === undefined) {
    if (required) throw missing('Mcp-Name', id)
  } else if (decodeHeader(name, id) !== message.params[needed]) {
    throw mismatched('Mcp-Name', id)
  }
}

const mismatched = (name: string, id: Request['id'] | undefined) =>
  new ProtocolError(HEADER_MISMATCH, `The header ${name} does not say what the body says.`, { id, code: 'ambiguous' })

/** A header that came twice is joined with a comma by Node: no value of ours has one, so it cannot be equal by accident. */
function single(headers: Headers, name: string, id: Request['id'] | undefined): string | undefined {
  const value = headers[name]
  if (Array.isArray(value)) throw mismatched(name, id)
  return value?.trim()
}

/** `=?base64?...?=` carries what a header cannot (2026-07-28, section on header encoding). Bad Base64 is refused, not guessed. */
export function decodeHeader(value: string, id?: Request['id']): string {
  const inner = /^=\?base64\?(.*)\?=$/s.exec(value)?.[1]
  if (inner === undefined) return value
  const bytes = Buffer.from(inner, 'base64')
  if (bytes.toString('base64') !== inner) throw new ProtocolError(HEADER_MISMATCH, 'A header has broken Base64.', { id })
  const text = bytes.toString('utf8')
  if (!Buffer.from(text, 'utf8').equals(bytes)) throw new ProtocolError(HEADER_MISMATCH, 'A header is not UTF-8.', { id })
  return text
}

/** GET and DELETE have no body to say the version in; the modern era has neither. */
export function checkVersion({ headers }: { readonly headers: IncomingHttpHeaders }): void {
  const version = headers['mcp-protocol-version']
  if (version === undefined || LEGACY_VERSIONS.includes(String(version))) return
  const http = MODERN_VERSIONS.includes(String(version)) ? 405 : 400
  throw new ProtocolError(-32000, 'This version has no streams and sessions: use POST.', { http, code: 'unsupported' })
}
