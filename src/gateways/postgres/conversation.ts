import type { Admission, Guard, Permit } from '../../access/types.ts'
import type { Clock } from '../../clock.ts'
import { parseDuration } from '../../encoding/duration.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import type { Action } from '../../policy/types.ts'
import { Cursors } from './cursors.ts'
import { type Described, type DescriptionCache, type Place, type SqlContext, statementAction } from './describe.ts'
import { Names, type Portal, type Prepared, parametersOf, type Run } from './prepared.ts'
import { cutMessage, refusalMessage } from './refuse.ts'
import { Replies } from './replies.ts'
import { cannotKeep, type KnownObligations } from './rules.ts'
import {
  ClientFramer,
  type ClientMessage,
  FROM_CLIENT,
  parseMessage,
  queryMessage,
  readBind,
  readExecute,
  readParse,
  readQuery,
  readTarget,
  readyForQuery,
  type WireLimits,
} from './wire.ts'

export interface ConversationParts {
  readonly guard: Guard
  readonly session: LiveSession
  readonly connection: Connection
  readonly place: Place
  readonly context: SqlContext
  readonly cache: DescriptionCache
  readonly clock: Clock
  readonly limits: WireLimits & { readonly queuedMessages: number; readonly queuedBytes: number; readonly names: number }
  toClient(bytes: Buffer): void
  toUpstream(bytes: Buffer): void
  /** Stop, or go on, reading what the client sends. */
  holdClient(hold: boolean): void
  /** Stop what the database is doing for this connection. */
  cancel(): void
  /** Both sides are to be closed, after these last words to the client. */
  over(lastWords: Buffer | undefined): void
  /** A message was refused without a decision: it could not be read, or names what does not exist. */
  messageRefused(error: ChaperoneError): void
}

/** A message of the client on its way: classified, perhaps waiting for its permit, then sent, then answered. */
export interface Item {
  readonly type: number
  readonly frame: Buffer
  waiting: boolean
  refusal: { readonly error: ChaperoneError; readonly about?: Described | undefined } | undefined
  readonly runs: Run[]
  /** which of its runs the server is at (a Query with several statements) */
  at: number
  /** undoes or confirms what it does to a name */
  readonly name: { confirm(): void; withdraw(): void } | undefined
  readonly portal: Portal | undefined
  /** COPY FROM STDIN is in it */
  readonly copiesIn: boolean
  /** It was sent in place of a refused one, to make the server fail; this is the error that the client gets. */
  marker: Buffer | undefined
}

const { bind, close, copyData, copyDone, copyFail, describe, execute, flush, functionCall, parse, query, sync, terminate } = FROM_CLIENT
const DURING_COPY = new Set<number>([copyData, copyDone, copyFail, flush, sync, terminate])
/** Ends a batch of messages: what stands before it is worth sending. */
const WORTH_SENDING = new Set<number>([execute, query, sync, flush, terminate, copyData, copyDone, copyFail])

/**
 * One client connection, between the startup and the end. No sockets here: bytes come in by `fromClient` and
 * `fromUpstream`, and go out by the functions in its parts.
 *
 * A message is read, described and judged in the order in which it came; while one waits for its permit, the next ones are
 * already on their way to theirs, and all are sent in order. A refusal behaves as an error of the server: in the simple
 * protocol an ErrorResponse, in the extended one everything up to the Sync is skipped. When the server has work of the
 * same transaction in hand, it is made to fail too, with a message that it cannot parse: so the transaction is aborted
 * where it lives, and every ReadyForQuery is the server's own.
 */
export class Conversation {
  readonly #parts: ConversationParts
  readonly #framer: ClientFramer
  readonly #replies: Replies
  readonly #statements = new Names<Prepared>()
  readonly #portals = new Names<Portal>()
  readonly #cursors = new Cursors()
  #context: SqlContext
  #queue: Item[] = []
  #queuedBytes = 0
  #waitingMessage: ClientMessage | undefined
  /** a refusal was found while reading: the rest up to Sync is not even looked at */
  #skipping = false
  /** the same, found while sending */
  #dropping = false
  /** something of the extended protocol was sent since the last Sync */
  #segmentOpen = false
  /** A statement that may change settings: in this segment, or before it and not finished. What follows is read only when it is over. */
  #looseHere = false
  #looseBefore = false
  /** The client has sent all of its copy data; the server may not have come to the end of it. */
  #copyEnded = false
  /** The client has said goodbye. */
  #leaving = false
  #closed = false
  readonly #onAbort: (event: Event) => void
  /** How many were admitted. */
  statements = 0

