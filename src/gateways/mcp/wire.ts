import { findCaseVariants } from '../../encoding/case-variants.ts'
import { parseStrict } from '../../encoding/strict-json.ts'
import { ChaperoneError } from '../../errors.ts'
import type { McpLimits } from './limits.ts'
import { itemsOf, membersOf, type Span, spanAt } from './text/json-text.ts'
import { isOurs, withoutSpoofed } from './text/meta.ts'

export type RequestId = string | number
export type Params = Readonly<Record<string, unknown>>

interface Common {
  /** The exact text that arrived: what is judged is what goes on (rule 2). */
  readonly text: string
  /** JSON pointers into the message of numbers that a double does not keep. */
  readonly lossy: ReadonlySet<string>
}
export interface Request extends Common {
  readonly kind: 'request'
  readonly id: RequestId
  readonly method: string
  readonly params: Params
}
export interface Notification extends Common {
  readonly kind: 'notification'
  readonly method: string
  readonly params: Params
}
export interface Response extends Common {
  readonly kind: 'response'
  readonly id: RequestId
  /** where the id stands in `text` */
  readonly idSpan: Span
}
/** One JSON-RPC message of a client, read in the one way in which it can be read. */
export type Message = Request | Notification | Response

/** A JSON-RPC error whose code the specification fixes; `reason` is still ours, for the record. */
export class ProtocolError extends ChaperoneError {
  readonly jsonrpc: number
  readonly http: number
  readonly id: RequestId | undefined
  readonly data: Readonly<Record<string, unknown>>

  constructor(
    jsonrpc: number,
    message: string,
    more: {
      http?: number
      id?: RequestId | undefined
      data?: Record<string, unknown>
      code?: 'malformed' | 'ambiguous' | 'unsupported' | 'not_found'
    } = {},
  ) {
    super(more.code ?? 'malformed', message)
    this.name = 'ProtocolError'
    this.jsonrpc = jsonrpc
    this.http = more.http ?? 400
    this.id = more.id
    this.data = more.data ?? {}
  }
}

/** An MCP session that is no more. The status makes the client open a new one; 401 would send the person to sign in. */
export const sessionGone = (message: string) => new ProtocolError(-32001, message, { http: 404, code: 'not_found' })

export const PARSE_ERROR = -32700
export const INVALID_REQUEST = -32600
export const METHOD_NOT_FOUND = -32601
export const INVALID_PARAMS = -32602
export const HEADER_MISMATCH = -32020
export const MISSING_CAPABILITY = -32021
export const UNSUPPORTED_VERSION = -32022

const TOP = new Set(['jsonrpc', 'id', 'method', 'params', 'result', 'error'])

/**
 * Keys that decide where a message goes or what it does. A server whose decoder ignores case (Go's encoding/json) would
 * read `Name` over `name` (peers R01-R04).
 */
const PARAM_KEYS = [
  ...['name', 'arguments', 'uri', '_meta', 'cursor', 'ref', 'argument', 'context', 'level', 'protocolVersion', 'capabilities', 'clientInfo'],
  ...['inputResponses', 'requestState', 'requestId', 'progressToken', 'progress', 'reason', 'taskId', 'task', 'notifications'],
]
const META_KEYS = [
  'progressToken',
  'io.modelcontextprotocol/protocolVersion',
  'io.modelcontextprotocol/clientCapabilities',
  'io.modelcontextprotocol/clientInfo',
  'io.modelcontextprotocol/logLevel',
]
const NESTED_KEYS: Readonly<Record<string, readonly string[]>> = {
  _meta: META_KEYS,
  ref: ['type', 'name', 'uri'],
  argument: ['name', 'value'],
  notifications: ['toolsListChanged', 'promptsListChanged', 'resourcesListChanged', 'resourceSubscriptions', 'taskIds'],
}

export const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Longer ids would only serve to fill our memory. */
const MAX_ID = 256
const MAX_NAME = 4096

export function isRequestId(id: unknown): id is RequestId {
  return (typeof id === 'string' && id.length <= MAX_ID) || (typeof id === 'number' && Number.isSafeInteger(id))
}

/**
 * The message, or the messages of a batch (an array, as 2025-03-26 allowed). Throws ProtocolError or ChaperoneError:
 * `malformed`, `ambiguous`, `too_large`. Nothing is repaired.
 */
