import type { McpServerSpec } from '../../catalog/mcp-server.ts'
import type { ChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import type { Resource } from '../../policy/types.ts'
import type { Era } from './era.ts'
import type { Inquiries } from './inquiries.ts'
import type { Observer } from './offers/observer.ts'
import type { KnownTools } from './offers/tools.ts'
import type { Upstream } from './types.ts'

/** A resource as it is applied. */
export interface Server {
  readonly resource: Resource
  readonly spec: McpServerSpec
}

/** The endpoint of all servers; no resource has this id. */
export const ALL = '*'

/**
 * What one client has open with us: an MCP session of the legacy era, or, in the modern one, what the requests of one Chaperone
 * session share. Never shared between Chaperone sessions: a credential or a child of one identity answers no other (peers R55).
 */
export interface McpSession {
  /** legacy: our `Mcp-Session-Id`, which proves nothing by itself (peers R51-R53) */
  readonly id: string
  readonly era: Era
  /** id of the resource that the endpoint is for, or ALL */
  readonly scope: string
  /** as of the last request: the same session, newly loaded perhaps */
  session: LiveSession
  /** Ends it when the session's proven deadline passes with nobody renewing it; bearer sessions have none. */
  readonly connection: Connection | undefined
  /** Aborts when the session is over, with the reason. */
  readonly over: AbortSignal
  /** Rises when a server says that one of its lists changed. */
  changes: number
  /** legacy: what servers asked of this client */
  readonly inquiries: Inquiries | undefined
  /** legacy: what the handshake agreed on */
  version: string | undefined
  /** legacy: what the client declared in the handshake */
  capabilities: Readonly<Record<string, unknown>>
  /** by resource id */
  readonly lanes: Map<string, Lane>
  lastUsed: number
  busy: number
}

/** The way of one MCP session to one server. */
export interface Lane {
  readonly of: McpSession
  server: Server
  readonly upstream: Upstream
  readonly tools: KnownTools
  /** what the server shows on this lane */
  readonly observer: Observer
  lastUsed: number
  busy: number
}

/** Makes what a lane is, given the way to end it. */
export type MakeLane = (newborn: { readonly lane: () => Lane; readonly ended: (why: ChaperoneError) => void }) => {
  readonly upstream: Upstream
  readonly tools: KnownTools
  readonly observer: Observer
}
