import { randomBytes } from 'node:crypto'
import type { McpServerSpec } from '../../catalog/mcp-server.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import type { Resource } from '../../policy/types.ts'
import type { Era } from './era.ts'
import type { McpLimits } from './limits.ts'
import type { KnownTools } from './tools.ts'
import type { Upstream } from './types.ts'
import { sessionGone } from './wire.ts'

/** A resource as it is applied. */
export interface Server {
  readonly resource: Resource
  readonly spec: McpServerSpec
}

/**
 * One client's way to one server: an MCP session of the legacy era, or in the modern era what one Chaperone session and one
 * server share. Never shared between sessions: a credential or a child of one identity answers no other (peers R55).
 */
export interface Lane {
  /** legacy: our `Mcp-Session-Id`, which proves nothing by itself (peers R51-R53) */
  readonly id: string
  readonly era: Era
  /** as of the last request: the same session, newly loaded perhaps */
  session: LiveSession
  server: Server
  readonly upstream: Upstream
  readonly tools: KnownTools
  /** Ends the lane when the session's proven deadline passes with nobody renewing it; bearer sessions have none. */
  readonly connection: Connection | undefined
  /** legacy: what the handshake agreed on */
  version: string | undefined
  lastUsed: number
  busy: number
}

/** What an upstream may know of the lane it is made for. */
export interface Newborn {
  readonly connection: Connection | undefined
  /** The lane, once it is there. */
  readonly lane: () => Lane
  readonly ended: (why: ChaperoneError) => void
}

export interface Lanes {
  /** Makes a lane; `upstream` is made by what knows how. Throws `too_many`. */
  open(era: Era, session: LiveSession, server: Server, make: (lane: Newborn) => { upstream: Upstream; tools: KnownTools }): Lane
  /** The lane of this id if it is this session's; `foreign` when it is somebody else's or leads to another server. */
  byId(id: string, session: LiveSession, server: Server): Lane | 'foreign' | undefined
  modern(session: LiveSession, server: Server): Lane | undefined
  /** Idempotent. */
  close(lane: Lane, why: ChaperoneError): Promise<void>
  closeAll(why: ChaperoneError): Promise<void>
  readonly size: number
}

export interface LanesParts {
  readonly clock: Clock
  readonly limits: McpLimits
  /** Throws when the session is over or may not use the server any more. */
  readonly mayStay: (lane: Lane) => void
  readonly failed: (error: unknown) => void
}

export function makeLanes({ clock, limits, mayStay, failed }: LanesParts): Lanes {
  const lanes = new Map<string, Lane>()
  const modernKey = (session: LiveSession, server: Server) => `${session.id} ${server.resource.id}`
  let disarm: (() => void) | undefined

  const close = async (lane: Lane, why: ChaperoneError): Promise<void> => {
    if (lanes.get(lane.id) === lane) lanes.delete(lane.id)
    lane.connection?.closed()
    await lane.upstream.end(why)
  }
  const closeSoon = (lane: Lane, why: ChaperoneError) => void close(lane, why).catch(failed)

  /** Often enough that who was locked keeps no idle child for long; bearer sessions have no connection that is cut. */
  const sweep = () => {
    disarm = undefined
    for (const lane of [...lanes.values()]) {
      try {
        mayStay(lane)
      } catch (error) {
        const why = toChaperoneError(error)
        // A node that is behind decides nothing, not even this; the next sweep will.
        if (why.code !== 'lease_lapsed') closeSoon(lane, why)
        continue
      }
      if (lane.busy === 0 && clock.now() - lane.lastUsed >= limits.idleMs) closeSoon(lane, sessionGone('The MCP session was idle for too long.'))
    }
    arm()
  }
  const arm = () => {
    if (lanes.size > 0) disarm ??= clock.at(clock.now() + Math.min(30_000, limits.idleMs), sweep)
  }

  /** A document that was applied anew is another server: what ran by the old one ends. */
  const current = (lane: Lane | undefined, session: LiveSession, server: Server): Lane | undefined => {
    if (!lane) return undefined
    if (lane.server.spec !== server.spec && JSON.stringify(lane.server.spec) !== JSON.stringify(server.spec)) {
      closeSoon(lane, sessionGone('The definition of the MCP server has changed.'))
      return undefined
    }
    lane.session = session
    lane.server = server
    lane.lastUsed = clock.now()
    return lane
  }

  return {
    open(era, session, server, make) {
      const mine = [...lanes.values()].filter((lane) => lane.session.id === session.id).length
      if (mine >= limits.lanesPerSession)
        throw new ChaperoneError('too_many', `This session has ${mine} MCP sessions open.`, { fix: 'End those that are not used.' })
      if (lanes.size >= limits.lanes) throw new ChaperoneError('too_many', 'Chaperone has as many MCP sessions open as it may.')
      const connection = session.principal.proof === 'mtls' ? session.connect('mcp') : undefined
      const ended = (why: ChaperoneError) => closeSoon(lane, why)
      const lane: Lane = {
        id: era === 'legacy' ? randomBytes(24).toString('base64url') : modernKey(session, server),
        era,
        session,
        server,
        connection,
        version: undefined,
        lastUsed: clock.now(),
        busy: 0,
        ...make({ connection, ended, lane: () => lane }),
      }
      lanes.set(lane.id, lane)
      connection?.signal.addEventListener('abort', () => ended(connection.signal.reason))
      arm()
      return lane
    },

    byId(id, session, server) {
      const lane = lanes.get(id)
      if (lane?.era !== 'legacy') return undefined
      return lane.session.id === session.id && lane.server.resource.id === server.resource.id ? current(lane, session, server) : 'foreign'
    },

    modern: (session, server) => current(lanes.get(modernKey(session, server)), session, server),
    close,

    async closeAll(why) {
      disarm?.()
      await Promise.all([...lanes.values()].map((lane) => close(lane, why)))
    },

    get size() {
      return lanes.size
    },
  }
}
