import type { IncomingMessage, ServerResponse } from 'node:http'
import type { LockWatch } from '../../access/lock-watch.ts'
import type { Requests } from '../../access/requests/types.ts'
import type { RightsWatch } from '../../access/rights-watch.ts'
import type { Guard, Outcome, Permit, Resources } from '../../access/types.ts'
import type { AuditLog } from '../../audit/record.ts'
import { OWN_SERVER } from '../../catalog/mcp-server.ts'
import type { PinBook } from '../../catalog/pin-book.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { UpstreamLogins } from '../../vault/logins.ts'
import { type Answer, Collector, finish, HttpAnswer } from './answer.ts'
import { appliedServers } from './applied.ts'
import { Audience, hear } from './audience.ts'
import { batches } from './batch.ts'
import { makeDesk } from './builtin/desk.ts'
import { type Builtin, type Builtins, isBuiltin } from './builtin/types.ts'
import { makeCrowd, personOf } from './crowd.ts'
import { describeMcp } from './describe.ts'
import { checkVersion } from './era.ts'
import { bodiesOf, type McpCaller, makeExchange, type Turn } from './exchange.ts'
import type { Handles } from './handles.ts'
import { letGo } from './http/let-go.ts'
import { requestHeaders } from './http/upstream.ts'
import { nobodyAsked } from './inquiries.ts'
import { ALL, type McpSession, type Server } from './lanes.ts'
import { MCP_LIMITS, type McpLimits } from './limits.ts'
import { makeMany } from './many/many.ts'
import { readPost } from './post.ts'
import { quiet } from './quiet.ts'
import { makeRecords } from './records.ts'
import { type Asked, replyTo } from './refuse.ts'
import { makeServers } from './servers.ts'
import { makeMcpSessions } from './sessions.ts'
import { isolator } from './stdio/isolation.ts'
import type { TaskOwners } from './tasks.ts'
import { spanAt } from './text/json-text.ts'
import { continueTrace } from './trace.ts'
import { canBeAsked } from './translation/input-responses.ts'
import type { Visit } from './visit.ts'
import { INVALID_REQUEST, isObject, type Message, type Notification, ProtocolError, type Request, type Response, sessionGone } from './wire.ts'

export type { McpCaller } from './exchange.ts'

interface McpGatewayParts {
  readonly guard: Guard
  readonly resources: Resources
  /** The servers that are no other process. */
  readonly builtins?: Builtins
  /** Where locks on servers and tools come and go; absent: nobody is told of it. */
  readonly lockWatch?: Pick<LockWatch, 'watch'>
  /** Where rules and documents come and go, with roles that are granted for a while; absent: nobody is told of it. */
  readonly rightsWatch?: Pick<RightsWatch, 'watch' | 'rulesOf'>
  readonly audit: Pick<AuditLog, 'append' | 'addSecrets'>
  /** The approved definitions of what servers offer. */
  readonly pins: Pick<PinBook, 'of' | 'observe' | 'row'>
  /** Wakes who waits for a human. */
  readonly requests: Pick<Requests, 'decided' | 'rights'>
  /** A sealed secret of the vault, by name. */
  readonly reveal: (secret: string) => Promise<string>
  /** Logins at servers that want OAuth. */
  readonly logins?: Pick<UpstreamLogins, 'of'>
  readonly clock: Clock
  readonly tasks: TaskOwners
  readonly handles: Handles
  /** Stands in MCP session ids: another node sees whose they are. */
  readonly nodeId?: string
  /** False while some rule reads the time or the session: then no list is served twice. */
  readonly mayKeepLists?: () => boolean
  /** An identity's name of now, for the record. */
  readonly nameOf?: (identity: string) => string | undefined
  /** What no child may see, with the root key's usual place beside it; `hide` names more, such as a root key elsewhere. */
  readonly dataDir: string
  readonly hide?: readonly string[]
  readonly limits?: Partial<McpLimits>
  readonly log?: { warn(facts: Record<string, unknown>, what: string): void }
}

