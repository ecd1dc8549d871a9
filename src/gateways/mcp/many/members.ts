import { ChaperoneError } from '../../../errors.ts'
import { type Answer, Collector } from '../answer.ts'
import { type Builtin, isBuiltin } from '../builtin/types.ts'
import { MODERN_VERSIONS } from '../era.ts'
import type { Exchange, Turn } from '../exchange.ts'
import type { Lane, McpSession, Server } from '../lanes.ts'
import type { McpLimits } from '../limits.ts'
import type { McpSessions } from '../sessions.ts'
import { spanAt } from '../text/json-text.ts'
import { headerValue } from '../text/modern-headers.ts'
import { type Notification, type Request, type RequestId, readMessages } from '../wire.ts'

interface MembersParts {
  readonly exchange: Exchange
  readonly sessions: McpSessions
  readonly limits: McpLimits
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/** What a legacy client said of itself, told again to each server. */
export interface Greeting {
  readonly version: string
  readonly capabilities: unknown
  readonly clientInfo: unknown
}

export interface State {
  readonly greeting: Greeting | undefined
  /** the handshake with each server, by its lane: a lane that is opened again shakes hands again */
  readonly shaken: WeakMap<Lane, Promise<void>>
  /** legacy: where a request went, for its cancellation */
  readonly inFlight: Map<RequestId, Server | Builtin>
  level: string | undefined
  /** legacy: its standalone stream */
  stream: Answer | undefined
  /** what hears that a list changed: the stream, and in the modern era each subscription that asked for it */
  readonly listeners: Set<(changed: string) => void>
  /** starts the stream of a server that is opened while the client listens */
  follow: ((server: Server) => void) | undefined
}

/** The servers behind one endpoint: what is known of a client there, and how its messages go to each server. */
export interface Members {
  stateOf(of: McpSession): State
  /** A legacy client has said who it is. */
  greeted(of: McpSession, greeting: Greeting): void
  /** The turn in which a message of our own making or rewriting goes to a server. */
  turnTo(turn: Turn, message: Request | Notification): Turn
  read<T extends Request | Notification>(text: string): T
  own(method: string, params: object, id?: string): Request
  setLevel(turn: Turn, server: Server, level: string): Promise<void>
  /** The exchange with a server of the endpoint: one of the legacy era has shaken hands before. */
  readonly members: Exchange
}

export function makeMembers({ exchange, sessions, limits, log }: MembersParts): Members {
  const states = new WeakMap<McpSession, State>()
  const stateOf = (of: McpSession): State => {
    const known = states.get(of)
    if (known) return known
    const fresh: State = {
      greeting: undefined,
      shaken: new WeakMap(),
      inFlight: new Map(),
      level: undefined,
      stream: undefined,
      listeners: new Set(),
      follow: undefined,
    }
    states.set(of, fresh)
    return fresh
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
  const members: Exchange = {
    ...exchange,
    async send(turn, server, message, answer) {
      if (!isBuiltin(server)) await ready(turn, server)
      return exchange.send(turnTo(turn, message), server, message, answer)
    },
  }
  return {
    stateOf,
    greeted: (of, greeting) => void states.set(of, { ...stateOf(of), greeting }),
    turnTo,
    read,
    own,
    setLevel,
    members,
  }
}
