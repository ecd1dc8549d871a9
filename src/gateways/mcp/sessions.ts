import { randomBytes } from 'node:crypto'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import { personOf } from './crowd.ts'
import type { Era } from './era.ts'
import { Inquiries } from './inquiries.ts'
import { ALL, type Lane, type MakeLane, type McpSession, type Server } from './lanes.ts'
import type { McpLimits } from './limits.ts'
import { sessionGone } from './wire.ts'

export interface McpSessions {
  /** Opens a session of the legacy era. Throws `too_many`. */
  open(session: LiveSession, scope: string): McpSession
  /** The legacy session of this id if it is this session's and this endpoint's; `foreign` when it is somebody else's. */
  byId(id: string, session: LiveSession, scope: string): McpSession | 'foreign' | undefined
  /** What this session's modern requests share. */
  modern(session: LiveSession): McpSession
  /** The lane to the server as it is applied now, or undefined. One by an older definition is closed; where it was all of its session, that throws `not_found`. */
  lane(of: McpSession, server: Server): Lane | undefined
  /** Throws `too_many`. */
  openLane(of: McpSession, server: Server, make: MakeLane): Lane
  closeLane(lane: Lane, why: ChaperoneError): Promise<void>
  /** Idempotent. */
  close(one: McpSession, why: ChaperoneError): Promise<void>
  closeAll(why: ChaperoneError): Promise<void>
  readonly size: number
}

interface McpSessionsParts {
  readonly clock: Clock
  readonly limits: McpLimits
  /** Stands in every session id, so that another node knows where to forward (design 3.10). */
  readonly nodeId: string
  /** Throws when the session is over or may not use the server any more. */
  readonly mayStay: (lane: Lane) => void
  /** One of the legacy era is over, by whatever end (peers R76). */
  readonly over: (one: McpSession, why: ChaperoneError) => void
  readonly failed: (error: unknown) => void
}