export function readMessages(bytes: Uint8Array, limits: Pick<McpLimits, 'bodyBytes' | 'depth' | 'batch'>): Message | readonly Message[] {
  const { value, lossy } = parse(bytes, limits)
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
  // An escaped NUL ends the string early for a server written in C; a raw one is no JSON.
  if (text.includes('u0000') && /(?<!\\)(?:\\\\)*\\u0000/.test(text)) throw ambiguous('it holds a NUL')
  if (!Array.isArray(value)) return readMessage(value, text, lossy)
  if (value.length === 0) throw new ProtocolError(INVALID_REQUEST, 'An empty batch asks for nothing.')
  if (value.length > limits.batch) throw new ChaperoneError('too_large', `The batch has more than ${limits.batch} messages.`)
  const spans = itemsOf(text)
  return value.map((item, i) => {
    const below = new Set([...lossy].filter((pointer) => pointer.startsWith(`/${i}/`)).map((pointer) => pointer.slice(`/${i}`.length)))
    return readMessage(item, text.slice(spans[i]!.start, spans[i]!.end), below)
  })
}

function parse(bytes: Uint8Array, limits: Pick<McpLimits, 'bodyBytes' | 'depth'>) {
  try {
    return parseStrict(bytes, { maxBytes: limits.bodyBytes, maxDepth: limits.depth })
  } catch (error) {
    if (error instanceof ChaperoneError && error.code === 'malformed') throw new ProtocolError(PARSE_ERROR, error.message)
    throw error
  }
}

const ambiguous = (why: string, id?: RequestId) =>
  new ProtocolError(INVALID_REQUEST, `The message could be read in two ways: ${why}.`, { code: 'ambiguous', id })

function readMessage(value: unknown, text: string, lossy: ReadonlySet<string>): Message {
  const invalid = (why: string, id?: RequestId) => new ProtocolError(INVALID_REQUEST, `This is not a JSON-RPC 2.0 message: ${why}.`, { id })
  if (!isObject(value)) throw invalid('it is not an object')
  const id = isRequestId(value.id) ? value.id : undefined
  for (const key of Object.keys(value)) {
    // `Method` beside `method`, or `ID` instead of `id`: another reader would see another message.
    if (!TOP.has(key))
      throw TOP.has(key.toUpperCase().toLowerCase()) ? ambiguous(`it has the member ${show(key)}`, id) : invalid(`it has the member ${show(key)}`, id)
  }
  if (value.jsonrpc !== '2.0') throw invalid('`jsonrpc` is not "2.0"', id)
  if ('id' in value && id === undefined) throw invalid('`id` is not a short string or an integer')

  if (!('method' in value)) {
    if (id === undefined || 'params' in value || 'result' in value === 'error' in value)
      throw invalid('it has neither a method nor one of result and error', id)
    return { kind: 'response', id, idSpan: spanAt(text, ['id'])!, text, lossy }
  }
  const { method, params = {} } = value
  if ('result' in value || 'error' in value) throw invalid('it is a request and a response at once', id)
  if (typeof method !== 'string' || !/^[\x21-\x7e]{1,128}$/.test(method)) throw invalid('`method` is not a name', id)
  if (!isObject(params)) throw invalid('`params` is not an object', id)
  checkParams(method, params, id)
  const spoofed = Object.keys(isObject(params._meta) ? params._meta : {}).filter(isOurs)
  const message =
    spoofed.length === 0 ? { params, text } : { params: { ...params, _meta: without(params._meta as Params, spoofed) }, text: withoutSpoofed(text) }
  return id === undefined ? { kind: 'notification', method, ...message, lossy } : { kind: 'request', id, method, ...message, lossy }
}