export interface McpGateway {
  /**
   * Answers one request to `/mcp/<server>` (a built-in one: `<resource>/<database>`), or, without a name, to `/mcp`, the endpoint of all that the caller may use.
   * Resolves when the answer is over. Never rejects for what a client or server does.
   */
  handle(request: IncomingMessage, response: ServerResponse, caller: McpCaller, server: string | undefined): Promise<void>
  /** Ends every MCP session and child. */
  close(): Promise<void>
  /** open MCP sessions, for metrics */
  readonly sessions: number
}

type Sent = Request | Notification

/**
 * The way of a message: read in the one way in which it can be read (wire), placed in its era, described as an Action,
 * admitted by the guard, sent on with the permit, answered, settled. `initialize`, lists, notifications, streams and what
 * the server asks by itself all take the same way (rule 9).
 */
export function mcpGateway(parts: McpGatewayParts): McpGateway {
  const { guard, resources, audit, clock } = parts
  const limits: McpLimits = { ...MCP_LIMITS, ...parts.limits }
  const log = quiet((what, facts) => parts.log?.warn(facts, what), clock)
  const crowd = makeCrowd(limits)
  const failed = (error: unknown) => log('mcp.failed', { error: toChaperoneError(error).detail ?? String(error) })
  const servers = makeServers({
    audit,
    reveal: parts.reveal,
    logins: parts.logins,
    isolator: isolator({ dataDir: parts.dataDir, ...(parts.hide ? { hide: parts.hide } : {}) }),
    clock,
    limits,
    log,
  })
  const applied = appliedServers(resources, guard)
  const { current } = applied
  const records = makeRecords(audit, parts.nameOf)
  const over = (of: McpSession, why: ChaperoneError) => void records.closed(of, why).catch(failed)
  const sessions = makeMcpSessions({ clock, limits, nodeId: parts.nodeId ?? 'local', mayStay: applied.assertStays, over, failed })
  const desk = makeDesk({ records, sessions, limits, log })
  const builtins = parts.builtins ?? { find: () => undefined, list: () => [] }
  const exchange = makeExchange({ ...parts, current, desk, records, clock, limits, servers, sessions, log })
  const audience = new Audience(applied.isVisible, parts.rightsWatch?.rulesOf)
  const many = makeMany({
    records,
    exchange,
    sessions,
    guard,
    resources,
    builtins,
    clock,
    limits,
    mayKeepLists: parts.mayKeepLists ?? (() => false),
    audience,
    log,
  })
  const unwatch = parts.lockWatch?.watch((changed) => audience.changed(changed))
  const unwatchRights = parts.rightsWatch?.watch((changed) => void audience.reviewed(changed).catch(failed))
  let closing = false

  const known = ({ server }: Visit): Server | Builtin => {
    if (server) return server
    throw new ChaperoneError('not_found', 'There is no such MCP server.')
  }
  /** No document has a slash in its name, or the name of our own server. */
  const serverOf = ({ session }: McpCaller, name: string): Server | Builtin | undefined => {
    if (name.includes('/') || name === OWN_SERVER) return builtins.find(session, name)
    return applied.named(name)
  }
  const turnIn = ({ caller, headers, trace }: Visit, of: () => McpSession): Turn => ({ caller, headers, of, trace })
  const answerBatch = batches({
    records,
    lineBytes: limits.lineBytes,
    send: (visit, of, message, answer) => exchange.send({ ...turnIn(visit, () => of), waits: false }, known(visit), message, answer),
    failure: (visit, message, error) => replyTo(toChaperoneError(error), asked(visit, message)).message,
  })

  const post = async (visit: Visit): Promise<void> => {
    let bytes: Buffer | undefined
    const saw = (body: Buffer) => {
      bytes = body
      return crowd.turn(personOf(visit.caller.session), body.length)
    }
    const { era, batch, messages } = await readPost(visit.request, clock, limits, saw).catch(async (error: unknown) => {
      await records.refused(visit.caller, visit.name, toChaperoneError(error), bytes)
      throw error
    })
    if (batch) return answerBatch(visit, await sessionOf(visit), messages)
    const message = messages[0]!
    speakLast(visit.answer, () => asked(visit, message, true))
    try {
      if (message.kind === 'response') await responded(visit, message, bytes!)
      else {
        const traced = continueTrace(message, visit.headers)
        await (era === 'modern' ? modern : legacy)({ ...visit, headers: traced.headers, trace: traced.trace }, traced.message)
      }
    } catch (error) {
      fail(visit.answer, toChaperoneError(error), () => asked(visit, message))
    }
  }

  /** Whose permit is cut was allowed to see the server: nothing is judged again, while a lock falls on a thousand of them. */
  const speakLast = (answer: Answer, what: () => Asked): void => {
    if (!(answer instanceof HttpAnswer)) return
    answer.endWith((why) => {
      fail(answer, toChaperoneError(why), what)
      answer.gone = true
    })
  }

  /** What calls itself a notification and is none is sent to nobody (peers R04). */
  const recordUnsent = async (visit: Visit, { method }: Sent): Promise<void> => {
    if (method.startsWith('notifications/')) return
    const nothing = new ProtocolError(INVALID_REQUEST, `${method} is no notification.`)
    await records.refused(visit.caller, visit.name, nothing)
    throw nothing
  }

  const modern = async (visit: Visit, message: Sent): Promise<void> => {
    if (visit.all) {
      const turn = turnIn(visit, () => sessions.modern(visit.caller.session))
      if (message.kind === 'request') return many.request(turn, message, visit.answer)
      await recordUnsent(visit, message)
      return visit.answer.send(202)
    }
    const server = known(visit)
    if (message.kind === 'request') {
      const leave = message.method === 'subscriptions/listen' ? hear(audience, visit, server.resource.id, message) : undefined
      try {
        await exchange.send(
          turnIn(visit, () => sessions.modern(visit.caller.session)),
          server,
          message,
          visit.answer,
        )
      } finally {
        leave?.()
      }
      return
    }
    if (isBuiltin(server)) {
      await recordUnsent(visit, message)
      return visit.answer.send(202)
    }
    // This revision has no notifications of clients over HTTP: judged and recorded (peers R04), and sent nowhere.
    await exchange.govern(visit.caller, describeMcp(server, message), bodiesOf(message), async () => ({ status: 'ok', facts: { sent: false } }))
    visit.answer.send(202)
  }

  const legacy = async (visit: Visit, message: Sent): Promise<void> => {
    if (message.method === 'initialize') return initialize(visit, message)
    const of = await sessionOf(visit)
    const turn = turnIn(visit, () => of)
    if (visit.all) {
      if (message.kind === 'request') return many.request(turn, message, visit.answer)
      await recordUnsent(visit, message)
      await many.notify(turn, message)
      return visit.answer.send(202)
    }
    const server = known(visit)
    // Where all answers come over one channel, each still has a stream of its own to the client.
    if (!isBuiltin(server) && server.spec.command !== undefined && visit.answer instanceof HttpAnswer) visit.answer.events = true
    if (isBuiltin(server) && message.kind === 'notification') await recordUnsent(visit, message)
    const outcome = await exchange.send(turn, server, message, visit.answer)
    if (message.kind === 'notification') visit.answer.send(outcome.status === 'ok' ? 202 : 502)
  }

  /** The client answers what a server asked. Where it goes was decided when the server was allowed to ask. */
  const responded = async (visit: Visit, response: Response, bytes: Buffer): Promise<void> => {
    try {
      const of = await sessionOf(visit)
      if (!of.inquiries?.answered(response)) throw nobodyAsked(response)
    } catch (error) {
      await records.refused(visit.caller, visit.name, toChaperoneError(error), bytes)
      throw error
    }
    visit.answer.send(202)
  }

  const initialize = async (visit: Visit, message: Sent): Promise<void> => {
    const { caller, answer, request } = visit
    if (message.kind === 'notification') throw new ProtocolError(INVALID_REQUEST, '`initialize` is a request.')
    if (request.headers['mcp-session-id'] !== undefined) {
      throw new ProtocolError(INVALID_REQUEST, '`initialize` opens a session and cannot be sent in one.', { id: message.id })
    }
    const server = visit.all ? undefined : known(visit)
    if (!server || isBuiltin(server)) {
      const { of, text } = server ? desk.greet(caller.session, server, message) : many.greet(caller.session, message)
      of.capabilities = declaredIn(message)
      await records.opened(caller, of)
      return answer.send(200, text, { 'content-type': 'application/json', 'mcp-session-id': of.id })
    }
    // The session is opened when the guard has admitted: who is refused costs no process.
    await exchange.govern(caller, describeMcp(server, message), bodiesOf(message), async (permit) => {
      const of = sessions.open(caller.session, server.resource.id)
      of.capabilities = declaredIn(message)
      const taken = new Collector(limits.lineBytes)
      try {
        const lane = exchange.lane(of, server)
        const outcome = await exchange.using(lane, () => lane.upstream.request(permit, message, taken, visit.headers))
        taken.end()
        if (taken.text === undefined) throw new ChaperoneError('upstream_unavailable', `The MCP server ${visit.name} did not answer the handshake.`)
        of.version = outcome.status === 'ok' ? textAt(taken.text, ['result', 'protocolVersion']) : undefined
        if (of.version === undefined) await sessions.close(of, sessionGone('The handshake failed.'))
        else lane.upstream.agreed(of.version)
        answer.send(taken.status, taken.text, {
          'content-type': 'application/json',
          ...(of.version === undefined ? {} : { 'mcp-session-id': of.id }),
        })
        return outcome
      } catch (error) {
        await sessions.close(of, toChaperoneError(error)).catch(failed)
        throw error
      }
    })
  }

  /** The MCP session that a legacy request names. An id of somebody else is no id, and is recorded (peers R51, R52). */
  const sessionOf = async (visit: Visit): Promise<McpSession> => {
    const { request, caller, server } = visit
    const id = request.headers['mcp-session-id']
    if (typeof id !== 'string' || id === '') throw new ProtocolError(-32000, 'Mcp-Session-Id is missing: open a session with `initialize`.')
    const scope = visit.all ? ALL : server?.resource.id
    const found = scope === undefined ? undefined : sessions.byId(id, caller.session, scope)
    if (found === 'foreign')
      await records.refused(caller, visit.name, new ChaperoneError('not_found', 'The MCP session belongs to another session or server.'))
    if (found && found !== 'foreign') return found
    throw sessionGone('This MCP session does not exist: open one with `initialize`.')
  }

  const stream = async (visit: Visit): Promise<void> => {
    checkVersion(visit.request)
    const of = await sessionOf(visit)
    if (!visit.answer.streams) throw new ProtocolError(-32000, 'The Accept header must name text/event-stream.', { http: 406 })
    if (visit.all) {
      return many.stream(
        turnIn(visit, () => of),
        visit.answer,
      )
    }
    const server = known(visit)
    // It says nothing by itself: 405 is how the specification has a server say that it has no stream.
    if (isBuiltin(server)) return visit.answer.send(405, undefined, { allow: 'POST, DELETE' })
    const action = describeMcp(server, { method: 'stream', params: {} })
    const listen = async (permit: Permit): Promise<Outcome> => {
      const forget = of.inquiries?.listen(visit.answer)
      try {
        return await exchange.lane(of, server).upstream.stream(permit, visit.answer, visit.headers)
      } finally {
        forget?.()
      }
    }
    speakLast(visit.answer, () => ({ server: visit.name }))
    const leave = hear(audience, visit, server.resource.id)
    try {
      await exchange.govern(visit.caller, action, [], listen, visit.answer.lastWords ? { cut: visit.answer.lastWords } : {})
    } finally {
      leave()
    }
  }

  const end = async (visit: Visit): Promise<void> => {
    checkVersion(visit.request)
    const of = await sessionOf(visit)
    const server = visit.all ? undefined : known(visit)
    if (!server || isBuiltin(server)) {
      await sessions.close(of, sessionGone('The client has ended the MCP session.'))
      return visit.answer.send(204)
    }
    const action = describeMcp(server, { method: 'session/end', params: {} })
    await exchange.govern(visit.caller, action, [], async () => {
      await sessions.close(of, sessionGone('The client has ended the MCP session.'))
      return { status: 'ok' }
    })
    visit.answer.send(204)
  }

  /** Whether the client has said that it can show a page: here, or when it opened its session. */
  const opensPages = ({ request, caller, server, all }: Visit, message: Sent): boolean => {
    const id = request.headers['mcp-session-id']
    const scope = all ? ALL : server?.resource.id
    const of = typeof id === 'string' && scope !== undefined ? sessions.byId(id, caller.session, scope) : undefined
    const capabilities = of && of !== 'foreign' ? of.capabilities : declaredIn(message)
    return canBeAsked(capabilities, 'elicitation/create', { mode: 'url' })
  }

  const asked = (visit: Visit, message: Message, seen = false): Asked => {
    const { name, server, all, caller } = visit
    const visible = () => {
      if (seen) return true
      // That this endpoint exists is no secret; only what lies behind it may be.
      if (all) return true
      return server !== undefined && (isBuiltin(server) || applied.isVisible(caller.session, server.resource.id))
    }
    if (message.kind === 'response') return { server: name, serverVisible: visible() }
    const tool = message.params.name
    const id = message.kind === 'request' ? { id: message.id } : {}
    return {
      server: name,
      method: message.method,
      serverVisible: visible(),
      opensPages: opensPages(visit, message),
      ...(caller.stepUp === undefined ? {} : { stepUp: caller.stepUp }),
      ...id,
      ...(typeof tool === 'string' ? { tool } : {}),
    }
  }

  const fail = (answer: Answer, error: ChaperoneError, what: () => Asked): void => {
    if (error.code === 'internal') failed(error)
    if (answer.gone) return
    const { status, message, headers } = replyTo(error, what())
    if (answer instanceof HttpAnswer) Object.assign(answer.common, headers, { 'x-chaperone-origin': 'proxy' })
    finish(answer, status, JSON.stringify(message))
  }

  const verbs: Readonly<Record<string, (visit: Visit) => Promise<void>>> = { POST: post, GET: stream, DELETE: end }

  return {
    get sessions() {
      return sessions.size
    },

    async handle(request, response, caller, given) {
      const name = given ?? 'all servers'
      const answer = new HttpAnswer(request, response, clock, limits)
      // So that a client can tell whose failure it is.
      answer.common['x-chaperone-origin'] = 'upstream'
      let leave = () => {}
      try {
        leave = crowd.enter(personOf(caller.session))
        if (closing) throw new ChaperoneError('draining', 'Chaperone is shutting down.')
        const run = verbs[request.method ?? '']
        if (!run) return answer.send(405, undefined, { allow: Object.keys(verbs).join(', ') })
        const all = given === undefined
        const server = all ? undefined : serverOf(caller, name)
        if (!server && !all) {
          const missing = new ChaperoneError('not_found', 'There is no such MCP server.')
          await records.refused(caller, name, missing)
          // Of two names only a database has, and who may not see it gets the answer of a path that is none.
          if (name.includes('/')) throw missing
        }
        await run({ request, caller, name, server, all, answer, headers: requestHeaders(request.headers) })
      } catch (error) {
        fail(answer, toChaperoneError(error), () => ({ server: name }))
      } finally {
        leave()
        if (!request.complete) response.once('finish', () => letGo(request))
      }
    },

    async close() {
      closing = true
      unwatch?.()
      unwatchRights?.()
      await sessions.closeAll(new ChaperoneError('draining', 'Chaperone is shutting down.'))
      await servers.close()
    },
  }
}

const declaredIn = ({ params }: Sent) => (isObject(params.capabilities) ? params.capabilities : {})

function textAt(text: string, path: readonly string[]): string | undefined {
  const span = spanAt(text, path)
  const value: unknown = span && JSON.parse(text.slice(span.start, span.end))
  return typeof value === 'string' ? value : undefined
}
