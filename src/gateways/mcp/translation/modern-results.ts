import { canonicalJson } from '../../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../../errors.ts'
import { MODERN_VERSIONS } from '../era.ts'
import { LIST_KEYS } from '../offers/filter.ts'
import { membersOf, onOneLine, remade, spanAt } from '../text/json-text.ts'
import {
  INVALID_PARAMS,
  isObject,
  METHOD_NOT_FOUND,
  memberOf,
  type Notification,
  type Params,
  type Request,
  readUpstream,
  type UpstreamMessage,
} from '../wire.ts'

/** What the handshake of the legacy era told of a server. */
export interface Greeting {
  readonly version: string
  readonly capabilities: Readonly<Record<string, unknown>>
  /** JSON text of the whole `result` */
  readonly result: string
  /** JSON text of `serverInfo` */
  readonly info: string | undefined
}

/** A message for a client, and the HTTP status that the modern era ties to it. */
export interface Sent {
  readonly status: number
  readonly text: string
}

/** Results on which the modern era lets a server ask its client for more. */
export const INTERACTIVE: ReadonlySet<string> = new Set(['tools/call', 'prompts/get', 'resources/read'])

const TASKS = 'io.modelcontextprotocol/tasks'
const SERVER_INFO = 'io.modelcontextprotocol/serverInfo'
const ENVELOPE = 'io.modelcontextprotocol/'
const INTERNAL_ERROR = -32603
const RESOURCE_NOT_FOUND = -32002
export const URL_REQUIRED = -32042

/** Codes that mean something else, or nothing, in the modern era: a legacy server does not know what it says with them. */
const REUSED: readonly number[] = [URL_REQUIRED, -32020, -32021, -32022]

/** The rounds are between the client and us; `task` would begin one of the legacy era's tasks, and modern servers ignore it. */
const notForServer = (method: string) => (key: string) =>
  key === 'inputResponses' || key === 'requestState' || (key === 'task' && method === 'tools/call')

/** The client's request as a legacy server gets it: under an id of ours, without the envelope, everything else as it was written. */
export function toLegacy(message: Request, id: number): Request {
  const { text, method, params } = message
  const meta = spanAt(text, ['params', '_meta'])
  const token: Record<string, string> = meta && membersOf(text, meta.start).has('progressToken') ? { progressToken: String(id) } : {}
  const kept = meta ? remade(text, token, (key) => key.startsWith(ENVELOPE), meta.start) : '{}'
  const drop = notForServer(method)
  const span = spanAt(text, ['params'])
  const inner = span && remade(text, kept === '{}' ? {} : { _meta: kept }, (key) => key === '_meta' || drop(key), span.start)
  const rest = Object.fromEntries(Object.entries(params).filter(([key]) => key !== '_meta' && !drop(key)))
  return {
    ...message,
    id,
    params: kept === '{}' ? rest : { ...rest, _meta: JSON.parse(kept) as unknown },
    text: remade(text, { id: String(id), ...(inner === undefined ? {} : { params: inner }) }),
  }
}

/** A notification of a modern client as a legacy server gets it. */
export function toLegacyNotification(message: Notification): Notification {
  const meta = spanAt(message.text, ['params', '_meta'])
  if (!meta) return message
  const params = spanAt(message.text, ['params'])!
  const kept = remade(message.text, {}, (key) => key.startsWith(ENVELOPE), meta.start)
  const inner = remade(message.text, kept === '{}' ? {} : { _meta: kept }, (key) => key === '_meta', params.start)
  return { ...message, params: JSON.parse(inner) as Params, text: remade(message.text, { params: inner }) }
}

/** What a retry must have in common with the call that it continues. Numbers that a double does not keep are compared as they are written. */
export function sameness(message: Request): string {
  const drop = notForServer(message.method)
  const params = Object.fromEntries(Object.entries(message.params).filter(([key]) => key !== '_meta' && !drop(key)))
  return `${message.method} ${exactly(message, Object.keys(params).sort()) ?? canonicalJson(params)}`
}

function exactly({ text, lossy }: Request, keys: readonly string[]): string | undefined {
  if (![...lossy].some((pointer) => keys.includes(pointer.split('/')[2]!))) return undefined
  return keys
    .map((key) => spanAt(text, ['params', key])!)
    .map((span) => text.slice(span.start, span.end))
    .join(' ')
}

/** What a client declares, as the handshake says it. A modern client cannot tell that its roots changed, and tasks are not bridged. */
export function legacyCapabilities(declared: Params): Record<string, unknown> {
  const rest: Record<string, unknown> = Object.fromEntries(Object.entries(declared).filter(([name]) => name !== 'tasks'))
  if (isObject(rest.roots)) {
    const { listChanged: _, ...roots } = rest.roots
    rest.roots = roots
  }
  if (isObject(rest.extensions)) rest.extensions = Object.fromEntries(Object.entries(rest.extensions).filter(([name]) => name !== TASKS))
  return rest
}

