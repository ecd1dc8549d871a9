import type { Requests } from '../../access/requests/types.ts'
import type { Admission, Guard, Outcome, Parked, Permit } from '../../access/types.ts'
import { Refusal } from '../../access/types.ts'
import type { Body } from '../../audit/record.ts'
import type { PinBook } from '../../catalog/pin-book.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import { actingIn } from '../../identity/named.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import type { Action } from '../../policy/types.ts'
import { type Answer, finish } from './answer.ts'
import { makeAsker } from './asker.ts'
import { makeAsking } from './asking/asked.ts'
import { exactCall } from './asking/exact-call.ts'
import { Relay } from './asking/relay.ts'
import { makeRounds, type Round } from './asking/rounds.ts'
import { makePatience, makeWaitings } from './asking/waiting.ts'
import type { Desk } from './builtin/desk.ts'
import { type Builtin, isBuiltin } from './builtin/types.ts'
import { type Annotations, describeMcp } from './describe.ts'
import { decodeHeader, META_CAPABILITIES } from './era.ts'
import type { Handles } from './handles.ts'
import type { Lane, McpSession, Server } from './lanes.ts'
import type { McpLimits } from './limits.ts'
import { learnList } from './offers/learn.ts'
import { LIST_BEFORE, makeObserver } from './offers/observer.ts'
import type { Records } from './records.ts'
import type { Servers } from './servers.ts'
import type { McpSessions } from './sessions.ts'
import { asksByTask, lacksTasks, mayMakeTask, noSuchTask, ownTasksOnly, type TaskOwner, type TaskOwners, tasksNamed } from './tasks.ts'
import { spanAt } from './text/json-text.ts'
import { wronglyMirrored } from './text/modern-headers.ts'
import { INTERACTIVE } from './translation/modern-results.ts'
import { type Asker, type ClientHeaders, type Errand, NotSent } from './types.ts'
import { HEADER_MISMATCH, INVALID_PARAMS, isObject, type Notification, ProtocolError, type Request, type RequestId } from './wire.ts'

/** Who asks, proven by server/ before anything of the request is read. */
export interface McpCaller {
  readonly session: LiveSession
  /** Aborts when the proof that this request came with ends. */
  readonly connection: Connection
  /** `WWW-Authenticate` of what this caller's token is too narrow for, where it could come back with a wider one. */
  readonly stepUp?: string
}

/** What a message is sent for: who asks, in which MCP session, and where its answer goes. */
export interface Turn {
  readonly caller: McpCaller
  readonly of: () => McpSession
  readonly headers: ClientHeaders
  /** W3C trace id of the client's request */
  readonly trace?: string | undefined
  /** False for one of a batch: nothing behind it would be answered while a human thinks. */
  readonly waits?: false
}

export type Send = (permit: Permit) => Promise<Outcome>

