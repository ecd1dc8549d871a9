import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { FROM_CLIENT, FROM_SERVER, type Status } from '../wire/codes.ts'
import { type Passage, ServerScanner } from '../wire/scanner.ts'
import { readErrorFields, readParameterStatus, readTag } from '../wire/server.ts'
import { type CopyFormat, copyHead, cutEnd, isCopyEnd, passes, stoppedEnd } from './caps.ts'
import { Masking } from './masking.ts'
import type { Item, Names, Portal, Run } from './prepared.ts'

export interface RepliesParts {
  readonly clock: Clock
  readonly portals: Names<Portal>
  settle(run: Run, outcome: { readonly status: 'ok' | 'failed' | 'unknown'; readonly [fact: string]: unknown }): void
  /** Stop what the server is at. */
  cancel(): void
  emit(bytes: Buffer): void
  pathMoved(): void
}

/** What a server may say at any time, whoever it is talking to. */
const ALONGSIDE = new Set<number>([FROM_SERVER.parameterStatus, FROM_SERVER.notification, FROM_SERVER.readyForQuery])
/** query_canceled */
const CANCELED = '57014'

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
  /** answered, and not settled before ReadyForQuery: until then a commit may fail */
  #answered: Run[] = []
  #failed = false
  /** how many messages on their way will read copy data */
  #copies = 0
  #copying = false
  /** of the COPY TO STDOUT that the server is at */
  #copyOut: CopyFormat
  readonly #masking = new Masking((run, reason) => this.#parts.settle(run, { status: 'failed', ...this.#factsOf(run), reason }))
  #timed: Run | undefined
  #disarm: (() => void) | undefined
  /** Counts the transactions of the connection: what ran in one has one number. */
  #transaction = 1
  status: Status = 'I'
  /** The server said goodbye itself. */
  sawFatal = false

  constructor(parts: RepliesParts) {
    this.#parts = parts
  }

  /** The number of the transaction that is open now. When the connection ends, the server rolls it back. */
  get openTransaction(): number | undefined {
    return this.status === 'I' ? undefined : this.#transaction
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
        // While it reads copy data the server ignores a Sync: libpq sends one with the COPY itself, and another at its end.
        if (!this.#copying) this.#waiting.push(item)
        return
      default:
        this.#waiting.push(item)
    }
  }

  push(chunk: Buffer): void {
    this.#scanner.push(chunk, this.#visitor)
    this.watchTime()
  }

  /** Starts the clock of the statement that the server is at, when its rule gives it a time. */
  watchTime(): void {
    const run = this.#current()
    if (run === this.#timed) return
    this.#disarm?.()
    this.#disarm = undefined
    this.#timed = run
    if (run && run.timeoutMs > 0) this.#disarm = this.#parts.clock.at(this.#parts.clock.now() + run.timeoutMs, () => this.#parts.cancel())
  }

  /** Nothing will be answered any more. What was sent and not answered may or may not have happened. */
  abandon(): void {
    this.#disarm?.()
    const runs = new Set([...this.#answered, ...this.#waiting.flatMap((item) => item.runs)])
    for (const run of runs) this.#parts.settle(run, run.sent ? { status: 'unknown', ...this.#factsOf(run) } : { status: 'failed', sent: false })
    for (const portal of this.#parts.portals.values()) this.neverRan(portal)
    this.#waiting.length = 0
    this.#answered = []
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
        return this.#words(frame!)
      case FROM_SERVER.parameterDescription:
      case FROM_SERVER.notification:
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

  #words(frame: Buffer): Passage {
    return this.#masking.words(frame, [...(this.#waiting[0]?.runs ?? []), ...this.#answered])
  }

  #row(size: number): Passage {
    const run = this.#current()
    const portal = this.#waiting[0]?.portal
    const before = run?.cut
    if (!run || isCopyEnd(this.#copyOut, size) || passes(run, portal, size)) return 'keep'
    if (before) return 'drop'
    if (this.#mayStop(run)) {
      run.stopped = true
      this.#parts.cancel()
    }
    return this.#copyOut === 'binary' && run.rows === 0 ? copyHead() : 'drop'
  }

  /**
   * The rest of a result that is over its cap would be made for nobody. The server is asked to stop only where its error is
   * seen by nobody: a plain read outside a transaction block, alone in its message or segment, with nothing sent behind it.
   * Elsewhere the error would abort a transaction that the client believes in, so the rest is read and thrown away.
   */
  #mayStop({ described: { kind, kinds, effects, opaque } }: Run): boolean {
    const [head, next] = this.#waiting
    const alone = head?.type === FROM_CLIENT.query ? head.runs.length === 1 && !next : next?.type === FROM_CLIENT.sync && this.#waiting.length === 2
    const reads = effects.length === 1 && effects[0] === 'read' && !opaque
    return (
      alone && reads && this.status === 'I' && this.#answered.length === 0 && (kinds.length === 1 || kind === 'copy') && /^(select|copy)$/.test(kind)
    )
  }

  #suspended({ runs: [run], portal }: Item): Passage {
    this.#answer(run, 'ok')
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
    else head.at++
    if (!run) return 'keep'
    const tag = readTag(frame)
    if (!run.cut && (run.rows === 0 || this.#copyOut)) run.rows = Number(/ (\d+)$/.exec(tag)?.[1] ?? 0)
    this.#copyOut = undefined
    run.done?.()
    this.#answer(run, 'ok')
    // A COMMIT of a transaction that failed says ROLLBACK, and so does a ROLLBACK TO, which ends nothing.
    if (run.described.ends) run.ended = tag === 'COMMIT' ? 'committed' : 'rolled back'
    // What was committed stays so, whatever fails after it in the same message.
    if (tag === 'COMMIT') this.#settleAnswered()
    if (run.ended) this.#transaction++
    return run.cut ? cutEnd(run, head.portal, tag) : 'keep'
  }

  #answer(run: Run | undefined, status: 'ok' | 'failed', sqlstate?: string): void {
    if (!run) return
    run.status = status
    run.sqlstate = sqlstate
    run.transaction = this.#transaction
    this.#masking.note(run)
    this.#answered.push(run)
  }

  #error(frame: Buffer): Passage {
    const head = this.#waiting[0]
    const fields = readErrorFields(frame)
    const sqlstate = fields.get('C') ?? ''
    this.sawFatal = fields.get('V') !== 'ERROR'
    if (!head) return 'keep'
    const current = this.#current()
    if (current?.stopped && sqlstate === CANCELED && !this.sawFatal) return this.#stopped(head, current)
    this.#failed = true
    this.#copyOut = undefined
    this.#copying = false
    if (head.type === FROM_CLIENT.query) {
      this.#answer(head.runs[head.at], 'failed', sqlstate)
      // What stands behind it in the same text never ran.
      for (const run of head.runs.slice(head.at + 1)) this.#answer(run, 'failed')
      head.at = head.runs.length
    } else if (head.type !== FROM_CLIENT.sync) {
      this.#answer(head.runs[0], 'failed', sqlstate)
      this.#skipToSync()
    }
    return head.marker && !this.sawFatal ? head.marker : this.#words(frame)
  }

  /** It stopped at the cap, as it was asked to: for the client that is the end of a result that was cut. */
  #stopped(head: Item, run: Run): Passage {
    const end = stoppedEnd(run, head.portal, this.#copyOut)
    this.#copyOut = undefined
    this.#answer(run, 'ok')
    if (head.type === FROM_CLIENT.query) head.at++
    else this.#shift()
    return end
  }

  /** After an error in the extended protocol the server reads on to the Sync and answers nothing, not even a Query. */
  #skipToSync(): void {
    const sync = this.#waiting.findIndex((item) => item.type === FROM_CLIENT.sync)
    const skipped = this.#waiting.splice(0, sync < 0 ? this.#waiting.length : sync)
    for (const item of skipped) {
      if (item.copiesIn) this.copyOver()
      item.name?.withdraw()
      for (const run of item.runs) if (run.status === undefined) this.#answer(run, 'failed')
    }
  }

  #ready(frame: Buffer): Passage {
    const head = this.#shift()
    if (head?.question) {
      this.status = String.fromCharCode(frame[5]!) as Status
      head.question.over()
      return 'drop'
    }
    if (head && head.type !== FROM_CLIENT.query && head.type !== FROM_CLIENT.sync) throw outOfStep(`ready, when ${head.type} was asked`)
    const implicit = this.status === 'I'
    // Outside a transaction block everything since the last Sync is one transaction: one failure undoes the rest.
    if (this.#failed && implicit) for (const run of this.#answered) if (run.status === 'ok') this.#undone(run)
    this.#settleAnswered()
    this.#failed = false
    this.#copying = false
    this.status = String.fromCharCode(frame[5]!) as Status
    if (this.status === 'I') {
      this.#transaction++
      this.#masking.transactionOver()
      for (const portal of this.#parts.portals.values()) this.neverRan(portal)
      this.#parts.portals.clear()
    }
    return 'keep'
  }

  #undone(run: Run): void {
    run.status = 'failed'
    this.#parts.settle(run, { status: 'failed', rolledBack: true, ...this.#factsOf(run) })
  }

  #settleAnswered(): void {
    for (const run of this.#answered) this.#parts.settle(run, { status: run.status ?? 'unknown', ...this.#factsOf(run) })
    this.#answered = []
  }

  /** A portal was bound, and so admitted, and goes without having been executed. */
  neverRan(portal: Portal | undefined): void {
    const run = portal?.run
    if (run && !run.sent) this.#parts.settle(run, { status: 'failed', sent: false })
  }

  #factsOf(run: Run): Record<string, unknown> {
    return {
      rows: run.rows,
      ...(run.bytes > 0 ? { bytes: run.bytes } : {}),
      ...(run.cut ? { capped: true, cut_by: run.cut } : {}),
      ...run.masks?.facts,
      ...(run.sqlstate === undefined || run.sqlstate === '' ? {} : { sqlstate: run.sqlstate }),
      ms: Math.max(0, this.#parts.clock.now() - run.startedAt),
      ...(run.sent ? { transaction: run.transaction || this.#transaction } : {}),
      ...(run.ended === undefined ? {} : { ended: run.ended }),
    }
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
