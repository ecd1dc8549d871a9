import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Action } from '../../../policy/types.ts'
import { SettingsLedger } from '../asking/ledger.ts'
import { cutMessage, refusalMessage, Withdrawn } from '../refuse.ts'
import { FROM_CLIENT } from '../wire/codes.ts'
import { ClientFramer, type ClientMessage } from '../wire/framer.ts'
import { parseMessage, queryMessage, readyForQuery } from '../wire/write.ts'
import { Admission } from './admission.ts'
import { Hearing } from './hearing.ts'
import { Intake } from './intake.ts'
import { Noted } from './noted.ts'
import { Parking, type Reading } from './parking.ts'
import type { ConversationParts } from './parts.ts'
import { Portals } from './portals.ts'
import { type Item, isSimple, itemOf, type Outcome, type Run } from './prepared.ts'
import { NOTHING, Question, type Rows, statement } from './question.ts'
import { Replies } from './replies.ts'
import { Rights } from './rights.ts'
import { Sight } from './sight.ts'
import { Stopping } from './stopping.ts'
import { Withdrawal } from './withdrawal.ts'

const { bind, copyData, copyDone, copyFail, execute, flush, parse, query, sync, terminate } = FROM_CLIENT
/** With these something new begins. */
const GIVES_ORDERS = new Set<number>([query, parse, bind])
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
  readonly #intake: Intake
  readonly #sight: Sight
  #queue: Item[] = []
  #queuedBytes = 0
  /** read, and not to be looked at yet */
  #later: ClientMessage | undefined
  /** a message was refused: what follows is not sent, up to Sync */
  #dropping = false
  /** something of the extended protocol was sent since the last Sync */
  #segmentOpen = false
  /** The client has said goodbye. */
  #leaving = false
  #closed = false
  readonly #noted: Noted
  readonly #stopping: Stopping
  readonly #rights: Rights
  readonly #admission: Admission
  readonly #ledger = new SettingsLedger()
  readonly #parking: Parking
  readonly #withdrawal: Withdrawal
  /** Of the messages in line, how many belong to a statement that waits for a human: the last ones. */
  #parked = 0

  constructor(parts: ConversationParts) {
    this.#parts = parts
    this.#framer = new ClientFramer(parts.limits)
    this.#rights = new Rights({
      clock: parts.clock,
      fence: parts.fence,
      status: () => this.#replies.status,
      isIdle: () => this.#isIdle,
      ask: (sql, done) => this.#ask(sql, done),
      setPinned: (pinned) => this.#intake.setPinned(pinned),
    })
    this.#parking = new Parking({
      ...parts,
      ...parts.approvals,
      ledger: this.#ledger,
      status: () => this.#replies.status,
      isIdle: () => this.#isIdle,
      isNext: () => this.#queue.length === this.#parked && !this.#stopping.isOn,
      isSegmentOpen: () => this.#segmentOpen,
      hasFailed: () => this.#replies.failedInSegment,
      sync: () => this.#question(new Question(NOTHING, () => {}), sync),
      question: (wording, done, name) => this.#question(new Question(wording, done, name)),
      takeBearings: async () => {
        await parts.mirror?.asOfNow()
        this.#intake.takeBearings()
      },
      isFenced: () => !this.#rights.mustWait(false),
      notice: (bytes) => parts.toClient(bytes),
      over: (reason) => this.#permitOver(reason),
    })
    this.#sight = new Sight(parts.mirror, () => {
      if (!this.#closed) this.#goOn()
    })
    this.#noted = new Noted(() => this.#goOn())
    this.#stopping = new Stopping({
      cancel: () => parts.cancel(),
      isBusy: () => !this.#closed && this.#replies.busy,
      at: () => (this.#closed ? undefined : this.#replies.at),
      goOn: () => this.#goOn(),
    })
    this.#admission = new Admission({
      ...parts,
      parking: this.#parking,
      isClosed: () => this.#closed,
      settle: (run, outcome) => this.#settle(run, outcome),
      cut: (reason) => this.cut(reason),
      over: (reason) => this.#permitOver(reason),
      skipToSync: () => {
        this.#dropping = true
      },
      goOn: () => this.#goOn(),
    })
    const portals = new Portals((run) => this.#settle(run, { status: 'failed', sent: false }))
    const judge = (action: Action) => parts.guard.judge(parts.session, action)
    const messageRefused = (error: ChaperoneError) => this.#noted.note(parts.messageRefused(error))
    const hearing = new Hearing({ place: parts.place, context: parts.context, judge, messageRefused })
    this.#replies = new Replies({
      clock: parts.clock,
      portals,
      settle: (run, outcome) => this.#settle(run, outcome),
      cancel: () => this.#stopping.begin(),
      emit: (bytes) => parts.toClient(bytes),
      pathMoved: () => this.#intake.forgetPath(),
      hears: (notification) => hearing.hears(notification),
    })
    this.#withdrawal = new Withdrawal({
      clock: parts.clock,
      replies: this.#replies,
      portals,
      queue: () => this.#queue,
      mayStay: () => parts.mayStay(),
      settle: (run, outcome) => this.#settle(run, outcome),
      cancel: () => this.#stopping.begin(),
      cut: (reason) => this.cut(reason),
    })
    this.#intake = new Intake({
      place: parts.place,
      context: parts.context,
      cache: parts.cache,
      limits: parts.limits,
      replies: this.#replies,
      sight: this.#sight,
      portals,
      judge,
      add: (type, frame, more) => this.#add(type, frame, more),
      admit: (item, asked, cannot) => this.#admission.admit(item, asked, cannot),
      park: (item, read) => this.#park(item, read),
      isIdle: () => this.#isIdle,
      status: () => this.#replies.status,
      ask: (sql, done) => this.#ask(sql, done),
      readBig: (text) => parts.bigTexts.read(text, parts.session.principal.chain[0]?.identity ?? parts.session.principal.identityId),
      goOn: () => this.#goOn(),
      messageRefused,
    })
  }

  /** Before the first message of the client. */
  start(): void {
    this.#rights.start()
  }

  /** How many were admitted. */
  get statements(): number {
    return this.#admission.count
  }

  /** see {@link Replies} */
  get openTransaction(): number | undefined {
    return this.#replies.openTransaction
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
    if (this.#replies.status === 'I' && this.#replies.inFlight === 0) this.#sight.transactionOver()
    this.#goOn()
  }

  /** Ends it now, with the reason as last words: expiry, a lock, a broken stream. */
  cut(reason: unknown): void {
    if (this.#closed) return
    this.#close()
    this.#parts.goodbye(this.#replies.midMessage ? undefined : cutMessage(toChaperoneError(reason)))
    this.#parts.afterwards(() => this.#end('cut', true))
  }

  #permitOver(reason: unknown): void {
    if (this.#closed) return
    this.#withdrawal.over(reason)
    this.#goOn()
  }

  /** The client has gone. What it left running is stopped. */
  clientGone(): void {
    if (this.#closed) return
    this.#close()
    this.#end('closed', true)
  }

  upstreamGone(): void {
    if (this.#closed) return
    const silent = this.#leaving || this.#replies.midMessage || this.#replies.sawFatal
    this.#close()
    if (!silent) this.#parts.goodbye(cutMessage(new ChaperoneError('upstream_unavailable', 'The database closed the connection.')))
    this.#end(silent ? 'closed' : 'cut', false)
  }

  /** From now on nothing passes, in either direction. */
  #close(): void {
    this.#closed = true
    if (this.#parking.isOn) this.#parking.end(new ChaperoneError('session_ended', 'The connection is over.'))
  }

  #end(how: 'cut' | 'closed', cancel: boolean): void {
    if (cancel && this.#replies.busy) this.#parts.lastCancel()
    for (const item of this.#queue) for (const run of item.runs) this.#settle(run, { status: 'failed', sent: false })
    this.#replies.abandon()
    this.#queue = []
    this.#parts.over(how)
  }

  #goOn(): void {
    if (this.#closed) return
    try {
      // What is sent, or refused, may be what the next message waits for.
      do this.#read()
      while (this.#send())
    } catch (error) {
      this.cut(error)
      return
    }
    if (this.#closed) return
    const held = this.#framer.held + (this.#later?.frame.length ?? 0)
    this.#parking.goOn(held)
    // A client that is not listened to cannot be seen to go; and for one that is gone nothing may run.
    if (!this.#closed) this.#parts.holdClient(this.#parking.isOn ? this.#parking.isFull(held) : this.#later !== undefined || this.#isFull())
  }

  /** The messages behind the last one that ends something: they wait together. */
  #park(item: Item, read: () => Reading): void {
    const at = this.#queue.indexOf(item)
    const before = this.#queue.findLastIndex(({ type, refusal }, i) => i < at && (WORTH_SENDING.has(type) || refusal !== undefined))
    this.#parked = this.#queue.length - (before + 1)
    this.#admission.park(item, read)
  }

  /** A cancel on its way could hit what is asked now. */
  get #isIdle(): boolean {
    return this.#queue.length === (this.#parking.isOn ? this.#parked : 0) && this.#replies.inFlight === 0 && !this.#stopping.isOn
  }

  /** A statement of our own, when nothing of the client's is under way. */
  #ask(sql: string, done: (rows: Rows | undefined) => void): void {
    this.#question(new Question(statement(sql), ({ rows, sqlstate }) => done(sqlstate === undefined ? rows : undefined)))
  }

  #question(question: Question, type: number = FROM_CLIENT.query): void {
    // It ends with a Sync: what a client has only prepared before, and not synced, is behind it.
    this.#segmentOpen = false
    this.#replies.sent(itemOf(type, question.frame, { question }))
    this.#parts.toUpstream(question.frame)
  }

  /** The client wants what is under way stopped. */
  stop(): void {
    if (this.#parking.isOn) {
      this.#parking.cancel()
      return
    }
    this.#stopping.ask()
  }

  #isFull(): boolean {
    const { queuedMessages, queuedBytes } = this.#parts.limits
    return (
      this.#noted.isFull || this.#queue.length >= queuedMessages || this.#queuedBytes >= queuedBytes || this.#replies.inFlight >= queuedMessages * 16
    )
  }

  #read(): void {
    while (!this.#closed && !this.#isFull()) {
      const message = this.#later ?? this.#framer.next()
      if (!message) return
      this.#later = message
      if (this.#parking.isOn) {
        if (message.type === terminate) this.clientGone()
        return
      }
      if (GIVES_ORDERS.has(message.type) && this.#rights.mustWait(this.#segmentOpen)) return
      this.#later = this.#intake.take(message) ? undefined : message
      if (this.#later) return
    }
  }

  #add(type: number, frame: Buffer, more: Partial<Item> = {}): Item {
    const item = itemOf(type, frame, more)
    this.#queue.push(item)
    this.#queuedBytes += frame.length
    if (item.copiesIn) this.#replies.expectCopy()
    return item
  }

  #settle(run: Run, { status, ...facts }: Outcome): void {
    this.#parts.guard.settle(run.permit, { status, facts })
  }

  /** Sends, in order, what is ready; false when that is nothing. What would only be half a batch waits for the rest: one packet instead of two. */
  #send(): boolean {
    let end = this.#queue.findIndex((item) => item.waiting)
    if (end < 0) end = this.#queue.length
    else while (end > 0 && !WORTH_SENDING.has(this.#queue[end - 1]!.type) && !this.#queue[end - 1]!.refusal) end--
    if (end === 0 || this.#stopping.isOn) return false
    const out: Buffer[] = []
    for (const item of this.#queue.splice(0, end)) {
      this.#queuedBytes -= item.frame.length
      const over = item.type === execute && item.runs.length === 0 ? item.portal?.run?.withdrawn : undefined
      if (over) item.refusal ??= { error: new Withdrawn(over) }
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
      if (run.described.loose) {
        this.#intake.forgetPath()
        this.#rights.doubt(run.described.opaque)
      }
      if (run.described.ends) this.#rights.transactionEnds()
      this.#ledger.ran(run.described, run.parameters, this.#sight.newest())
      this.#sight.ran(run.described)
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
    const { error, about, around } = item.refusal!
    const bytes = refusalMessage(error, 'ERROR', about, around)
    const simple = isSimple(item.type)
    if (!simple) this.#dropping = true
    const { status, inFlight } = this.#replies
    if (inFlight === 0 && out.length === 0 && !this.#segmentOpen && status !== 'T') {
      item.name?.failed?.()
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
      name: item.name?.failed && { confirm() {}, withdraw() {}, failed: item.name.failed },
      refusal: undefined,
      copiesIn: false,
      marker: bytes,
    })
    out.push(frame)
  }
}