function checkParams(method: string, params: Record<string, unknown>, id: RequestId | undefined): void {
  refuseVariants(params, PARAM_KEYS, id)
  for (const [key, known] of Object.entries(NESTED_KEYS)) {
    const nested = params[key]
    if (isObject(nested)) refuseVariants(nested, known, id)
  }
  const meta = params._meta
  if (meta !== undefined && !isObject(meta)) throw new ProtocolError(INVALID_PARAMS, '`_meta` is not an object.', { id })
  const token = meta?.progressToken
  if (token !== undefined && !isRequestId(token))
    throw new ProtocolError(INVALID_PARAMS, '`progressToken` is not a short string or an integer.', { id })
  const target = TARGETS[method]
  // What does not exist in its era is refused for that, not for its parameters.
  if (target === undefined || (REMOVED.has(method) && meta !== undefined && META_VERSION in meta)) return
  const value = params[target]
  if (typeof value !== 'string' || value === '' || value.length > MAX_NAME)
    throw new ProtocolError(INVALID_PARAMS, `${method} needs \`${target}\`, a string.`, { id })
  if (params.arguments !== undefined && !isObject(params.arguments)) throw new ProtocolError(INVALID_PARAMS, '`arguments` is not an object.', { id })
}

export const META_VERSION = 'io.modelcontextprotocol/protocolVersion'

/** What the modern era took away; a server must not see it with a modern envelope. */
export const REMOVED: ReadonlySet<string> = new Set([
  ...['initialize', 'ping', 'logging/setLevel', 'resources/subscribe', 'resources/unsubscribe', 'tasks/result', 'tasks/list'],
  'notifications/roots/list_changed',
])

/** The parameter that says what a method is about; without it there is nothing to judge. */
export const TARGETS: Readonly<Record<string, 'name' | 'uri' | 'taskId'>> = {
  'tools/call': 'name',
  'prompts/get': 'name',
  'resources/read': 'uri',
  'resources/subscribe': 'uri',
  'resources/unsubscribe': 'uri',
  'tasks/get': 'taskId',
  'tasks/update': 'taskId',
  'tasks/cancel': 'taskId',
  'tasks/result': 'taskId',
}

function refuseVariants(object: Record<string, unknown>, known: readonly string[], id: RequestId | undefined): void {
  const found = findCaseVariants(object, known)[0]
  if (found !== undefined) throw ambiguous(`it has the key ${show(found)}`, id)
}

const without = (object: Params, keys: readonly string[]): Params => Object.fromEntries(Object.entries(object).filter(([key]) => !keys.includes(key)))

const show = (key: string) => JSON.stringify(key.slice(0, 64))

/** A message of a server, as far as routing needs it: the rest of its text is passed on unread (rule 10). */
export interface UpstreamMessage {
  readonly kind: 'request' | 'notification' | 'response'
  readonly id: RequestId | undefined
  readonly method: string | undefined
  readonly text: string
  readonly members: ReadonlyMap<string, Span>
}

/** Throws ChaperoneError `malformed` or `ambiguous`: what cannot be routed in exactly one way is not passed on. */
export function readUpstream(text: string): UpstreamMessage {
  const members = membersOf(text)
  for (const key of members.keys()) {
    if (!TOP.has(key) && TOP.has(key.toUpperCase().toLowerCase()))
      throw new ChaperoneError('ambiguous', `The server's message has the member ${show(key)}.`)
  }
  const at = (key: string): unknown => {
    const span = members.get(key)
    if (!span) return undefined
    try {
      return JSON.parse(text.slice(span.start, span.end))
    } catch {
      throw new ChaperoneError('malformed', "The server's message is not JSON.")
    }
  }
  const id = at('id')
  const known = isRequestId(id) ? id : undefined
  if (!members.has('method')) {
    if (!members.has('result') && !members.has('error')) throw new ChaperoneError('malformed', "The server's message is not JSON-RPC.")
    return { kind: 'response', id: known, method: undefined, text, members }
  }
  const method = at('method')
  if (typeof method !== 'string' || method === '') throw new ChaperoneError('malformed', "The server's message has no method.")
  if (members.has('id') && known === undefined) throw new ChaperoneError('malformed', "The server's request has no usable id.")
  return { kind: known === undefined ? 'notification' : 'request', id: known, method, text, members }
}

/** The parsed value of one member of a server's message; undefined when it is not there. Throws `malformed`, `ambiguous`. */
export function memberOf(message: UpstreamMessage, path: readonly string[]): unknown {
  const span = spanAt(message.text, path)
  return span && parseStrict(message.text.slice(span.start, span.end), { maxBytes: Number.MAX_SAFE_INTEGER, maxDepth: 256 }).value
}