interface ExchangeParts {
  readonly guard: Guard
  /** The approved definitions of what servers offer. */
  readonly pins: Pick<PinBook, 'of' | 'observe' | 'row'>
  /** Wakes who waits for a human. */
  readonly requests: Pick<Requests, 'decided' | 'rights'>
  /** The server as it is applied now; undefined when it is gone. */
  readonly current: (server: Server) => Server | undefined
  readonly clock: Clock
  readonly limits: McpLimits
  readonly records: Records
  readonly servers: Servers
  readonly sessions: McpSessions
  readonly tasks: TaskOwners
  readonly handles: Handles
  /** Where the built-in servers answer. */
  readonly desk: Desk
  /** An identity's name of now, for the record. */
  readonly nameOf?: ((identity: string) => string | undefined) | undefined
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

export interface Exchange {
  /**
   * One message to one server: described, admitted, sent on its lane, settled. The answer is written to `answer`. What a
   * built-in server does is judged where it does it.
   */
  send(turn: Turn, server: Server | Builtin, message: Request | Notification, answer: Answer): Promise<Outcome>
  /** Admits the action, does it with the permit, and settles it once on every path (peers R73). */
  govern(
    caller: Pick<McpCaller, 'session'> & { readonly connection?: Connection | undefined },
    action: Action,
    bodies: readonly Body[],
    send: Send,
    more?: Pick<Admission, 'trace' | 'asking' | 'cut'>,
  ): Promise<Outcome>
  /** The lane of this MCP session to this server, opened if need be. */
  lane(of: McpSession, server: Server): Lane
  /** A lane that is in use is not idle, however long its answer takes. */
  using<T>(lane: Lane, act: () => Promise<T>): Promise<T>
}

/** The way of one message to one server (rule 9): whatever asks, an endpoint of one or of many, a batch, a translator. */
export function makeExchange(parts: ExchangeParts): Exchange {
  const { guard, records, pins, tasks, handles, clock, limits, servers, sessions, log, nameOf = () => undefined } = parts
  const { current, requests } = parts
  const rounds = makeRounds(handles)
  const asking = makeAsking(pins)
  const waitings = makeWaitings({ clock, limits, log })
  const patiently = makePatience({ requests, clock, waitings })
  /** The permit that a call went out with, where a human allowed it. */
  const approvals = new WeakMap<Request, Permit>()

  const govern: Exchange['govern'] = async ({ session, connection }, action, bodies, send, more = {}) => {
    const permit = await guard.admit(session, action, { ...(connection ? { connection } : {}), ...more, bodies })
    return settled(permit, send)
  }

  const settled = async (permit: Permit, send: Send): Promise<Outcome> => {
    let outcome: Outcome = { status: 'unknown' }
    try {
      outcome = await send(permit)
      return outcome
    } catch (error) {
      // What never left us surely did nothing; of what did, nobody can say.
      outcome = { status: error instanceof Refusal || neverSent(error) ? 'failed' : 'unknown', facts: { error: toChaperoneError(error).code } }
      throw error
    } finally {
      guard.settle(permit, outcome)
    }
  }

  const openLane = (of: McpSession, server: Server): Lane =>
    sessions.openLane(of, server, ({ lane, ended }) => {
      const tools = servers.tools(server)
      const session = () => lane().of.session
      const observer = makeObserver({ pins, tools, server: () => lane().server.resource, who: () => actingIn(session(), nameOf) })
      const asker = makeAsker({
        guard,
        session,
        connection: of.connection,
        target: () => lane().server,
        inquiries: of.inquiries,
        tools,
        observer,
        limits,
        log,
      })
      const errand: Errand = (message, send, after) => {
        const { server } = lane()
        const { name } = message.params
        const annotations = message.method === 'tools/call' && believes(server, name) ? tools.get(name) : undefined
        const action = describeMcp(server, message, annotations)
        const summary = `${action.summary} (by Chaperone, for a call of this session)`
        const further = message.kind === 'request' && after !== undefined && isApproved(after)
        const asking = further ? { asking: { call: () => exactCall(server, message, action, annotations, {}), continues: after.id } } : {}
        return govern({ session: session(), connection: of.connection }, { ...action, summary }, bodiesOf(message), send, asking)
      }
      const id = () => lane().server.resource.id
      const noting: Asker = {
        ...asker,
        async answered(message, text) {
          if (mayMakeTask(message)) await tasks.learn(id(), session(), message, text, approvals.get(message)?.id)
          if (message.method === 'tasks/list')
            return ownTasksOnly(text, async (taskId) => (await tasks.ownerOf(id(), session(), taskId)) !== undefined)
          return asker.answered(message, text)
        },
        async required(message, text) {
          const shown = await asker.required(message, text)
          return handles.sealed(id(), session(), message, shown)
        },
        told(message) {
          if (message.method?.endsWith('/list_changed')) of.changes++
          // Judged and recorded where the client asks for it itself, by `tasks/get`.
          if (asksByTask(message)) return false
          return asker.told(message)
        },
      }
      const { anew } = observer
      return { tools, observer, upstream: servers.upstream({ era: of.era, session: of.session, server, asker: noting, errand, ended, anew }) }
    })
  const laneOf = (of: McpSession, server: Server): Lane => sessions.lane(of, server) ?? openLane(of, server)

  const using: Exchange['using'] = async (lane, act) => {
    lane.busy++
    lane.of.busy++
    try {
      return await act()
    } finally {
      lane.busy--
      lane.of.busy--
      lane.lastUsed = clock.now()
      lane.of.lastUsed = lane.lastUsed
    }
  }

  /**
   * What a trusted server says of the tool that is called. Before it is called, the list it stands in is fetched when it was
   * not seen on this lane yet: its definition must be the approved one.
   */
  const annotationsFor = async ({ caller, of }: Turn, server: Server, message: Request): Promise<Annotations | undefined> => {
    const { name } = message.params
    if (LIST_BEFORE[message.method] === undefined || typeof name !== 'string') return undefined
    const believed = message.method === 'tools/call' && believes(server, name)
    const lane = sessions.lane(of(), server)
    const unseen = believed && lane?.tools.get(name) === undefined
    const list = lane && !unseen ? lane.observer.wanted(message.method) : LIST_BEFORE[message.method]
    if (list !== undefined) {
      // Who may not even ask for the list, or could not call anyway, learns nothing, and costs no process.
      const mayList = guard.judge(caller.session, describeMcp(server, { method: list, params: {} })).verdict === 'allow'
      if (!mayList || !(believed || guard.judge(caller.session, describeMcp(server, message)).verdict !== 'deny')) return undefined
      const open = laneOf(of(), server)
      const ask = (action: Action, send: Send) => govern(caller, action, [], send)
      await open.observer.have(list, () => learnList(list, { server, lane: open, call: message, clock, limits, govern: ask, log }))
    }
    return believed ? sessions.lane(of(), server)?.tools.get(name) : undefined
  }

  /** What the client brings back from an earlier round, as the server gave it. */
  const opened = <T extends Request | Notification>({ caller }: Turn, server: Server, message: T): T | Promise<T> =>
    message.kind === 'request' && message.params.requestState !== undefined
      ? (handles.opened(server.resource.id, caller.session, message) as Promise<T>)
      : message

  /** The call that made the task that the message is about. A task of somebody else is none (rule 8). */
  const taskOf = async ({ caller }: Turn, server: Server, message: Request | Notification): Promise<TaskOwner | undefined> => {
    const lacking = lacksTasks(message)
    if (lacking) throw lacking
    let task: TaskOwner | undefined
    for (const taskId of tasksNamed(message)) {
      task = await tasks.ownerOf(server.resource.id, caller.session, taskId)
      if (task === undefined) throw noSuchTask(message)
    }
    return message.method.startsWith('tasks/') ? task : undefined
  }

  /** `Mcp-Param-*` must say what the arguments say, whatever the server is reached by: a stdio server has no headers to check. */
  const checkMirrored = ({ of, headers }: Turn, server: Server, message: Request): void => {
    if (message.method !== 'tools/call' || message.params._meta === undefined || of().era !== 'modern') return
    const tools = sessions.lane(of(), server)?.tools
    const wrong = tools && wronglyMirrored(message, headers, tools.mirrored, (value) => decodeHeader(value, message.id))
    if (wrong !== undefined)
      throw new ProtocolError(HEADER_MISMATCH, `The header ${wrong} does not say what the argument says.`, { id: message.id, code: 'ambiguous' })
  }

  /**
   * Waits for the human whom a rule wants asked, as its era wants that: a legacy client is held, a modern one told to come back.
   * `run` waits with what it is given, and sends.
   */
  const inRounds = async (
    { turn, server, message, round, declined, answer }: Waiting,
    run: (wait: <T>(attempt: (known?: string) => Promise<T>) => Promise<T>) => Promise<Outcome>,
  ): Promise<Outcome> => {
    const { id, name } = server.resource
    // Only for the question that the client knows of: of a new one it is told at once.
    const poll = ({ request }: Parked) => (round?.kind === 'waiting' && !declined && round.request === request ? limits.approvalPollMs : 0)
    try {
      return await run((attempt) => patiently({ turn, server: name, message, answer, poll }, attempt))
    } catch (error) {
      const parked = error instanceof Refusal ? error.parked : undefined
      const known = round?.kind === 'waiting' ? round : undefined
      const since = known && known.request === parked?.request ? known.since : clock.now()
      const mayComeBack = turn.of().era === 'modern' && INTERACTIVE.has(message.method) && turn.waits !== false && !declined && !answer.gone
      if (!parked || !mayComeBack || (known?.round ?? 0) >= limits.approvalRounds || clock.now() - since >= limits.askMs) throw error
      const meta = message.params._meta as Readonly<Record<string, unknown>>
      const text = await rounds.parked(id, turn.caller.session, message, parked, {
        round: (known?.round ?? 0) + 1,
        since,
        capabilities: parked.request === known?.request ? undefined : (meta[META_CAPABILITIES] as Readonly<Record<string, unknown>>),
        server: name,
      })
      finish(answer, 200, text)
      return { status: 'ok', facts: { parked: parked.request } }
    }
  }

  /** What a tool of a built-in server does is judged where it is done, each time that it is tried; it waits like any call. */
  const atDesk = async (turn: Turn, server: Builtin, given: Request | Notification, answer: Answer): Promise<Outcome> => {
    const { desk } = parts
    if (given.kind === 'notification') {
      if (given.method === 'notifications/cancelled') waitings.cancelled(turn.of(), given.params.requestId as RequestId)
      return desk.send(turn, server, given, answer)
    }
    if (given.method !== 'tools/call') return desk.send(turn, server, given, answer)
    const back = await broughtBack(turn, server, given).catch(async (error: unknown) => {
      await records.refused(turn.caller, server.resource.name, toChaperoneError(error), server.discreet ? undefined : Buffer.from(given.text))
      throw error
    })
    const message = back.message as Request
    return inRounds({ turn, server, ...back, message, answer }, (wait) => wait((known) => desk.send(turn, server, message, answer, known)))
  }

  const nothingBack = (message: Request | Notification) => ({ message, round: undefined, declined: false })
  const broughtBack = async ({ caller }: Turn, server: Pick<Server, 'resource'>, message: Request | Notification) =>
    message.kind === 'request' && message.params.requestState !== undefined
      ? rounds.opened(server.resource.id, caller.session, message, clock.now())
      : nothingBack(message)

  return {
    govern,
    lane: laneOf,
    using,

    async send(turn, server, given, answer) {
      if (isBuiltin(server)) return atDesk(turn, server, given, answer)
      /** What is refused before it is an action is recorded as well. */
      const orRecord = async <T>(read: () => T | Promise<T>): Promise<T> => {
        try {
          return await read()
        } catch (error) {
          await records.refused(turn.caller, server.resource.name, toChaperoneError(error), Buffer.from(given.text))
          throw error
        }
      }
      const { message, round, declined, task } = await orRecord(async () => {
        checkSubscriptions(given)
        const back = await broughtBack(turn, server, given)
        const message = await opened(turn, server, back.message)
        return { ...back, message, task: await taskOf(turn, server, message) }
      })
      const { session, connection } = turn.caller
      const trace = turn.trace === undefined ? {} : { trace: turn.trace }
      const unsent = message.method === 'notifications/cancelled' && waitings.cancelled(turn.of(), message.params.requestId as RequestId)

      /** From scratch each time: what was looked at before somebody thought about it counts for nothing afterwards. */
      const attempt = async (known?: string) => {
        const now = current(server)
        if (!now) throw new ChaperoneError('not_found', 'The MCP server is not there any more.')
        const annotations = message.kind === 'request' ? await annotationsFor(turn, now, message) : undefined
        if (message.kind === 'request') await orRecord(() => checkMirrored(turn, now, message))
        const action = describeMcp(now, task === undefined ? message : { ...message, tool: task.tool }, annotations)
        const asked = message.kind === 'request' ? asking(now, message, action, { annotations, round, task, known }) : {}
        const cut = answer.lastWords ? { cut: answer.lastWords } : {}
        return { server: now, permit: await guard.admit(session, action, { connection, ...trace, ...asked, ...cut, bodies: bodiesOf(message) }) }
      }

      const deliver = async ({ server, permit }: Awaited<ReturnType<typeof attempt>>): Promise<Outcome> =>
        settled(permit, async () => {
          if (unsent) return { status: 'ok', facts: { sent: false } }
          const lane = laneOf(turn.of(), server)
          if (message.kind === 'notification') return using(lane, () => lane.upstream.notify(permit, message, turn.headers))
          const rounded = isApproved(permit) && turn.of().era === 'modern'
          if (isApproved(permit)) approvals.set(message, permit)
          // A stream on which the client was told that a human is asked cannot become a body again.
          if (!rounded && answer.began === 'no') return using(lane, () => lane.upstream.request(permit, message, answer, turn.headers))
          const relay = new Relay(answer, limits.lineBytes, (text) => {
            const by = { permit: permit.id, until: clock.now() + limits.askMs }
            return rounded ? rounds.continued(server.resource.id, session, message, text, by) : text
          })
          const outcome = await using(lane, () => lane.upstream.request(permit, message, relay, turn.headers))
          relay.end()
          if (!relay.passed) throw new ChaperoneError('upstream_unavailable', `The MCP server ${server.resource.name} broke off its answer.`)
          await relay.passed
          return outcome
        })

      if (message.kind === 'notification') return deliver(await attempt())
      return inRounds({ turn, server, round, declined, message, answer }, async (wait) => deliver(await wait(attempt)))
    },
  }
}

interface Waiting {
  readonly turn: Turn
  readonly server: Pick<Server, 'resource'>
  readonly message: Request
  /** what the client brought back from an earlier round, and whether it has said that it does not want to wait */
  readonly round: Round | undefined
  readonly declined: boolean
  readonly answer: Answer
}

/** An approval is behind the permit. */
const isApproved = ({ decision }: Permit): boolean => decision.verdict === 'ask'

/** Whether a tool's own hints count: the server is trusted, and no administrator said something about this tool. */
const believes = ({ spec }: Server, tool: unknown): tool is string => typeof tool === 'string' && spec.trusted && !Object.hasOwn(spec.tools, tool)

/** A word or an object where a list belongs: we would find nothing to judge in it, and a server that only iterates would find URIs. */
function checkSubscriptions(message: Request | Notification): void {
  if (message.method !== 'subscriptions/listen') return
  const { notifications } = message.params
  const isList = (value: unknown) => value === undefined || (Array.isArray(value) && value.every((word) => typeof word === 'string'))
  if (isObject(notifications) && isList(notifications.resourceSubscriptions) && isList(notifications.taskIds)) return
  throw new ProtocolError(INVALID_PARAMS, '`notifications` is not an object whose `resourceSubscriptions` and `taskIds` are lists of strings.', {
    ...(message.kind === 'request' ? { id: message.id } : {}),
  })
}

const REFUSED_HERE = new Set<string>(['isolation_unavailable', 'too_many', 'malformed', 'unsupported', 'draining', 'upstream_login_required'])

const neverSent = (error: unknown) => error instanceof NotSent || REFUSED_HERE.has(toChaperoneError(error).code)

/** Stored beside the intent, as the client wrote it: the arguments, or all parameters of what has none; and what it answers to a server that asked. */
export function bodiesOf(message: Request | Notification): Body[] {
  const bodyAt = (name: string, path: readonly string[]): Body[] => {
    const span = spanAt(message.text, path)
    return span ? [{ name, bytes: message.text.slice(span.start, span.end) }] : []
  }
  return [
    ...bodyAt('arguments', message.params.arguments === undefined ? ['params'] : ['params', 'arguments']),
    ...(message.params.inputResponses === undefined ? [] : bodyAt('responses', ['params', 'inputResponses'])),
  ]
}
