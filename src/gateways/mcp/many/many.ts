import type { Guard, Resources } from '../../../access/types.ts'
import type { AuditLog } from '../../../audit/record.ts'
import type { McpServerSpec } from '../../../catalog/mcp-server.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import { actingIn } from '../../../identity/named.ts'
import type { LiveSession } from '../../../identity/types.ts'
import { type Answer, Collector, finish } from '../answer.ts'
import { describeMcp } from '../describe.ts'
import { LEGACY_VERSIONS, META_SUBSCRIPTION, MODERN_VERSIONS } from '../era.ts'
import type { Exchange, Turn } from '../exchange.ts'
import { ALL, type Lane, type McpSession, type Server } from '../lanes.ts'
import type { McpLimits } from '../limits.ts'
import { LIST_KEYS } from '../offers/filter.ts'
import type { McpSessions } from '../sessions.ts'
import { edited, onOneLine, spanAt } from '../text/json-text.ts'
import { headerValue } from '../text/modern-headers.ts'
import { sseEvent } from '../text/sse.ts'
import { Tap } from '../translation/tap.ts'
import {
  INVALID_PARAMS,
  isObject,
  METHOD_NOT_FOUND,
  type Notification,
  ProtocolError,
  type Request,
  type RequestId,
  readMessages,
  readUpstream,
  type UpstreamMessage,
} from '../wire.ts'
import { cutUri, exposedNotification, exposedResponse, prefixOf, routed } from './exposed-names.ts'
import { mergedAnswer, mergedLists } from './merged-lists.ts'

