import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { timeoutMessage, withdrawnMessage } from '../refuse.ts'
import { FROM_CLIENT, FROM_SERVER, type Status } from '../wire/codes.ts'
import { type Passage, ServerScanner } from '../wire/scanner.ts'
import { readErrorFields, readParameterStatus, readTag } from '../wire/server.ts'
import { type CopyFormat, copyHead, cutEnd, isCopyEnd, mayStop, passes, stoppedEnd, wordsWithin } from './caps.ts'
import { Masking } from './masking.ts'
import { CANCELED, Outcomes, wasTimedOut } from './outcome.ts'
import type { Portals } from './portals.ts'
import type { Item, Outcome, Portal, Run } from './prepared.ts'
import { busyIn, Stopwatch } from './stopwatch.ts'

interface RepliesParts {
  readonly clock: Clock
  readonly portals: Portals
  settle(run: Run, outcome: Outcome): void
  /** Stop what the server is at. */
  cancel(): void
  emit(bytes: Buffer): void
  pathMoved(): void
  /** Whether a NotificationResponse goes on to the client. */
  hears(notification: Buffer): boolean
}

/** What a server may say at any time, whoever it is talking to. */
const ALONGSIDE = new Set<number>([FROM_SERVER.parameterStatus, FROM_SERVER.notification, FROM_SERVER.readyForQuery])

/** A result without its last rows must not look whole; and the server has not failed, so no error fits here. */
function assertWhole(run: Run | undefined): void {
  if (run?.withheld) throw run.withdrawn
}

const outOfStep = (what: string) => new ChaperoneError('upstream_unavailable', 'The database answers out of step.', { detail: what })

/**
 * What the server says, against what it was asked: which message each answer belongs to, how many rows a statement gave,
 * and whether the settings that the parser relies on still hold. An answer that fits no question ends the connection: from
 * there on statements and outcomes would be confused.
 */
