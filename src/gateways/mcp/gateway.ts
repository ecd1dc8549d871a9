import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Guard, Outcome, Permit, Resources } from '../../access/types.ts'
import type { AuditLog, Body } from '../../audit/record.ts'
import type { McpServerSpec } from '../../catalog/mcp-server.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import type { Action } from '../../policy/types.ts'
import { type Answer, Collector, finish, HttpAnswer } from './answer.ts'
import { makeAsker } from './asker.ts'
import { type Annotations, describeMcp } from './describe.ts'
import { BATCH_VERSION, type Era, LEGACY_VERSIONS, MODERN_VERSIONS } from './era.ts'
import { isolator } from './isolation.ts'
import { spanAt } from './json-text.ts'
import { type Lane, makeLanes, type Server } from './lanes.ts'
import { learnTools } from './learn.ts'
import { MCP_LIMITS, type McpLimits } from './limits.ts'
import { noBatches, readPost } from './post.ts'
import { type Asked, replyTo } from './refuse.ts'
import { makeServers } from './servers.ts'
import { type ClientHeaders, NotSent } from './types.ts'
import { requestHeaders } from './upstream.ts'
import { INVALID_REQUEST, type Notification, ProtocolError, type Request, sessionGone } from './wire.ts'

export interface McpGatewayParts {
  readonly guard: Guard
  readonly resources: Resources
  readonly audit: Pick<AuditLog, 'append' | 'addSecrets'>
  /** A sealed secret of the vault, by name. */
  readonly reveal: (secret: string) => Promise<string>
  readonly clock: Clock
  /** What no child may see, with the root key's usual place beside it; `hide` names more, such as a root key elsewhere. */
  readonly dataDir: string
  readonly hide?: readonly string[]
  readonly limits?: Partial<McpLimits>
  readonly log?: { warn(facts: Record<string, unknown>, what: string): void }
}

/** Who asks, proven by server/ before anything of the request is read. */
export interface McpCaller {
  readonly session: LiveSession
  /** Aborts when the proof that this request came with ends. */
  readonly connection: Connection
}

export interface McpGateway {
  /** Answers one request to `/mcp/<server>`. Resolves when the answer is over. Never rejects for what a client or server does. */
  handle(request: IncomingMessage, response: ServerResponse, caller: McpCaller, server: string): Promise<void>
  /** Ends every MCP session and child. */
  close(): Promise<void>
  /** open MCP sessions, for metrics */
  readonly sessions: number
}

/** One HTTP request on its way. */
interface Visit {
  readonly request: IncomingMessage
  readonly caller: McpCaller
  /** as the client wrote it */
  readonly name: string
  /** undefined when there is none of that name: the answers are those of a server that may not be seen (rule 8) */
  readonly server: Server | undefined
  readonly answer: Answer
  readonly headers: ClientHeaders
}

type Send = (permit: Permit) => Promise<Outcome>

/**
 * The way of a message: read in the one way in which it can be read (wire), placed in its era, described as an Action,
 * admitted by the guard, sent on with the permit, answered, settled. `initialize`, lists, notifications, streams and what
 * the server asks by itself all take the same way (rule 9).
 */