export interface ManyParts {
  readonly audit: Pick<AuditLog, 'append'>
  readonly exchange: Exchange
  readonly sessions: McpSessions
  readonly guard: Guard
  readonly resources: Resources
  readonly clock: Clock
  readonly limits: McpLimits
  readonly mayKeepLists: () => boolean
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/** The endpoint of all servers that the caller may use. Each message goes to servers through the same exchange as at their own endpoints. */
export interface Many {
  /** `initialize`: answers by itself; no server is asked before something of it is wanted. Returns the id of the MCP session. */
  greet(session: LiveSession, message: Request): { readonly of: McpSession; readonly text: string }
  request(turn: Turn, message: Request, answer: Answer): Promise<void>
  notify(turn: Turn, message: Notification): Promise<void>
  /** The legacy era's standalone stream, until either side ends it. */
  stream(turn: Turn, answer: Answer): Promise<void>
}

/** What a legacy client said of itself, told again to each server. */
interface Greeting {
  readonly version: string
  readonly capabilities: unknown
  readonly clientInfo: unknown
}

interface State {
  readonly greeting: Greeting | undefined
  /** the handshake with each server, by its lane: a lane that is opened again shakes hands again */
  readonly shaken: WeakMap<Lane, Promise<void>>
  /** legacy: where a request went, for its cancellation */
  readonly inFlight: Map<RequestId, Server>
  level: string | undefined
  stream: Answer | undefined
  /** starts the stream of a server that is opened while the client listens */
  follow: ((server: Server) => void) | undefined
}

const CAPABILITIES = {
  tools: { listChanged: true },
  prompts: { listChanged: true },
  resources: { subscribe: true, listChanged: true },
  completions: {},
  logging: {},
}

const INSTRUCTIONS =
  'Several servers behind one endpoint. The name of each tool and prompt begins with its server and two underscores; the URI of each resource with its server and a plus sign.'

export function makeMany({ audit, exchange, sessions, guard, resources, clock, limits, mayKeepLists, log }: ManyParts): Many {
  const states = new WeakMap<McpSession, State>()
  const stateOf = (of: McpSession): State => {
    const known = states.get(of)
    if (known) return known
    const fresh: State = { greeting: undefined, shaken: new WeakMap(), inFlight: new Map(), level: undefined, stream: undefined, follow: undefined }
    states.set(of, fresh)
    return fresh
  }
  /** The servers that the caller may use, by prefix. What may not be seen is not there (rule 8). */
  const visible = (session: LiveSession): Map<string, Server> => {
    const found = new Map<string, Server>()
    for (const { resource, spec } of [...resources.list('mcp')].sort((a, b) => (a.resource.name < b.resource.name ? -1 : 1))) {
      const server = { resource, spec: spec as McpServerSpec }
      if (guard.judge(session, describeMcp(server, { method: 'ping', params: {} })).verdict !== 'allow') continue
      const prefix = prefixOf(resource.name)
      if (found.has(prefix)) log('mcp.prefix', { server: resource.name, prefix })
      else found.set(prefix, server)
    }
    return found
  }

  /** What goes to a server with a message of our own making or rewriting. A legacy server hears the version that it agreed on itself. */
  const turnTo = (turn: Turn, message: Request | Notification): Turn => {
    const { 'mcp-protocol-version': version, 'mcp-name': _, ...headers } = turn.headers
    if (turn.of().era === 'legacy') return { ...turn, headers }
    const named = message.params.name ?? message.params.uri ?? message.params.taskId
    return {
      ...turn,
      headers: {
        ...headers,
        'mcp-protocol-version': version ?? MODERN_VERSIONS[0]!,
        'mcp-method': message.method,
        ...(typeof named === 'string' ? { 'mcp-name': headerValue(named) } : {}),
      },
    }
  }

  const read = <T extends Request | Notification>(text: string): T => readMessages(Buffer.from(text), limits) as T
  const own = (method: string, params: object, id?: string) =>
    read<Request>(JSON.stringify({ jsonrpc: '2.0', ...(id ? { id } : {}), method, params }))

  /** A legacy server must have shaken hands before anything is sent to it. */
  const ready = async (turn: Turn, server: Server): Promise<void> => {
    const of = turn.of()
    const state = stateOf(of)
    if (of.era === 'modern' || !state.greeting) return
    const lane = exchange.lane(of, server)
    const before = state.shaken.get(lane)
    if (before) return before
    const shaking = shakeHands(turn, server, lane, state.greeting)
    state.shaken.set(lane, shaking)
    // Who could not be reached is tried again by the next message.
    shaking.catch(() => sessions.closeLane(lane, new ChaperoneError('upstream_unavailable', 'The handshake failed.')).catch(() => {}))
    return shaking
  }
  const shakeHands = async (turn: Turn, server: Server, lane: Lane, greeting: Greeting): Promise<void> => {
    const { version, capabilities, clientInfo } = greeting
    const hello = own('initialize', { protocolVersion: version, capabilities, clientInfo }, 'chaperone-hello')
    const taken = new Collector(limits.lineBytes)
    await exchange.send(turnTo(turn, hello), server, hello, taken)
    taken.end()
    const span = spanAt(taken.text ?? '{}', ['result', 'protocolVersion'])
    if (!span) throw new ChaperoneError('upstream_unavailable', `The MCP server ${server.resource.name} refused the handshake.`)
    lane.upstream.agreed(String(JSON.parse(taken.text!.slice(span.start, span.end))))
    const shaken = own('notifications/initialized', {})
    await exchange.send(turnTo(turn, shaken), server, shaken, taken)
    const { level, follow } = stateOf(turn.of())
    if (level !== undefined) await setLevel(turn, server, level)
    follow?.(server)
  }
  const setLevel = async (turn: Turn, server: Server, level: string): Promise<void> => {
    const message = own('logging/setLevel', { level }, 'chaperone-level')
    // A server without logging refuses it: then it says nothing, which is what was asked.
    await exchange
      .send(turnTo(turn, message), server, message, new Collector(limits.lineBytes))
      .catch((error: unknown) => log('mcp.level', { server: server.resource.name, error: String(error) }))
  }
  /** A member of the endpoint as merged lists ask it. */
  const members: Exchange = {
    ...exchange,
    async send(turn, server, message, answer) {
      await ready(turn, server)
      return exchange.send(turnTo(turn, message), server, message, answer)
    },
  }
  const lists = mergedLists({
    exchange: members,
    clock,
    limits,
    mayKeep: mayKeepLists,
    revision: () => resources.revision,
    late(of, method) {
      of.changes++
      const stream = states.get(of)?.stream
      const changed = CHANGED[method]
      if (stream && changed) void stream.write(sseEvent(JSON.stringify({ jsonrpc: '2.0', method: changed })))
    },
  })

  /** What can be read in two ways is for nobody. Nobody may be there to catch it: a server tells what it likes, whenever it likes. */
  const exposed = (server: string, note: { readonly method: string | undefined; readonly text: string }): string | undefined => {
    try {
      return exposedNotification(server, note.text)
    } catch (error) {
      log('mcp.upstream.noise', { server, error: String(error) })
      return undefined
    }
  }
  const passing = ({ resource }: Server) => ({
    maxBytes: limits.lineBytes,
    told: (note: UpstreamMessage) => exposed(resource.name, note),
    asked: (question: UpstreamMessage) => onOneLine(question.text),
  })

  const route = async (turn: Turn, message: Request, answer: Answer): Promise<void> => {
    const found = routed(message)
    const server = found && visible(turn.caller.session).get(found.prefix)
    if (!server) {
      const unknown = new ChaperoneError('not_found', 'No server of this endpoint has that name.')
      await exchange.recordRefused(turn.caller, found?.prefix.slice(0, 128) ?? 'all servers', unknown, Buffer.from(message.text))
      throw unknown
    }
    const rewritten = read<Request>(found.text)
    const tap = new Tap({ ...passing(server), to: answer })
    const { inFlight } = stateOf(turn.of())
    inFlight.set(message.id, server)
    try {
      await members.send(turn, server, rewritten, tap)
    } finally {
      inFlight.delete(message.id)
    }
    tap.end()
    if (tap.text === undefined) throw new ChaperoneError('upstream_unavailable', `The MCP server ${server.resource.name} broke off its answer.`)
    mustAnswer(message, tap.text, server.resource.name)
    tap.finish(tap.status, exposedResponse(server.resource.name, tap.text))
  }

  const recordShown = async ({ caller: { session, connection } }: Turn, method: string, servers: readonly Server[]): Promise<void> => {
    await audit.append({
      type: 'server.listed',
      ...actingIn(session, () => undefined),
      connection: connection.id,
      data: { list: method, again: true, servers: servers.map(({ resource }) => resource.name) },
    })
  }

  const listen = async (turn: Turn, message: Request, answer: Answer): Promise<void> => {
    const filter = isObject(message.params.notifications) ? message.params.notifications : {}
    const tag = { [META_SUBSCRIPTION]: message.id }
    answer.open()
    await answer.write(
      sseEvent(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged', params: { notifications: filter, _meta: tag } })),
    )
    const part = async ([prefix, server]: [string, Server]): Promise<void> => {
      const mine = filterFor(prefix, filter)
      const span = spanAt(message.text, ['params', 'notifications'])
      if (!mine || !span) return
      const text = edited(message.text, [{ ...span, text: JSON.stringify(mine) }])
      const told = (note: { readonly method: string | undefined; readonly text: string }) =>
        note.method === 'notifications/subscriptions/acknowledged' ? undefined : exposed(server.resource.name, note)
      await members
        .send(turn, server, read<Request>(text), new Tap({ to: answer, maxBytes: limits.lineBytes, told }))
        .catch((error: unknown) => log('mcp.listen', { server: server.resource.name, error: toChaperoneError(error).message }))
    }
    await Promise.all([...visible(turn.caller.session)].map(part))
    // Servers without subscriptions end theirs at once; the client's ends with the client.
    await goneOr(answer, turn.caller.connection.signal)
    finish(answer, 200, JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { resultType: 'complete', _meta: tag } }))
  }

