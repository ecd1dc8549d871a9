import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { cappedNotice } from '../refuse.ts'
import { FROM_CLIENT, FROM_SERVER, type Status } from '../wire/codes.ts'
import { type Passage, ServerScanner } from '../wire/scanner.ts'
import { readErrorFields, readParameterStatus, readTag } from '../wire/server.ts'
import { commandComplete } from '../wire/write.ts'
import type { Item, Names, Portal, Run } from './prepared.ts'

export interface RepliesParts {
  readonly clock: Clock
  readonly portals: Names<Portal>
  settle(run: Run, outcome: { readonly status: 'ok' | 'failed' | 'unknown'; readonly [fact: string]: unknown }): void
  cancel(): void
  emit(bytes: Buffer): void
  pathMoved(): void
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
  readonly #visitor = { see: (type: number, frame: Buffer | undefined) => this.#see(type, frame), emit: (bytes: Buffer) => this.#parts.emit(bytes) }
  readonly #waiting: Item[] = []
  /** answered, and not settled before ReadyForQuery: until then a commit may fail */
  #answered: Run[] = []
  #failed = false
  /** how many messages on their way will read copy data */
  #copies = 0
  #copying = false
  #timed: Run | undefined
  #disarm: (() => void) | undefined
  status: Status = 'I'
  /** The server said goodbye itself. */
  sawFatal = false

  constructor(parts: RepliesParts) {
    this.#parts = parts
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

  #see(type: number, frame: Buffer | undefined): Passage {
    switch (type) {
      case FROM_SERVER.dataRow:
      case FROM_SERVER.copyData: {
        const run = this.#current()
        if (!run) return 'keep'
        run.rows++
        return run.cap > 0 && run.rows > run.cap ? 'drop' : 'keep'
      }
      case FROM_SERVER.parameterDescription:
      case FROM_SERVER.notice:
      case FROM_SERVER.notification:
      case FROM_SERVER.copyOut:
      case FROM_SERVER.copyDone:
        return 'keep'
      case FROM_SERVER.rowDescription:
        if (this.#waiting[0]?.type === FROM_CLIENT.describe) this.#shift()
        return 'keep'
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
        this.#answer(this.#expect(FROM_CLIENT.execute).runs[0], 'ok')
        return 'keep'
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
    const capped = run.cap > 0 && run.rows > run.cap
    if (run.rows === 0) run.rows = Number(/ (\d+)$/.exec(tag)?.[1] ?? 0)
    this.#answer(run, 'ok')
    // What was committed stays so, whatever fails after it in the same message.
    if (tag === 'COMMIT') this.#settleAnswered()
    return capped ? Buffer.concat([cappedNotice(run.cap), commandComplete(tag.replace(/\d+$/, String(run.cap)))]) : 'keep'
  }

  #answer(run: Run | undefined, status: 'ok' | 'failed', sqlstate?: string): void {
    if (!run) return
    run.status = status
    run.sqlstate = sqlstate
    this.#answered.push(run)
  }

  #error(frame: Buffer): Passage {
    const head = this.#waiting[0]
    const fields = readErrorFields(frame)
    const sqlstate = fields.get('C') ?? ''
    this.sawFatal = fields.get('V') !== 'ERROR'
    if (!head) return 'keep'
    this.#failed = true
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
    return head.marker && !this.sawFatal ? head.marker : 'keep'
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
    if (head && head.type !== FROM_CLIENT.query && head.type !== FROM_CLIENT.sync) throw outOfStep(`ready, when ${head.type} was asked`)
    const implicit = this.status === 'I'
    // Outside a transaction block everything since the last Sync is one transaction: one failure undoes the rest.
    if (this.#failed && implicit) for (const run of this.#answered) if (run.status === 'ok') this.#undone(run)
    this.#settleAnswered()
    this.#failed = false
    this.#copying = false
    this.status = String.fromCharCode(frame[5]!) as Status
    if (this.status === 'I') {
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
    const capped = run.cap > 0 && run.rows > run.cap
    return {
      rows: capped ? run.cap : run.rows,
      ...(capped ? { capped: true } : {}),
      ...(run.sqlstate === undefined || run.sqlstate === '' ? {} : { sqlstate: run.sqlstate }),
      ms: Math.max(0, this.#parts.clock.now() - run.startedAt),
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
