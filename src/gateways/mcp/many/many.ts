import type { Guard, Resources } from '../../../access/types.ts'
import type { McpServerSpec } from '../../../catalog/mcp-server.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { LiveSession } from '../../../identity/types.ts'
import { type Answer, Collector, finish } from '../answer.ts'
import { type Audience, asksFor } from '../audience.ts'
import type { Builtin, Builtins } from '../builtin/types.ts'
import { describeMcp } from '../describe.ts'
import { LEGACY_VERSIONS, META_SUBSCRIPTION, MODERN_VERSIONS } from '../era.ts'
import type { Exchange, Turn } from '../exchange.ts'
import { ALL, type McpSession, type Server } from '../lanes.ts'
import type { McpLimits } from '../limits.ts'
import { LIST_KEYS } from '../offers/filter.ts'
import type { Records } from '../records.ts'
import type { McpSessions } from '../sessions.ts'
import { edited, onOneLine, spanAt } from '../text/json-text.ts'
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
  readUpstream,
  type UpstreamMessage,
} from '../wire.ts'
import { cutUri, exposedNotification, exposedResponse, prefixOf, routed } from './exposed-names.ts'
import { makeMembers } from './members.ts'
import { mergedAnswer, mergedLists } from './merged-lists.ts'

interface ManyParts {
  readonly records: Records
  readonly exchange: Exchange
  readonly sessions: McpSessions
  readonly guard: Guard
  readonly resources: Resources
  readonly builtins: Builtins
  readonly clock: Clock
  readonly limits: McpLimits
  readonly mayKeepLists: () => boolean
  readonly audience: Audience
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

const CAPABILITIES = {
  tools: { listChanged: true },
  prompts: { listChanged: true },
  resources: { subscribe: true, listChanged: true },
  completions: {},
  logging: {},
}

const INSTRUCTIONS =
  'Several servers behind one endpoint. The name of each tool and prompt begins with its server and two underscores; the URI of each resource with its server and a plus sign.'

export function makeMany({ records, exchange, sessions, guard, resources, builtins, clock, limits, mayKeepLists, audience, log }: ManyParts): Many {
  /** The servers that the caller may use, by prefix. What may not be seen is not there (rule 8). */
  const visible = (session: LiveSession): Map<string, Server | Builtin> => {
    const servers = resources
      .list('mcp')
      .map(({ resource, spec }): Server => ({ resource, spec: spec as McpServerSpec }))
      .filter((server) => guard.judge(session, describeMcp(server, { method: 'ping', params: {} })).verdict === 'allow')
    const found = new Map<string, Server | Builtin>()
    for (const server of [...builtins.list(session), ...servers].sort((a, b) => (a.resource.name < b.resource.name ? -1 : 1))) {
      const prefix = prefixOf(server.resource.name)
      if (found.has(prefix)) log('mcp.prefix', { server: server.resource.name, prefix })
      else found.set(prefix, server)
    }
    return found
  }

  const { stateOf, greeted, turnTo, read, own, setLevel, members } = makeMembers({ exchange, sessions, limits, log })
  const lists = mergedLists({
    exchange: members,
    clock,
    limits,
    mayKeep: mayKeepLists,
    revision: () => resources.revision,
    late(of, method) {
      const changed = CHANGED[method]
      if (changed !== undefined) for (const tell of stateOf(of).listeners) tell(changed)
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
  const passing = ({ resource }: Server | Builtin) => ({
    maxBytes: limits.lineBytes,
    told: (note: UpstreamMessage) => exposed(resource.name, note),
    asked: (question: UpstreamMessage) => onOneLine(question.text),
  })

  const route = async (turn: Turn, message: Request, answer: Answer): Promise<void> => {
    const found = routed(message)
    const server = found && visible(turn.caller.session).get(found.prefix)
    if (!server) {
      const unknown = new ChaperoneError('not_found', 'No server of this endpoint has that name.')
      await records.refused(turn.caller, found?.prefix.slice(0, 128) ?? 'all servers', unknown, Buffer.from(message.text))
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

  const listen = async (turn: Turn, message: Request, answer: Answer): Promise<void> => {
    const filter = isObject(message.params.notifications) ? message.params.notifications : {}
    const tag = { [META_SUBSCRIPTION]: message.id }
    answer.open()
    await answer.write(
      sseEvent(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged', params: { notifications: filter, _meta: tag } })),
    )
    const part = async ([prefix, server]: [string, Server | Builtin]): Promise<void> => {
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
    const { listeners } = stateOf(turn.of())
    const tell = (method: string) => {
      if (asksFor(message, method)) void answer.write(sseEvent(JSON.stringify({ jsonrpc: '2.0', method, params: { _meta: tag } })))
    }
    listeners.add(tell)
    const leave = audience.join({ session: turn.caller.session, server: undefined, tell })
    try {
      await Promise.all([...visible(turn.caller.session)].map(part))
      // Servers without subscriptions end theirs at once; the client's ends with the client.
      await goneOr(answer, turn.caller.connection.signal)
    } finally {
      leave()
      listeners.delete(tell)
    }
    finish(answer, 200, JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { resultType: 'complete', _meta: tag } }))
  }

  return {
    greet(session, message) {
      const { protocolVersion, capabilities, clientInfo } = message.params
      const version = LEGACY_VERSIONS.includes(String(protocolVersion)) ? String(protocolVersion) : LEGACY_VERSIONS.at(-1)!
      const of = sessions.open(session, ALL)
      of.version = version
      greeted(of, { version, capabilities: isObject(capabilities) ? capabilities : {}, clientInfo })
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
        if (merged.kept) await records.shown(turn.caller, method, servers)
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
      const tell = (method: string) => void answer.write(sseEvent(JSON.stringify({ jsonrpc: '2.0', method })))
      state.listeners.add(tell)
      const leave = audience.join({ session: turn.caller.session, server: undefined, tell })
      Object.assign(state, { stream: answer, follow })
      const forget = of.inquiries?.listen(answer)
      for (const lane of of.lanes.values()) if (state.shaken.has(lane)) follow(lane.server)
      try {
        await goneOr(answer, turn.caller.connection.signal, of.over)
      } finally {
        Object.assign(state, { stream: undefined, follow: undefined })
        leave()
        state.listeners.delete(tell)
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