  return {
    greet(session, message) {
      const { protocolVersion, capabilities, clientInfo } = message.params
      const version = LEGACY_VERSIONS.includes(String(protocolVersion)) ? String(protocolVersion) : LEGACY_VERSIONS.at(-1)!
      const of = sessions.open(session, ALL)
      of.version = version
      states.set(of, { ...stateOf(of), greeting: { version, capabilities: isObject(capabilities) ? capabilities : {}, clientInfo } })
      const result = { protocolVersion: version, capabilities: CAPABILITIES, serverInfo: SERVER_INFO, instructions: INSTRUCTIONS }
      return { of, text: JSON.stringify({ jsonrpc: '2.0', id: message.id, result }) }
    },

    async request(turn, message, answer) {
      const { method, params } = message
      const of = turn.of()
      const modern = of.era === 'modern'
      const result = (value: object) => finish(answer, 200, JSON.stringify({ jsonrpc: '2.0', id: message.id, result: value }))
      if (LIST_KEYS[method] !== undefined) {
        if (params.cursor !== undefined)
          throw new ProtocolError(INVALID_PARAMS, 'This endpoint has one page: the cursor is not ours.', { id: message.id })
        const servers = [...visible(turn.caller.session).values()]
        const merged = await lists.list(turn, servers, message)
        // What is asked of a server is an action with its own record; a list that is shown again asks nobody, and is recorded too.
        if (merged.kept) await recordShown(turn, method, servers)
        const id = spanAt(message.text, ['id'])!
        const text = mergedAnswer(message.text.slice(id.start, id.end), method, modern, merged, limits.mergedMs)
        return finish(answer, 200, text)
      }
      if (modern && method === 'server/discover') {
        const supportedVersions = [...MODERN_VERSIONS, ...LEGACY_VERSIONS]
        const meta = { 'io.modelcontextprotocol/serverInfo': SERVER_INFO }
        const common = { resultType: 'complete', ttlMs: limits.mergedMs, cacheScope: 'private', _meta: meta }
        return result({ supportedVersions, capabilities: CAPABILITIES, instructions: INSTRUCTIONS, ...common })
      }
      if (modern && method === 'subscriptions/listen') return listen(turn, message, answer)
      if (!modern && method === 'ping') return result({})
      if (!modern && method === 'logging/setLevel') {
        const level = String(params.level)
        stateOf(of).level = level
        await Promise.all([...of.lanes.values()].map((lane) => setLevel(turn, lane.server, level)))
        return result({})
      }
      if (!ROUTED.test(method))
        throw new ProtocolError(METHOD_NOT_FOUND, `${method} does not exist at this endpoint.`, {
          id: message.id,
          http: modern ? 404 : 200,
          code: 'unsupported',
        })
      return route(turn, message, answer)
    },

    async notify(turn, message) {
      const of = turn.of()
      const { inFlight } = stateOf(of)
      const one = message.method === 'notifications/cancelled' ? inFlight.get(message.params.requestId as RequestId) : undefined
      const servers = one ? [one] : message.method === 'notifications/roots/list_changed' ? [...of.lanes.values()].map((lane) => lane.server) : []
      await Promise.all(servers.map((server) => exchange.send(turnTo(turn, message), server, message, new Collector(limits.lineBytes))))
    },

    async stream(turn, answer) {
      const of = turn.of()
      const state = stateOf(of)
      if (state.stream && !state.stream.gone) throw new ChaperoneError('too_many', 'This MCP session has its stream open already.')
      answer.open()
      const follow = (server: Server) => {
        const tap = new Tap({ ...passing(server), to: answer })
        const action = describeMcp(server, { method: 'stream', params: {} })
        exchange
          .govern(turn.caller, action, [], (permit) =>
            exchange.lane(of, server).upstream.stream(permit, tap, turnTo(turn, own('stream', {})).headers),
          )
          .catch((error: unknown) => log('mcp.stream', { server: server.resource.name, error: toChaperoneError(error).message }))
      }
      Object.assign(state, { stream: answer, follow })
      const forget = of.inquiries?.listen(answer)
      for (const lane of of.lanes.values()) if (state.shaken.has(lane)) follow(lane.server)
      try {
        await goneOr(answer, turn.caller.connection.signal, of.over)
      } finally {
        Object.assign(state, { stream: undefined, follow: undefined })
        forget?.()
        answer.end()
      }
    },
  }
}

