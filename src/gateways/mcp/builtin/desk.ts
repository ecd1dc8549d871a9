import { type Outcome, Refusal } from '../../../access/types.ts'
import { lossyBelow } from '../../../encoding/lossy-numbers.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { LiveSession } from '../../../identity/types.ts'
import { type Answer, finish } from '../answer.ts'
import { LEGACY_VERSIONS, META_SUBSCRIPTION, MODERN_VERSIONS } from '../era.ts'
import type { Turn } from '../exchange.ts'
import type { McpSession } from '../lanes.ts'
import type { McpLimits } from '../limits.ts'
import type { Records } from '../records.ts'
import type { McpSessions } from '../sessions.ts'
import { spanAt } from '../text/json-text.ts'
import { sseEvent } from '../text/sse.ts'
import { outcomeOf } from '../types.ts'
import { INVALID_PARAMS, isObject, METHOD_NOT_FOUND, type Notification, ProtocolError, type Request, type RequestId } from '../wire.ts'
import type { Builtin, BuiltinSeat } from './types.ts'

interface DeskParts {
  readonly records: Pick<Records, 'refused'>
  readonly sessions: Pick<McpSessions, 'open'>
  readonly limits: Pick<McpLimits, 'inFlight'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/** Where the built-in servers answer, in both eras. */
export interface Desk {
  /** `initialize`: opens the MCP session. */
  greet(session: LiveSession, server: Builtin, message: Request): { readonly of: McpSession; readonly text: string }
  /** `known`: the question that the client waits for already. Rejects with the Refusal of a call about which a human is asked. */
  send(turn: Turn, server: Builtin, message: Request | Notification, answer: Answer, known?: string): Promise<Outcome>
}

/** What one MCP session has here, by resource id. */
interface Place {
  readonly seat: BuiltinSeat
  readonly running: Map<RequestId | symbol, AbortController>
}

type Respond = (turn: Turn, server: Builtin, message: Request, answer: Answer, known?: string) => object | Promise<object>

const isParked = (error: unknown) => error instanceof Refusal && error.parked !== undefined

export function makeDesk({ records, sessions, limits, log }: DeskParts): Desk {
  const places = new WeakMap<McpSession, Map<string, Place>>()

  const placeOf = (of: McpSession, server: Builtin): Place => {
    const mine = places.get(of) ?? new Map<string, Place>()
    places.set(of, mine)
    const known = mine.get(server.resource.id)
    if (known) return known
    // What was under way when its session ended must not begin anything again that nobody would ever end.
    if (of.over.aborted) throw toChaperoneError(of.over.reason)
    const place: Place = { seat: server.open(), running: new Map() }
    mine.set(server.resource.id, place)
    of.over.addEventListener('abort', () => {
      place.seat.end(toChaperoneError(of.over.reason)).catch((error: unknown) => log('mcp.builtin.end', { error: String(error) }))
    })
    return place
  }

  /** Runs one tool. The call is over when the client cancels it, goes away, or its session ends. */
  const call: Respond = async (turn, server, message, answer, known) => {
    const of = turn.of()
    const { seat, running } = placeOf(of, server)
    if (running.size >= limits.inFlight) throw new ChaperoneError('too_many', `More than ${limits.inFlight} calls at once.`)
    // Only the legacy era cancels by id; in the modern one several clients of a session may use the same ids.
    const key = of.era === 'legacy' ? message.id : Symbol()
    const { name, arguments: args } = message.params
    if (!server.tools().some((tool) => tool.name === name))
      throw new ProtocolError(INVALID_PARAMS, `Unknown tool: ${String(name).slice(0, 128)}`, { id: message.id, http: 200 })
    const cancelled = new AbortController()
    const cancel = () => cancelled.abort(new ChaperoneError('session_ended', 'The call was cancelled.'))
    running.set(key, cancelled)
    answer.whenGone(cancel)
    of.busy++
    try {
      const lossy = message.lossy.size ? lossyBelow(message.lossy, '/params/arguments') : message.lossy
      const signal = AbortSignal.any([cancelled.signal, of.over])
      const { session, connection } = turn.caller
      return await seat.call({ tool: name as string, args: isObject(args) ? args : {}, lossy, session, connection, trace: turn.trace, known, signal })
    } catch (thrown) {
      if (isParked(thrown)) throw thrown
      const error = toChaperoneError(thrown)
      if (error.code === 'internal') log('mcp.builtin.call', { server: server.resource.name, error: error.detail ?? error.message })
      await refused(turn, server, message, error)
      // A model reads the result of a call, while clients show a JSON-RPC error to nobody.
      return { content: [{ type: 'text', text: [error.message, error.fix].filter(Boolean).join(' ') }], isError: true }
    } finally {
      of.busy--
      running.delete(key)
    }
  }

  const results: Readonly<Record<string, Respond>> = {
    'tools/call': call,
    'tools/list'(_, server, { id, params }) {
      if (params.cursor !== undefined) throw new ProtocolError(INVALID_PARAMS, 'This list has one page: the cursor is not ours.', { id })
      return { tools: server.tools() }
    },
  }
  const legacyResults: typeof results = { ...results, ping: () => ({}) }
  const modernResults: typeof results = {
    ...results,
    'server/discover': (_, server) => ({
      supportedVersions: [...MODERN_VERSIONS, ...LEGACY_VERSIONS],
      capabilities: { tools: {} },
      instructions: server.instructions,
      _meta: { 'io.modelcontextprotocol/serverInfo': infoOf(server) },
    }),
  }

  const request = async (turn: Turn, server: Builtin, message: Request, answer: Answer, known?: string): Promise<Outcome> => {
    const modern = turn.of().era === 'modern'
    const { method } = message
    if (modern && method === 'subscriptions/listen') return listen(message, answer)
    const table = modern ? modernResults : legacyResults
    const respond = Object.hasOwn(table, method) ? table[method]! : undefined
    const span = spanAt(message.text, ['id'])!
    const head = `{"jsonrpc":"2.0","id":${message.text.slice(span.start, span.end)}`
    if (!respond) {
      const error = { code: METHOD_NOT_FOUND, message: `${method} does not exist at this server.`, data: { origin: 'proxy' } }
      finish(answer, modern ? 404 : 200, `${head},"error":${JSON.stringify(error)}}`)
      return { status: 'failed', facts: { error: METHOD_NOT_FOUND } }
    }
    const result = await orRecord(turn, server, message, () => respond(turn, server, message, answer, known))
    // What one identity finds here is nobody else's to keep, and rights change: it is asked again each time.
    const cacheable = modern && method !== 'tools/call' ? { ttlMs: 0, cacheScope: 'private' } : {}
    const text = `${head},"result":${JSON.stringify({ ...(modern ? { resultType: 'complete', ...cacheable } : {}), ...result })}}`
    finish(answer, 200, text)
    return outcomeOf(text)
  }

  /** A message that never became an action has no other record. */
  const refused = (turn: Turn, server: Builtin, message: Request, error: ChaperoneError) =>
    records.refused(turn.caller, server.resource.name, error, server.discreet ? undefined : Buffer.from(message.text))
  const orRecord = async <T>(turn: Turn, server: Builtin, message: Request, run: () => T | Promise<T>): Promise<T> => {
    try {
      return await run()
    } catch (error) {
      if (!isParked(error)) await refused(turn, server, message, toChaperoneError(error))
      throw error
    }
  }

  return {
    greet(session, server, { params, text }) {
      const version = LEGACY_VERSIONS.includes(String(params.protocolVersion)) ? String(params.protocolVersion) : LEGACY_VERSIONS.at(-1)!
      const result = { protocolVersion: version, capabilities: { tools: {} }, serverInfo: infoOf(server), instructions: server.instructions }
      const id = spanAt(text, ['id'])!
      const of = sessions.open(session, server.resource.id)
      of.version = version
      return { of, text: `{"jsonrpc":"2.0","id":${text.slice(id.start, id.end)},"result":${JSON.stringify(result)}}` }
    },

    async send(turn, server, message, answer, known) {
      if (message.kind === 'request') return request(turn, server, message, answer, known)
      if (message.method === 'notifications/cancelled') {
        const running = places
          .get(turn.of())
          ?.get(server.resource.id)
          ?.running.get(message.params.requestId as RequestId)
        running?.abort(new ChaperoneError('session_ended', 'The client has cancelled the call.'))
      }
      return { status: 'ok', facts: { sent: false } }
    },
  }
}

/** Nothing here changes by itself: the acknowledgement says so, and what nothing can come on need not stay open. */
async function listen(message: Request, answer: Answer): Promise<Outcome> {
  if (!answer.streams) throw new ProtocolError(INVALID_PARAMS, 'The Accept header must name text/event-stream.', { http: 406, id: message.id })
  const _meta = { [META_SUBSCRIPTION]: message.id }
  const params = { notifications: {}, _meta }
  answer.open()
  await answer.write(sseEvent(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged', params })))
  finish(answer, 200, JSON.stringify({ jsonrpc: '2.0', id: message.id, result: { resultType: 'complete', _meta } }))
  return { status: 'ok' }
}

const infoOf = ({ resource, title }: Builtin) => ({ name: resource.name, title, version: '1' })