  constructor(parts: ConversationParts) {
    this.#parts = parts
    this.#context = parts.context
    this.#framer = new ClientFramer(parts.limits)
    this.#replies = new Replies({
      clock: parts.clock,
      statements: this.#statements,
      portals: this.#portals,
      settle: (run, outcome) => this.#settle(run, outcome),
      cancel: () => parts.cancel(),
      emit: (bytes) => parts.toClient(bytes),
      pathMoved: () => this.#forgetPath(),
    })
    this.#onAbort = (event) => this.cut((event.target as AbortSignal).reason)
  }

  fromClient(chunk: Buffer): void {
    if (this.#closed) return
    this.#framer.push(chunk)
    this.#goOn()
  }

  fromUpstream(chunk: Buffer): void {
    if (this.#closed) return
    try {
      this.#replies.push(chunk)
    } catch (error) {
      this.cut(error)
      return
    }
    this.#goOn()
  }

  /** Ends it now, with the reason as last words: expiry, a lock, a broken stream. */
  cut(reason: unknown): void {
    const error = toChaperoneError(reason)
    this.#end(this.#replies.midMessage ? undefined : cutMessage(error), true)
  }

  /** The client has gone. What it left running is stopped. */
  clientGone(): void {
    this.#end(undefined, true)
  }

  upstreamGone(): void {
    const silent = this.#leaving || this.#replies.midMessage || this.#replies.sawFatal
    this.#end(silent ? undefined : cutMessage(new ChaperoneError('upstream_unavailable', 'The database closed the connection.')), false)
  }

  #end(lastWords: Buffer | undefined, cancel: boolean): void {
    if (this.#closed) return
    this.#closed = true
    if (cancel && this.#replies.busy) this.#parts.cancel()
    for (const item of this.#queue) for (const run of item.runs) this.#settle(run, { status: 'failed', sent: false })
    this.#replies.abandon()
    this.#queue = []
    this.#parts.over(lastWords)
  }

  #goOn(): void {
    try {
      // What is sent, or refused, may be what the next message waits for.
      do this.#read()
      while (this.#send())
    } catch (error) {
      this.cut(error)
      return
    }
    if (!this.#closed) this.#parts.holdClient(this.#waitingMessage !== undefined || this.#isFull())
  }

  #isFull(): boolean {
    const { queuedMessages, queuedBytes } = this.#parts.limits
    return this.#queue.length >= queuedMessages || this.#queuedBytes >= queuedBytes || this.#replies.inFlight >= queuedMessages * 16
  }

  // Reading and judging

  #read(): void {
    while (!this.#closed && !this.#isFull()) {
      const message = this.#waitingMessage ?? this.#framer.next()
      if (!message) return
      this.#waitingMessage = undefined
      if (!this.#take(message)) {
        this.#waitingMessage = message
        return
      }
    }
  }

  /** False: not yet; something that was sent before must be answered first. */
  #take(message: ClientMessage): boolean {
    const { type, frame } = message
    if (this.#skipping && type !== sync && type !== terminate) return true
    if (!this.#replies.awaitsCopy) this.#copyEnded = false
    else if (!DURING_COPY.has(type)) {
      // The server would take it for a broken COPY and swallow it, and every answer after it would be counted wrongly.
      if (this.#replies.copying && !this.#copyEnded) throw new ChaperoneError('malformed', 'Only copy data may follow while COPY is reading.')
      return false
    }
    try {
      if (message.oversized) throw new ChaperoneError('too_large', `The SQL text is over the limit of ${this.#parts.limits.statementBytes} bytes.`)
      switch (type) {
        case query:
          return this.#query(frame)
        case parse:
          return this.#parse(frame)
        case bind:
          return this.#bind(frame)
        case execute:
          return this.#execute(frame)
        case describe:
          readTarget(frame)
          this.#add(type, frame)
          return true
        case close:
          return this.#close(frame)
        case sync:
          this.#add(type, frame)
          this.#endSegment()
          return true
        case flush:
        case terminate:
          this.#add(type, frame)
          return true
        case copyData:
        case copyDone:
        case copyFail:
          // Outside a COPY the server ignores them.
          if (this.#replies.awaitsCopy) {
            this.#copyEnded = type !== copyData
            this.#add(type, frame)
          }
          return true
        case functionCall:
          throw new ChaperoneError('unsupported', 'Functions are called with SELECT: a FunctionCall message has no text that could be judged.')
        default:
          throw new ChaperoneError('malformed', 'This message has no place here.')
      }
    } catch (error) {
      const refusal = toChaperoneError(error)
      this.#parts.messageRefused(refusal)
      this.#refuseNow(type, frame, { error: refusal })
      return true
    }
  }

  #add(type: number, frame: Buffer, more: Partial<Pick<Item, 'refusal' | 'portal' | 'name' | 'copiesIn'>> = {}): Item {
    const item: Item = {
      type,
      frame,
      waiting: false,
      refusal: undefined,
      runs: [],
      at: 0,
      name: undefined,
      portal: undefined,
      copiesIn: false,
      marker: undefined,
      ...more,
    }
    this.#queue.push(item)
    this.#queuedBytes += frame.length
    if (item.copiesIn) this.#replies.expectCopy()
    return item
  }

  #refuseNow(type: number, frame: Buffer, refusal: NonNullable<Item['refusal']>): void {
    this.#add(type, frame, { refusal })
    if (isSimple(type)) this.#endSegment()
    else this.#skipping = true
  }

  #endSegment(): void {
    this.#statements.sync()
    this.#portals.sync()
    this.#skipping = false
    this.#looseBefore ||= this.#looseHere
    this.#looseHere = false
  }

  /** Whether a text may be read now. While a statement runs that may move what the parser relies on, it may not. */
  #canReadSql(): boolean {
    if (this.#looseHere) {
      throw new ChaperoneError('not_understood', 'A statement before it in the same batch may change what it means.', {
        fix: 'Send a Sync between the two.',
      })
    }
    if (!this.#looseBefore) return true
    if (this.#queue.length > 0 || this.#replies.inFlight > 0) return false
    this.#looseBefore = false
    return true
  }

  #query(frame: Buffer): boolean {
    if (!this.#canReadSql()) return false
    const text = readQuery(frame)
    const described = this.#parts.cache.describe(text, this.#context).map((one) => this.#cursors.follow(one))
    const item = this.#add(query, frame, { copiesIn: described.some((one) => one.copiesIn) })
    this.#endSegment()
    if (described.some((one) => one.loose)) this.#looseBefore = true
    const actions = described.map((one) => this.#actionOf(one))
    const first = described[0]
    if (described.length === 1) this.#admit(item, first!, actions[0]!, [statementBody(text)])
    else if (described.length > 1) this.#admitAll(item, text, described, actions)
    return true
  }

  /** Several statements in one text are one message to the server: it goes if every one of them may. */
  #admitAll(item: Item, text: string, described: readonly Described[], actions: readonly Action[]): void {
    const { guard, session, connection } = this.#parts
    const refused = actions.findIndex((action) => guard.judge(session, action).verdict !== 'allow')
    if (refused >= 0) {
      // The refusal is recorded with the whole text: the other statements were asked for in the same breath.
      this.#admit(item, described[refused]!, actions[refused]!, [statementBody(text)])
      return
    }
    item.waiting = true
    Promise.allSettled(actions.map((action, i) => guard.admit(session, action, { connection, bodies: [statementBody(described[i]!.text)] }))).then(
      (results) => {
        item.waiting = false
        results.forEach((result, i) => {
          if (result.status === 'fulfilled') this.#admitted(item, described[i]!, result.value)
          else item.refusal ??= { error: toChaperoneError(result.reason), about: described[i] }
        })
        this.#goOn()
      },
    )
  }

  #parse(frame: Buffer): boolean {
    if (!this.#canReadSql()) return false
    const { name, text } = readParse(frame)
    if (this.#statements.size >= this.#parts.limits.names)
      throw new ChaperoneError('too_many', 'The connection holds too many prepared statements.', { fix: 'Close some of them.' })
    const all = this.#parts.cache.describe(text, this.#context)
    const first =
      all[0] && this.#cursors.follow(all.length > 1 ? { ...all[0], unclear: 'a prepared statement is one statement', unread: 'syntax' } : all[0])
    const action = first && this.#actionOf(first)
    const prepared: Prepared = { described: first, action, text, context: this.#context }
    const { guard, session } = this.#parts
    if (first && action && guard.judge(session, action).verdict !== 'allow') {
      this.#admit(this.#add(parse, frame), first, action, [statementBody(text)])
      this.#skipping = true
      return true
    }
    this.#statements.propose(name, prepared)
    this.#add(parse, frame, { name: { confirm: () => this.#statements.confirm(name, prepared), withdraw: () => this.#statements.withdraw() } })
    return true
  }

  #bind(frame: Buffer): boolean {
    const { portal: name, statement, values, isBinary } = readBind(frame)
    const found = this.#statements.find(statement)
    if (found === 'wait') return false
    if (!found) throw new ChaperoneError('usage', `The prepared statement ${JSON.stringify(statement)} does not exist.`)
    if (this.#portals.size >= this.#parts.limits.names)
      throw new ChaperoneError('too_many', 'The connection holds too many portals.', { fix: 'Close some of them.' })
    const prepared = this.#again(found)
    const portal: Portal = { prepared, parameters: values.length > 0 ? parametersOf(values, isBinary) : '', run: undefined, executed: false }
    this.#portals.propose(name, portal)
    const confirm = () => {
      this.#replies.neverRan(this.#portals.known(name))
      this.#portals.confirm(name, portal)
    }
    const item = this.#add(bind, frame, { portal, name: { confirm, withdraw: () => this.#portals.withdraw() } })
    if (prepared.described && prepared.action) this.#admit(item, prepared.described, prepared.action, bodiesOf(prepared, portal))
    return true
  }

  /** What a statement means may have moved since it was prepared: other cursors, another search path. */
  #again(prepared: Prepared): Prepared {
    if (!prepared.described || (prepared.context === this.#context && prepared.described.fetches === undefined)) return prepared
    const described = this.#cursors.follow(this.#parts.cache.describe(prepared.text, this.#context)[0]!)
    return { ...prepared, described, action: this.#actionOf(described), context: this.#context }
  }

  #execute(frame: Buffer): boolean {
    const { portal: name } = readExecute(frame)
    const portal = this.#portals.find(name)
    if (portal === 'wait') return false
    // A cursor of DECLARE is a portal too; run by this message it would escape its FETCH.
    if (!portal) throw new ChaperoneError('usage', `The portal ${JSON.stringify(name)} does not exist.`)
    const { described, action } = portal.prepared
    const item = this.#add(execute, frame, { portal, copiesIn: described?.copiesIn ?? false })
    if (described && action) {
      if (described.loose) this.#looseHere = true
      // The Bind before it was admitted for the first run; going on with a suspended portal is a run of its own.
      if (portal.executed) this.#admit(item, described, action, bodiesOf(portal.prepared, portal))
    }
    portal.executed = true
    return true
  }

  #close(frame: Buffer): boolean {
    const { of, name } = readTarget(frame)
    const names: Names<unknown> = of === 'statement' ? this.#statements : this.#portals
    names.propose(name, undefined)
    this.#add(close, frame, { name: { confirm: () => names.confirm(name, undefined), withdraw: () => names.withdraw() } })
    return true
  }

  #actionOf(described: Described): Action {
    return statementAction(this.#parts.place, described, this.#context)
  }

  #admit(item: Item, described: Described, action: Action, bodies: Admission['bodies']): void {
    const { guard, session, connection } = this.#parts
    item.waiting = true
    guard.admit(session, action, { connection, ...(bodies ? { bodies } : {}) }).then(
      (permit) => {
        item.waiting = false
        this.#admitted(item, described, permit)
        this.#goOn()
      },
      (error) => {
        item.waiting = false
        item.refusal = { error: toChaperoneError(error), about: described }
        this.#goOn()
      },
    )
  }

  #admitted(item: Item, described: Described, permit: Permit): void {
    const obligations = permit.obligations as KnownObligations
    const run: Run = {
      permit,
      described,
      startedAt: 0,
      rows: 0,
      cap: obligations.max_rows ?? 0,
      timeoutMs: obligations.statement_timeout === undefined ? 0 : parseDuration(obligations.statement_timeout),
      status: undefined,
      sqlstate: undefined,
      sent: false,
    }
    const unkept = this.#closed ? undefined : cannotKeep(permit.obligations, permit.action)
    // A Parse is admitted only to have its refusal recorded; if the rules have changed in between, it is tried again.
    const error =
      unkept ?? (item.type === parse ? new ChaperoneError('conflict', 'The rules changed while this was judged.', { fix: 'Try again.' }) : undefined)
    if (this.#closed || error) {
      this.#settle(run, { status: 'failed', sent: false, ...(error ? { reason: error.code } : {}) })
      if (error) item.refusal = { error, about: described }
      return
    }
    this.statements++
    permit.signal.addEventListener('abort', this.#onAbort)
    item.runs.push(run)
    if (item.portal && item.type === bind) item.portal.run = run
  }

  #settle(run: Run, { status, ...facts }: { readonly status: 'ok' | 'failed' | 'unknown'; readonly [fact: string]: unknown }): void {
    run.permit.signal.removeEventListener('abort', this.#onAbort)
    this.#parts.guard.settle(run.permit, { status, facts })
  }

  #forgetPath(): void {
    if (this.#context.path) this.#context = { ...this.#context, path: undefined }
  }

  // Sending

  /** Sends, in order, what is ready; false when that is nothing. What would only be half a batch waits for the rest: one packet instead of two. */
  #send(): boolean {
    let end = this.#queue.findIndex((item) => item.waiting)
    if (end < 0) end = this.#queue.length
    else while (end > 0 && !WORTH_SENDING.has(this.#queue[end - 1]!.type) && !this.#queue[end - 1]!.refusal) end--
    if (end === 0) return false
    const out: Buffer[] = []
    for (const item of this.#queue.splice(0, end)) {
      this.#queuedBytes -= item.frame.length
      if (this.#dropping && item.type !== sync && item.type !== terminate) this.#drop(item)
      else if (item.refusal) this.#refuse(item, out)
      else this.#forward(item, out)
    }
    if (out.length === 1) this.#parts.toUpstream(out[0]!)
    else if (out.length > 1) this.#parts.toUpstream(Buffer.concat(out))
    this.#replies.watchTime()
    return true
  }

  #forward(item: Item, out: Buffer[]): void {
    const { type, frame } = item
    if (type === execute && item.runs.length === 0 && item.portal?.run) item.runs.push(item.portal.run)
    for (const run of item.runs) {
      if (type === bind) continue
      run.sent = true
      run.startedAt = this.#parts.clock.now()
      // From here on the path may be another one, whether or not the statement succeeds.
      if (run.described.loose) this.#forgetPath()
    }
    if (type === sync) this.#dropping = false
    if (type === terminate) this.#leaving = true
    this.#segmentOpen = !isSimple(type) && type !== sync && (this.#segmentOpen || type !== flush)
    this.#replies.sent(item)
    out.push(frame)
  }

  #drop(item: Item): void {
    for (const run of item.runs) this.#settle(run, { status: 'failed', sent: false })
    item.name?.withdraw()
    if (item.copiesIn) this.#replies.copyOver()
  }

  /**
   * The error that stands for a refused message. With nothing else under way it is written here, and the database sees
   * nothing. Otherwise a text that no server can parse goes in its place, and its error is exchanged for ours.
   */
  #refuse(item: Item, out: Buffer[]): void {
    this.#drop(item)
    const { error, about } = item.refusal!
    const bytes = refusalMessage(error, 'ERROR', about)
    const simple = isSimple(item.type)
    if (!simple) this.#dropping = true
    const { status, inFlight } = this.#replies
    if (inFlight === 0 && out.length === 0 && !this.#segmentOpen && status !== 'T') {
      this.#parts.toClient(simple ? Buffer.concat([bytes, readyForQuery(status)]) : bytes)
      return
    }
    const text = 'refused by chaperone'
    const frame = simple ? queryMessage(text) : parseMessage('refused by chaperone', text)
    this.#segmentOpen = !simple
    this.#replies.sent({
      ...item,
      type: simple ? query : parse,
      frame,
      runs: [],
      name: undefined,
      refusal: undefined,
      copiesIn: false,
      marker: bytes,
    })
    out.push(frame)
  }
}

/** Answered with its own ReadyForQuery. */
const isSimple = (type: number) => type === query || type === functionCall

const statementBody = (text: string) => ({ name: 'statement', bytes: text })

const bodiesOf = (prepared: Prepared, portal: Portal): NonNullable<Admission['bodies']> =>
  portal.parameters === '' ? [statementBody(prepared.text)] : [statementBody(prepared.text), { name: 'parameters', bytes: portal.parameters }]