/** Reads the answer to `initialize`. Throws `upstream_unavailable` when it is no handshake. */
export function readGreeting(name: string, text: string): Greeting {
  const span = spanAt(text, ['result'])
  const result: unknown = span && JSON.parse(text.slice(span.start, span.end))
  if (!span || !isObject(result) || typeof result.protocolVersion !== 'string')
    throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} refused the handshake.`, { detail: text.slice(0, 500) })
  const info = membersOf(text, span.start).get('serverInfo')
  return {
    version: result.protocolVersion,
    capabilities: isObject(result.capabilities) ? result.capabilities : {},
    result: text.slice(span.start, span.end),
    info: info && text.slice(info.start, info.end),
  }
}

const metaOf = (text: string, info: string | undefined, at = 0): string => {
  const meta = spanAt(text, ['_meta'], at)
  return remade(meta && text[meta.start] === '{' ? text.slice(meta.start, meta.end) : '{}', info === undefined ? {} : { [SERVER_INFO]: info })
}

/** The answer to `server/discover`, from what the handshake told. */
export function discovered(idText: string, greeting: Greeting): string {
  const { result, info } = greeting
  const capabilities = spanAt(result, ['capabilities'])
  const bridged = capabilities ? withoutTasks(result.slice(capabilities.start, capabilities.end)) : '{}'
  const put = {
    resultType: '"complete"',
    supportedVersions: JSON.stringify(MODERN_VERSIONS),
    capabilities: bridged,
    ttlMs: '0',
    cacheScope: '"private"',
    _meta: metaOf(result, info),
  }
  return onOneLine(`{"jsonrpc":"2.0","id":${idText},"result":${remade(result, put, (key) => key === 'protocolVersion' || key === 'serverInfo')}}`)
}

function withoutTasks(capabilities: string): string {
  const extensions = spanAt(capabilities, ['extensions'])
  const put: Record<string, string> =
    extensions && capabilities[extensions.start] === '{' ? { extensions: remade(capabilities, {}, (key) => key === TASKS, extensions.start) } : {}
  return remade(capabilities, put, (key) => key === 'tasks')
}

/** The response of a legacy server, as the modern client that asked shall get it. Throws ChaperoneError when it is none. */
export function toModern(message: Request, idText: string, response: UpstreamMessage, greeting: Greeting): Sent {
  const { text, members } = response
  const error = members.get('error')
  const result = members.get('result')
  if ((error === undefined) === (result === undefined)) throw unreadable(message.method)
  const whole = (put: Record<string, string>) => onOneLine(remade(text, { jsonrpc: '"2.0"', id: idText, ...put }))
  if (error) {
    const { status, text: written } = modernError(message, text.slice(error.start, error.end), greeting)
    return { status, text: whole({ error: written }) }
  }
  if (text[result!.start] !== '{') throw unreadable(message.method)
  const cached = LIST_KEYS[message.method] !== undefined || message.method === 'resources/read'
  const put = {
    // Put, not only added: what a server asks of a client in the modern form has not been judged here.
    resultType: '"complete"',
    ...(cached ? { ttlMs: '0', cacheScope: '"private"' } : {}),
    _meta: metaOf(text, greeting.info, result!.start),
  }
  return { status: 200, text: whole({ result: remade(text, put, () => false, result!.start) }) }
}

const unreadable = (method: string) => new ChaperoneError('upstream_unavailable', `The server's answer to ${method.slice(0, 128)} is not JSON-RPC.`)

/** What each of these methods belongs to: a server that has it knows the method, whatever it says. */
const FEATURES: Readonly<Record<string, string>> = {
  'tools/call': 'tools',
  'prompts/get': 'prompts',
  'resources/read': 'resources',
  'completion/complete': 'completions',
}

function modernError(message: Request, error: string, greeting: Greeting): Sent {
  if (error[0] !== '{') throw unreadable(message.method)
  const span = spanAt(error, ['code'])
  const code = span ? Number(error.slice(span.start, span.end)) : Number.NaN
  if (code === RESOURCE_NOT_FOUND) return { status: 200, text: remade(error, { code: String(INVALID_PARAMS), ...missing(message, error) }) }
  if (REUSED.includes(code)) return { status: 200, text: remade(error, { code: String(INTERNAL_ERROR) }) }
  if (code !== METHOD_NOT_FOUND) return { status: 200, text: error }
  // Legacy servers say so of a tool that can only be called as a task. The method is there; this call of it cannot be made.
  const feature = FEATURES[message.method]
  if (feature !== undefined && feature in greeting.capabilities) return { status: 200, text: remade(error, { code: String(INVALID_PARAMS) }) }
  return { status: 404, text: error }
}

function missing(message: Request, error: string): Record<string, string> {
  const { uri } = message.params
  if (typeof uri !== 'string') return {}
  const data = spanAt(error, ['data'])
  const kept = data && error[data.start] === '{' ? error.slice(data.start, data.end) : '{}'
  return spanAt(kept, ['uri']) ? {} : { data: remade(kept, { uri: JSON.stringify(uri) }) }
}

/** The URLs that a person must visit before the call can be made, when that is what the error says (2025-11-25). */
export function urlsRequired(text: string): Record<string, unknown>[] | undefined {
  if (!text.includes(String(URL_REQUIRED))) return undefined
  const response = readUpstream(text)
  if (memberOf(response, ['error', 'code']) !== URL_REQUIRED) return undefined
  const asked = memberOf(response, ['error', 'data', 'elicitations'])
  if (!Array.isArray(asked) || asked.length === 0) return undefined
  return asked.every((one) => isObject(one) && one.mode === 'url' && typeof one.url === 'string' && typeof one.message === 'string')
    ? (asked as Record<string, unknown>[])
    : undefined
}