export function makeMcpSessions({ clock, limits, nodeId, mayStay, over, failed }: McpSessionsParts): McpSessions {
  const sessions = new Map<string, McpSession>()
  const controllers = new WeakMap<McpSession, AbortController>()
  let lanes = 0
  let disarm: (() => void) | undefined
  const modernKey = (session: LiveSession) => `modern ${session.id}`

  const closeLane = async (lane: Lane, why: ChaperoneError): Promise<void> => {
    if (lane.of.lanes.get(lane.server.resource.id) === lane) {
      lane.of.lanes.delete(lane.server.resource.id)
      lanes--
    }
    await lane.upstream.end(why)
  }
  const close = async (one: McpSession, why: ChaperoneError): Promise<void> => {
    if (sessions.get(one.id) === one) {
      sessions.delete(one.id)
      if (one.era === 'legacy') over(one, why)
    }
    controllers.get(one)?.abort(why)
    one.connection?.closed()
    one.inquiries?.close(why)
    await Promise.all([...one.lanes.values()].map((lane) => closeLane(lane, why)))
  }
  const soon = (work: Promise<void>) => void work.catch(failed)
  /** A legacy session for one server is over with its lane: the client must shake hands again. */
  const laneOver = (lane: Lane, why: ChaperoneError) =>
    soon(lane.of.era === 'legacy' && lane.of.scope !== ALL ? close(lane.of, why) : closeLane(lane, why))

  /** Often enough that who was locked keeps no idle child for long; bearer sessions have no connection that is cut. */
  const sweep = () => {
    disarm = undefined
    const now = clock.now()
    for (const one of [...sessions.values()]) {
      for (const lane of [...one.lanes.values()]) {
        try {
          mayStay(lane)
        } catch (error) {
          const why = toChaperoneError(error)
          // A node that is behind decides nothing, not even this; the next sweep will.
          if (why.code !== 'lease_lapsed') laneOver(lane, why)
          continue
        }
        if (lane.busy === 0 && now - lane.lastUsed >= limits.idleMs) laneOver(lane, sessionGone('The MCP session was idle for too long.'))
      }
      if (one.busy === 0 && one.lanes.size === 0 && now - one.lastUsed >= limits.idleMs)
        soon(close(one, sessionGone('The MCP session was idle for too long.')))
    }
    arm()
  }
  const arm = () => {
    if (sessions.size > 0) disarm ??= clock.at(clock.now() + Math.min(30_000, limits.idleMs), sweep)
  }

  const lanesOf = (person: string): number => {
    let count = 0
    for (const one of sessions.values()) if (personOf(one.session) === person) count += one.lanes.size
    return count
  }

  const begin = (id: string, era: Era, session: LiveSession, scope: string): McpSession => {
    const mine = [...sessions.values()].filter((one) => one.session.id === session.id).length
    if (mine >= limits.lanesPerSession)
      throw new ChaperoneError('too_many', `This session has ${mine} MCP sessions open.`, { fix: 'End those that are not used.' })
    const person = personOf(session)
    if ([...sessions.values()].filter((one) => personOf(one.session) === person).length >= limits.lanesPerPerson)
      throw new ChaperoneError('too_many', `You have ${limits.lanesPerPerson} MCP sessions open.`, { fix: 'End those that are not used.' })
    if (sessions.size >= limits.lanes) throw new ChaperoneError('too_many', 'Chaperone has as many MCP sessions open as it may.')
    const connection = session.principal.proof === 'mtls' ? session.connect('mcp') : undefined
    const controller = new AbortController()
    const one: McpSession = {
      id,
      over: controller.signal,
      changes: 0,
      era,
      scope,
      session,
      connection,
      inquiries: era === 'legacy' ? new Inquiries({ clock, limits, several: scope === ALL }) : undefined,
      version: undefined,
      capabilities: {},
      lanes: new Map(),
      lastUsed: clock.now(),
      busy: 0,
    }
    sessions.set(id, one)
    controllers.set(one, controller)
    connection?.signal.addEventListener('abort', () => soon(close(one, connection.signal.reason)))
    arm()
    return one
  }
  const touch = (one: McpSession, session: LiveSession): McpSession => {
    one.session = session
    one.lastUsed = clock.now()
    return one
  }

  return {
    open: (session, scope) => begin(`${nodeId}.${randomBytes(24).toString('base64url')}`, 'legacy', session, scope),

    byId(id, session, scope) {
      const one = sessions.get(id)
      if (one?.era !== 'legacy') return undefined
      return one.session.id === session.id && one.scope === scope ? touch(one, session) : 'foreign'
    },

    modern(session) {
      const known = sessions.get(modernKey(session))
      return known ? touch(known, session) : begin(modernKey(session), 'modern', session, ALL)
    },

    lane(of, server) {
      const lane = of.lanes.get(server.resource.id)
      if (!lane) return undefined
      if (lane.server.spec !== server.spec && JSON.stringify(lane.server.spec) !== JSON.stringify(server.spec)) {
        // A document that was applied anew is another server: what ran by the old one ends.
        const why = sessionGone('The definition of the MCP server has changed.')
        laneOver(lane, why)
        if (of.era === 'legacy' && of.scope !== ALL) throw why
        return undefined
      }
      lane.server = server
      lane.lastUsed = clock.now()
      return lane
    },

    openLane(of, server, make) {
      // What was under way when its session ended must not open one again that nobody would ever end.
      if (sessions.get(of.id) !== of) throw sessionGone('The MCP session is over.')
      if (lanes >= limits.lanes) throw new ChaperoneError('too_many', 'Chaperone has as many MCP sessions open as it may.')
      // At the endpoint of all servers one session has a way to each: a few of them would be all that everybody may have.
      if (lanesOf(personOf(of.session)) >= limits.lanesPerPerson)
        throw new ChaperoneError('too_many', `You have ${limits.lanesPerPerson} ways to MCP servers open.`, {
          fix: 'End sessions that are not used.',
        })
      const lane: Lane = {
        of,
        server,
        lastUsed: clock.now(),
        busy: 0,
        ...make({ lane: () => lane, ended: (why) => laneOver(lane, why) }),
      }
      of.lanes.set(server.resource.id, lane)
      lanes++
      return lane
    },

    closeLane,
    close,

    async closeAll(why) {
      disarm?.()
      await Promise.all([...sessions.values()].map((one) => close(one, why)))
    },

    get size() {
      return sessions.size
    },
  }
}