const SERVER_INFO = { name: 'chaperone', title: 'Chaperone', version: '1' }

const ROUTED = /^(tools\/call|prompts\/get|resources\/(read|subscribe|unsubscribe)|completion\/complete|tasks\/(get|update|cancel|result))$/

const CHANGED: Readonly<Record<string, string>> = {
  'tools/list': 'notifications/tools/list_changed',
  'prompts/list': 'notifications/prompts/list_changed',
  'resources/list': 'notifications/resources/list_changed',
  'resources/templates/list': 'notifications/resources/list_changed',
}

/** What of a subscription concerns one server; undefined: nothing. */
function filterFor(prefix: string, filter: Readonly<Record<string, unknown>>): Record<string, unknown> | undefined {
  const mine = (words: unknown) =>
    (Array.isArray(words) ? words.map(String) : []).flatMap((word) => {
      const parts = cutUri(word)
      return parts?.prefix === prefix ? [parts.own] : []
    })
  const { resourceSubscriptions, taskIds, ...changes } = filter
  const uris = mine(resourceSubscriptions)
  const tasks = mine(taskIds)
  const out: Record<string, unknown> = {
    ...changes,
    ...(uris.length > 0 ? { resourceSubscriptions: uris } : {}),
    ...(tasks.length > 0 ? { taskIds: tasks } : {}),
  }
  return Object.values(out).some((value) => value !== false) ? out : undefined
}

/** Resolves when the client has gone, or what it rests on is over. */
function goneOr(answer: Answer, ...over: readonly AbortSignal[]): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const end = () => resolve()
  answer.whenGone(end)
  for (const signal of over) {
    if (signal.aborted) end()
    signal.addEventListener('abort', end)
  }
  // A session outlives its streams: what they leave there would stay as long as it does.
  return promise.finally(() => {
    for (const signal of over) signal.removeEventListener('abort', end)
  })
}

/** A server that answers another request than it was asked would answer for another server. */
function mustAnswer(message: Request, text: string, name: string): void {
  const response = readUpstream(text)
  const nameless = response.id === undefined && response.members.has('error')
  if (response.kind !== 'response' || (response.id !== message.id && !nameless))
    throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} answered another request than it was asked.`)
}