export function mcpGateway(parts: McpGatewayParts): McpGateway {
  const { guard, resources, audit, clock } = parts
  const limits: McpLimits = { ...MCP_LIMITS, ...parts.limits }
  const log = (what: string, facts: Record<string, unknown>) => parts.log?.warn(facts, what)
  const failed = (error: unknown) => log('mcp.failed', { error: toChaperoneError(error).detail ?? String(error) })
  const servers = makeServers({
    audit,
    reveal: parts.reveal,
    isolator: isolator({ dataDir: parts.dataDir, ...(parts.hide ? { hide: parts.hide } : {}) }),
    clock,
    limits,
    log,
  })
  const mayStay = ({ session, server }: Lane) => {
    if (resources.find('mcp', server.resource.name)?.resource.id !== server.resource.id) throw sessionGone('The MCP server is not there any more.')
    const { verdict, reason, message } = guard.judge(session, describeMcp(server, { method: 'ping', params: {} }))
    if (verdict !== 'allow') throw new ChaperoneError(reason, message)
  }
  const lanes = makeLanes({ clock, limits, mayStay, failed })
  let closing = false

  const openLane = (era: Era, session: LiveSession, server: Server): Lane =>
    lanes.open(era, session, server, ({ connection, lane, ended }) => {
      const tools = servers.tools(server)
      const asker = makeAsker({ guard, session: () => lane().session, connection, target: () => lane().server, tools, limits, log })
      return { tools, upstream: servers.upstream({ era, session, server, asker, ended }) }
    })
  const closeLane = (lane: Lane, why: ChaperoneError) => void lanes.close(lane, why).catch(failed)

  /** What was refused before it was an action is recorded with its beginning; the writer masks secrets in it. */
  const recordRefused = async ({ caller, name }: Pick<Visit, 'caller' | 'name'>, error: ChaperoneError, bytes?: Uint8Array): Promise<void> => {
    const { principal } = caller.session
    const digest = bytes && { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
    await audit.append({
      type: 'message.refused',
      actor: { id: principal.identityId, name: principal.name, kind: principal.kind },
      session: caller.session.id,
      connection: caller.connection.id,
      data: { reason: error.code, message: error.message, server: name, ...digest },
      ...(bytes ? { bodies: [{ name: 'message', bytes: bytes.subarray(0, 4096) }] } : {}),
    })
  }

  /** Admits the action, does it with the permit, and settles it once on every path (peers R73). */
  const govern = async ({ caller }: Visit, action: Action, bodies: readonly Body[], send: Send): Promise<Outcome> => {
    const permit = await guard.admit(caller.session, action, { connection: caller.connection, bodies })
    let outcome: Outcome = { status: 'unknown' }
    try {
      outcome = await send(permit)
      return outcome
    } catch (error) {
      // What never left us surely did nothing; of what did, nobody can say.
      outcome = { status: neverSent(error) ? 'failed' : 'unknown', facts: { error: toChaperoneError(error).code } }
      throw error
    } finally {
      guard.settle(permit, outcome)
    }
  }

  const known = ({ server }: Visit): Server => {
    if (server) return server
    throw new ChaperoneError('not_found', 'There is no such MCP server.')
  }

  /** What a trusted server says of the tool that is called; its list is fetched when it was not seen yet. */
  const annotationsFor = async (visit: Visit, server: Server, lane: () => Lane, message: Request): Promise<Annotations | undefined> => {
    const tool = message.params.name
    if (message.method !== 'tools/call' || typeof tool !== 'string' || !server.spec.trusted || Object.hasOwn(server.spec.tools, tool))
      return undefined
    // Who may not even ask for the list learns nothing, and costs no process.
    if (guard.judge(visit.caller.session, describeMcp(server, { method: 'tools/list', params: {} })).verdict !== 'allow') return undefined
    const { tools } = lane()
    if (tools.get(tool) === undefined) {
      const ask = (action: Action, send: Send) => govern(visit, action, [], send)
      await learnTools(server, lane(), message, limits, ask).catch((error: unknown) => log('mcp.learn', { server: visit.name, error: String(error) }))
    }
    return tools.get(tool)
  }

  const exchange = async (visit: Visit, laneFor: () => Lane, message: Request | Notification, answer: Answer): Promise<Outcome> => {
    const server = known(visit)
    const annotations = message.kind === 'request' ? await annotationsFor(visit, server, laneFor, message) : undefined
    return govern(visit, describeMcp(server, message, annotations), bodiesOf(message), async (permit) => {
      const lane = laneFor()
      return using(lane, () =>
        message.kind === 'request'
          ? lane.upstream.request(permit, message, answer, visit.headers)
          : lane.upstream.notify(permit, message, visit.headers),
      )
    })
  }

  /** A lane that is in use is not idle, however long its answer takes. */
  const using = async <T>(lane: Lane, act: () => Promise<T>): Promise<T> => {
    lane.busy++
    try {
      return await act()
    } finally {
      lane.busy--
      lane.lastUsed = clock.now()
    }
  }

  const post = async (visit: Visit): Promise<void> => {
    let bytes: Buffer | undefined
    const saw = (body: Buffer) => {
      bytes = body
    }
    const { era, batch, messages } = await readPost(visit.request, clock, limits, saw).catch(async (error: unknown) => {
      await recordRefused(visit, toChaperoneError(error), bytes)
      throw error
    })
    if (batch) return postBatch(visit, messages)
    const message = messages[0]!
    try {
      await (era === 'modern' ? modern : legacy)(visit, message)
    } catch (error) {
      fail(visit.answer, toChaperoneError(error), asked(visit, message))
    }
  }

  const modern = async (visit: Visit, message: Request | Notification): Promise<void> => {
    const { session } = visit.caller
    if (message.kind === 'request') {
      const server = known(visit)
      await exchange(visit, () => lanes.modern(session, server) ?? openLane('modern', session, server), message, visit.answer)
      return
    }
    // This revision has no notifications of clients over HTTP: judged and recorded (peers R04), and sent nowhere.
    await govern(visit, describeMcp(known(visit), message), bodiesOf(message), async () => ({ status: 'ok', facts: { sent: false } }))
    visit.answer.send(202)
  }

  const legacy = async (visit: Visit, message: Request | Notification): Promise<void> => {
    if (message.method === 'initialize') return initialize(visit, message)
    const lane = await laneOf(visit)
    const outcome = await exchange(visit, () => lane, message, visit.answer)
    if (message.kind === 'notification') visit.answer.send(outcome.status === 'ok' ? 202 : 502)
  }

  const initialize = async (visit: Visit, message: Request | Notification): Promise<void> => {
    const { caller, answer, request } = visit
    if (message.kind === 'notification') throw new ProtocolError(INVALID_REQUEST, '`initialize` is a request.')
    if (request.headers['mcp-session-id'] !== undefined) {
      throw new ProtocolError(INVALID_REQUEST, '`initialize` opens a session and cannot be sent in one.', { id: message.id })
    }
    const server = known(visit)
    // The lane is opened when the guard has admitted: who is refused costs no process.
    await govern(visit, describeMcp(server, message), bodiesOf(message), async (permit) => {
      const lane = openLane('legacy', caller.session, server)
      const taken = new Collector(limits.lineBytes)
      try {
        const outcome = await using(lane, () => lane.upstream.request(permit, message, taken, visit.headers))
        taken.end()
        if (taken.text === undefined) throw new ChaperoneError('upstream_unavailable', `The MCP server ${visit.name} did not answer the handshake.`)
        const version = outcome.status === 'ok' ? textAt(taken.text, ['result', 'protocolVersion']) : undefined
        if (version === undefined) closeLane(lane, sessionGone('The handshake failed.'))
        else {
          lane.version = version
          lane.upstream.agreed(version)
        }
        answer.send(taken.status, taken.text, { 'content-type': 'application/json', ...(version === undefined ? {} : { 'mcp-session-id': lane.id }) })
        return outcome
      } catch (error) {
        closeLane(lane, toChaperoneError(error))
        throw error
      }
    })
  }

  /** The MCP session that a legacy request names. An id of somebody else is no id, and is recorded (peers R51, R52). */
  const laneOf = async (visit: Visit): Promise<Lane> => {
    const { request, caller, server } = visit
    const id = request.headers['mcp-session-id']
    if (typeof id !== 'string' || id === '') throw new ProtocolError(-32000, 'Mcp-Session-Id is missing: open a session with `initialize`.')
    const found = server && lanes.byId(id, caller.session, server)
    if (found === 'foreign') await recordRefused(visit, new ChaperoneError('not_found', 'The MCP session belongs to another session or server.'))
    if (found && found !== 'foreign') return found
    throw sessionGone('This MCP session does not exist: open one with `initialize`.')
  }

  /** Only 2025-03-26 had batches. Each message is judged, sent and recorded by itself. */
  const postBatch = async (visit: Visit, messages: readonly (Request | Notification)[]): Promise<void> => {
    const lane = await laneOf(visit)
    if (lane.version !== BATCH_VERSION) {
      await recordRefused(visit, noBatches())
      throw noBatches()
    }
    const answers: string[] = []
    for (const message of messages) {
      const collector = new Collector(limits.lineBytes)
      try {
        if (message.method === 'initialize') throw new ProtocolError(INVALID_REQUEST, '`initialize` cannot be part of a batch.')
        await exchange(visit, () => lane, message, collector)
        collector.end()
        if (collector.text !== undefined) answers.push(collector.text)
      } catch (error) {
        if (message.kind === 'request') answers.push(JSON.stringify(replyTo(toChaperoneError(error), asked(visit, message)).message))
      }
    }
    if (answers.length === 0) visit.answer.send(202)
    else visit.answer.send(200, `[${answers.join(',')}]`, { 'content-type': 'application/json' })
  }

  const stream = async (visit: Visit): Promise<void> => {
    checkVersion(visit.request)
    const lane = await laneOf(visit)
    if (!visit.answer.streams) throw new ProtocolError(-32000, 'The Accept header must name text/event-stream.', { http: 406 })
    const action = describeMcp(known(visit), { method: 'stream', params: {} })
    await govern(visit, action, [], (permit) => lane.upstream.stream(permit, visit.answer, visit.headers))
  }

  const end = async (visit: Visit): Promise<void> => {
    checkVersion(visit.request)
    const lane = await laneOf(visit)
    const action = describeMcp(known(visit), { method: 'session/end', params: {} })
    await govern(visit, action, [], async () => {
      await lanes.close(lane, sessionGone('The client has ended the MCP session.'))
      return { status: 'ok' }
    })
    visit.answer.send(204)
  }

  const asked = ({ name, server, caller }: Visit, message: Request | Notification): Asked => {
    const visible = () => {
      try {
        return server !== undefined && guard.judge(caller.session, describeMcp(server, { method: 'ping', params: {} })).visible
      } catch {
        // The session is over: nothing is visible to it.
        return false
      }
    }
    const tool = message.params.name
    const id = message.kind === 'request' ? { id: message.id } : {}
    return { server: name, method: message.method, serverVisible: visible(), ...id, ...(typeof tool === 'string' ? { tool } : {}) }
  }

  const fail = (answer: Answer, error: ChaperoneError, what: Asked): void => {
    if (error.code === 'internal') failed(error)
    const { status, message } = replyTo(error, what)
    if (answer instanceof HttpAnswer) answer.common['x-chaperone-origin'] = 'proxy'
    finish(answer, status, JSON.stringify(message))
  }

  const verbs: Readonly<Record<string, (visit: Visit) => Promise<void>>> = { POST: post, GET: stream, DELETE: end }

  return {
    get sessions() {
      return lanes.size
    },

    async handle(request, response, caller, name) {
      const answer = new HttpAnswer(request, response, clock, limits)
      // So that a client can tell whose failure it is.
      answer.common['x-chaperone-origin'] = 'upstream'
      try {
        if (closing) throw new ChaperoneError('draining', 'Chaperone is shutting down.')
        const run = verbs[request.method ?? '']
        if (!run) return answer.send(405, undefined, { allow: Object.keys(verbs).join(', ') })
        const found = resources.find('mcp', name)
        if (!found) await recordRefused({ caller, name }, new ChaperoneError('not_found', 'There is no such MCP server.'))
        const server = found && { resource: found.resource, spec: found.spec as McpServerSpec }
        await run({ request, caller, name, server, answer, headers: requestHeaders(request.headers) })
      } catch (error) {
        fail(answer, toChaperoneError(error), { server: name })
      } finally {
        // What was not read of a refused request is not read at all (peers R11).
        if (!request.complete) response.once('finish', () => request.destroy())
      }
    },

    async close() {
      closing = true
      await lanes.closeAll(new ChaperoneError('draining', 'Chaperone is shutting down.'))
      servers.close()
    },
  }
}

const REFUSED_HERE = new Set<string>(['isolation_unavailable', 'too_many', 'malformed', 'unsupported', 'draining'])

const neverSent = (error: unknown) => error instanceof NotSent || REFUSED_HERE.has(toChaperoneError(error).code)

/** GET and DELETE have no body to say the version in; the modern era has neither. */
function checkVersion(request: IncomingMessage): void {
  const version = request.headers['mcp-protocol-version']
  if (version === undefined || LEGACY_VERSIONS.includes(String(version))) return
  const http = MODERN_VERSIONS.includes(String(version)) ? 405 : 400
  throw new ProtocolError(-32000, 'This version has no streams and sessions: use POST.', { http, code: 'unsupported' })
}

/** Stored beside the intent: the arguments as the client wrote them. */
function bodiesOf(message: Request | Notification): Body[] {
  const span = spanAt(message.text, message.params.arguments === undefined ? ['params'] : ['params', 'arguments'])
  return span ? [{ name: 'arguments', bytes: message.text.slice(span.start, span.end) }] : []
}

function textAt(text: string, path: readonly string[]): string | undefined {
  const span = spanAt(text, path)
  const value: unknown = span && JSON.parse(text.slice(span.start, span.end))
  return typeof value === 'string' ? value : undefined
}