export class Replies {
  readonly #parts: RepliesParts
  readonly #scanner = new ServerScanner()
  readonly #visitor = {
    see: (type: number, frame: Buffer | undefined, size: number) => this.#see(type, frame, size),
    emit: (bytes: Buffer) => this.#parts.emit(bytes),
  }
  readonly #waiting: Item[] = []
  readonly #outcomes: Outcomes
  /** An error of the extended protocol came, and no Sync was sent behind it yet: what is sent meanwhile the server throws away. */
  #skipping = false
  /** how many messages on their way will read copy data */
  #copies = 0
  #copying = false
  /** of the COPY TO STDOUT that the server is at */
  #copyOut: CopyFormat
  readonly #masking = new Masking((run, reason) => this.#outcomes.settle(run, { status: 'failed', reason }))
  readonly #stopwatch: Stopwatch
  status: Status = 'I'
  /** The server said goodbye itself. */
  sawFatal = false
  /** Something of the client's in the segment that is open has failed: up to its Sync the server would skip the rest. */
  failedInSegment = false

  constructor(parts: RepliesParts) {
    this.#parts = parts
    this.#stopwatch = new Stopwatch(parts)
    this.#outcomes = new Outcomes(parts)
  }

  /** The number of the transaction that is open now. When the connection ends, the server rolls it back. */
  get openTransaction(): number | undefined {
    return this.status === 'I' ? undefined : this.#outcomes.transaction
  }

  get inFlight(): number {
    return this.#waiting.length
  }

  get midMessage(): boolean {
    return this.#scanner.midMessage
  }

  get busy(): boolean {
    return this.#waiting.some((item) => item.runs.length > 0)
  }

  /** What the server is at; undefined: nothing that runs. */
  get at(): Item | undefined {
    return busyIn(this.#waiting)
  }

  /** Of what was sent. */
  get unanswered(): readonly Run[] {
    return this.#waiting.flatMap(({ runs }) => runs.filter(({ status }) => status === undefined))
  }

  /** The server is at one of these. */
  isAt(runs: readonly Run[]): boolean {
    return busyIn(this.#waiting)?.runs.some((run) => runs.includes(run)) ?? false
  }

  /** A COPY FROM STDIN was asked for, and is not over. */
  get awaitsCopy(): boolean {
    return this.#copies > 0
  }

  /** The server reads copy data now. */
  get copying(): boolean {
    return this.#copying
  }

  expectCopy(): void {
    this.#copies++
  }

  copyOver(): void {
    this.#copies--
  }

  /** A message is on its way to the server. */
  sent(item: Item): void {
    switch (item.type) {
      case FROM_CLIENT.flush:
      case FROM_CLIENT.terminate:
      case FROM_CLIENT.copyData:
        return
      case FROM_CLIENT.copyDone:
      case FROM_CLIENT.copyFail:
        this.#copying = false
        return
      case FROM_CLIENT.sync:
        this.#skipping = false
        if (!item.question) this.failedInSegment = false
        // While it reads copy data the server ignores a Sync: libpq sends one with the COPY itself, and another at its end.
        if (!this.#copying) this.#waiting.push(item)
        return
      default:
        if (this.#skipping) this.#skip(item)
        else this.#waiting.push(item)
    }
  }

  push(chunk: Buffer): void {
    this.#scanner.push(chunk, this.#visitor)
    this.watchTime()
  }

  /** Starts the clock of the statement that the server is at, when its rule gives it a time. */
  watchTime(): void {
    this.#stopwatch.watch(this.#waiting)
  }

  /** Nothing will be answered any more. What was sent and not answered may or may not have happened. */
  abandon(): void {
    this.#stopwatch.stop()
    this.#outcomes.abandon(this.#waiting.flatMap((item) => item.runs))
    this.#parts.portals.clear()
    this.#waiting.length = 0
  }

  /** A Bind too can run what is in its statement: the server plans there. */
  get #speaking(): Run | undefined {
    const head = this.#waiting[0]
    return head?.runs[head.at]
  }

  #current(): Run | undefined {
    const head = this.#waiting[0]
    return head && head.type !== FROM_CLIENT.bind ? head.runs[head.at] : undefined
  }

  #see(type: number, frame: Buffer | undefined, size: number): Passage {
    const question = this.#waiting[0]?.question
    if (question && !ALONGSIDE.has(type)) return question.see(type, frame)
    switch (type) {
      case FROM_SERVER.dataRow:
        return this.#masking.row(frame, this.#waiting[0], this.#current(), () => this.#row(size))
      case FROM_SERVER.copyData:
        return this.#row(size)
      case FROM_SERVER.notice:
        return this.#words(frame!, this.#speaking, this.#waiting[0]?.portal)
      case FROM_SERVER.notification:
        return this.#parts.hears(frame!) ? 'keep' : 'drop'
      case FROM_SERVER.parameterDescription:
      case FROM_SERVER.copyDone:
        return 'keep'
      case FROM_SERVER.copyOut:
        this.#copyOut = frame![5] === 1 ? 'binary' : 'text'
        return 'keep'
      case FROM_SERVER.rowDescription:
        return this.#description(frame)
      case FROM_SERVER.noData:
        this.#expect(FROM_CLIENT.describe)
        return 'keep'
      case FROM_SERVER.parseComplete:
        this.#expect(FROM_CLIENT.parse).name?.confirm()
        return 'keep'
      case FROM_SERVER.bindComplete:
        this.#expect(FROM_CLIENT.bind).name?.confirm()
        return 'keep'
      case FROM_SERVER.closeComplete:
        this.#expect(FROM_CLIENT.close).name?.confirm()
        return 'keep'
      case FROM_SERVER.commandComplete:
        return this.#complete(frame!)
      case FROM_SERVER.emptyQuery:
        if (this.#waiting[0]?.type === FROM_CLIENT.execute) this.#shift()
        return 'keep'
      case FROM_SERVER.portalSuspended:
        return this.#suspended(this.#expect(FROM_CLIENT.execute))
      case FROM_SERVER.error:
        return this.#error(frame!)
      case FROM_SERVER.readyForQuery:
        return this.#ready(frame!)
      case FROM_SERVER.parameterStatus:
        return this.#setting(frame!)
      case FROM_SERVER.copyIn:
        return this.#copyIn()
      default:
        throw outOfStep(`message type ${type}`)
    }
  }

  #description(frame: Buffer | undefined): Passage {
    const head = this.#waiting[0]
    const isDescribe = head?.type === FROM_CLIENT.describe
    const passage = this.#masking.description(frame, head, isDescribe ? head.portal?.run : this.#current())
    if (passage !== 'whole' && isDescribe) this.#shift()
    return passage
  }

  /** `run`: the one that says it. What is said at the end of a transaction is said of the last that was answered. */
  #words(frame: Buffer, run: Run | undefined, portal?: Portal | undefined): Passage {
    const passage = this.#masking.words(frame, [...(this.#waiting[0]?.runs ?? []), ...this.#outcomes.answered])
    if (passage === 'drop') return 'drop'
    const shown = Buffer.isBuffer(passage) ? passage : frame
    const within = wordsWithin(run ?? this.#outcomes.answered.at(-1), portal, shown)
    return within === 'keep' ? passage : within
  }

  #row(size: number): Passage {
    const run = this.#current()
    const portal = this.#waiting[0]?.portal
    if (run?.withdrawn) {
      run.withheld = true
      return 'drop'
    }
    const before = run?.cut
    if (!run || isCopyEnd(this.#copyOut, size) || passes(run, portal, size)) return 'keep'
    if (before) return 'drop'
    if (this.status === 'I' && this.#outcomes.answered.length === 0 && mayStop(run, this.#waiting)) {
      run.stopped = true
      this.#parts.cancel()
    }
    return this.#copyOut === 'binary' && run.rows === 0 ? copyHead() : 'drop'
  }

  #suspended({ runs: [run], portal }: Item): Passage {
    this.#answer(run, 'ok')
    assertWhole(run)
    // Whoever goes on with it would get nothing more.
    return run?.cut ? cutEnd(run, portal, `SELECT ${run.rows}`) : 'keep'
  }

  #shift(): Item | undefined {
    const item = this.#waiting.shift()
    if (item?.copiesIn) this.copyOver()
    return item
  }

  #expect(type: number): Item {
    const item = this.#shift()
    if (item?.type !== type || item.marker) throw outOfStep(`an answer to ${type}, when ${item?.type} was asked`)
    return item
  }

  #complete(frame: Buffer): Passage {
    const head = this.#waiting[0]
    if (head?.type !== FROM_CLIENT.query && head?.type !== FROM_CLIENT.execute) throw outOfStep('a completion of nothing')
    const run = head.runs[head.at]
    if (head.type === FROM_CLIENT.execute) this.#shift()
    else {
      head.at++
      this.#parts.portals.queryRan()
    }
    if (!run) return 'keep'
    const tag = readTag(frame)
    if (!run.cut && (run.rows === 0 || this.#copyOut)) run.rows = Number(/ (\d+)$/.exec(tag)?.[1] ?? 0)
    this.#copyOut = undefined
    run.done?.()
    this.#answer(run, 'ok')
    assertWhole(run)
    // A COMMIT of a transaction that failed says ROLLBACK, and so does a ROLLBACK TO, which ends nothing.
    if (run.described.ends) run.ended = tag === 'COMMIT' ? 'committed' : 'rolled back'
    // What was committed stays so, whatever fails after it in the same message.
    if (tag === 'COMMIT') this.#outcomes.settleAnswered()
    if (run.ended) this.#outcomes.transaction++
    return run.cut ? cutEnd(run, head.portal, tag) : 'keep'
  }

  #answer(run: Run | undefined, status: 'ok' | 'failed', sqlstate?: string): void {
    if (!run) return
    this.#masking.note(run)
    this.#outcomes.answer(run, status, sqlstate)
  }

  #error(frame: Buffer): Passage {
    const head = this.#waiting[0]
    const fields = readErrorFields(frame)
    const sqlstate = fields.get('C') ?? ''
    this.sawFatal = fields.get('V') !== 'ERROR'
    if (!head) return 'keep'
    const current = this.#current()
    const speaking = this.#speaking
    head.name?.failed?.()
    if (current?.stopped && sqlstate === CANCELED && !this.sawFatal) return this.#stopped(head, current)
    this.#outcomes.failed = true
    this.#copyOut = undefined
    this.#copying = false
    if (head.type === FROM_CLIENT.query) {
      this.#answer(head.runs[head.at], 'failed', sqlstate)
      // What stands behind it in the same text never ran.
      for (const run of head.runs.slice(head.at + 1)) this.#answer(run, 'failed')
      head.at = head.runs.length
      this.#parts.portals.queryFailed(sqlstate, this.status === 'E')
    } else if (head.type !== FROM_CLIENT.sync) {
      this.failedInSegment = true
      this.#answer(head.runs[0], 'failed', sqlstate)
      this.#skipToSync()
    }
    if (this.sawFatal) return this.#words(frame, speaking, head.portal)
    const withdrawn = head.runs.find((run) => run.withdrawn)?.withdrawn
    if (withdrawn && sqlstate === CANCELED) return withdrawnMessage(withdrawn)
    if (speaking && wasTimedOut(speaking)) return timeoutMessage(speaking.timeoutMs)
    return head.marker ?? this.#words(frame, speaking, head.portal)
  }

  /** It stopped at the cap, as it was asked to: for the client that is the end of a result that was cut. */
  #stopped(head: Item, run: Run): Passage {
    const end = stoppedEnd(run, head.portal, this.#copyOut)
    this.#copyOut = undefined
    this.#answer(run, 'ok')
    if (head.type === FROM_CLIENT.query) {
      head.at++
      this.#parts.portals.queryFailed(CANCELED, false)
    } else this.#shift()
    return end
  }

  /** After an error in the extended protocol the server reads on to the Sync and answers nothing, not even a Query. */
  #skipToSync(): void {
    const sync = this.#waiting.findIndex((item) => item.type === FROM_CLIENT.sync)
    const skipped = this.#waiting.splice(0, sync < 0 ? this.#waiting.length : sync)
    this.#skipping = sync < 0
    for (const item of skipped) this.#skip(item)
  }

  #skip(item: Item): void {
    if (item.copiesIn) this.copyOver()
    item.name?.withdraw()
    for (const run of item.runs) if (run.status === undefined) this.#answer(run, 'failed')
  }

  #ready(frame: Buffer): Passage {
    const head = this.#shift()
    if (head?.question) {
      this.status = String.fromCharCode(frame[5]!) as Status
      head.question.over()
      return 'drop'
    }
    if (head && head.type !== FROM_CLIENT.query && head.type !== FROM_CLIENT.sync) throw outOfStep(`ready, when ${head.type} was asked`)
    if (head?.type === FROM_CLIENT.query) head.name?.confirm()
    this.#outcomes.ready(this.status === 'I')
    this.#skipping = false
    this.#copying = false
    this.status = String.fromCharCode(frame[5]!) as Status
    if (this.status === 'I') {
      this.#outcomes.transaction++
      this.#masking.transactionOver()
      this.#parts.portals.clear()
    }
    return 'keep'
  }

  #setting(frame: Buffer): Passage {
    const { name, value } = readParameterStatus(frame)
    if ((name === 'standard_conforming_strings' && value !== 'on') || (name === 'client_encoding' && value !== 'UTF8')) {
      throw new ChaperoneError('not_understood', `${name} was changed: statements would be read differently here and in the database.`)
    }
    if (name === 'search_path') this.#parts.pathMoved()
    return 'keep'
  }

  /** COPY FROM STDIN has begun. The Syncs that were sent along with it were read as copy data, and ignored. */
  #copyIn(): Passage {
    const head = this.#waiting[0]
    if (this.#copies === 0 || !head) throw outOfStep('it wants copy data, and nobody asked it to')
    this.#copying = true
    if (head.type === FROM_CLIENT.execute) {
      while (this.#waiting[1]?.type === FROM_CLIENT.sync) this.#waiting.splice(1, 1)
    }
    return 'keep'
  }
}
