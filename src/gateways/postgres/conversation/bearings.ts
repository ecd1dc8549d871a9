import { createHash } from 'node:crypto'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import { PROBE, readProbe } from '../database/probe.ts'
import type { Described, SqlContext } from '../describe.ts'
import type { Mirror } from '../mirror/types.ts'
import { isAtHand } from '../sql/parse.ts'
import type { Ceilings } from '../sql/settings.ts'
import type { Status } from '../wire/codes.ts'
import { STATEMENTS_THERE, setConfig } from './own-statements.ts'
import type { Names, Prepared } from './prepared.ts'
import type { Rows } from './question.ts'

export interface BearingsParts {
  readonly context: SqlContext
  readonly statements: Names<Prepared>
  /** Nothing that was sent is unanswered, and nothing waits to be sent. */
  isIdle(): boolean
  status(): Status
  /** Asks the server something of our own; only while idle. `done` gets the rows, or undefined when it refused. */
  ask(sql: string, done: (rows: Rows | undefined) => void): void
  /** Has a large text parsed elsewhere; then `isAtHand`. Rejects with ChaperoneError. */
  readBig(text: string): Promise<void>
  /** Reads on, after something that was waited for. */
  goOn(): void
}

/**
 * What texts are read by: where names lead, which definitions there are, what the session is held to. What may have moved is
 * asked from the server again, on the client's own connection, before the next text is read.
 */
export class Bearings {
  readonly #parts: BearingsParts
  context: SqlContext
  /** Something is being asked: nothing is read meanwhile. */
  isLooking = false
  /** The search path was moved in a way that the end of a transaction, or a savepoint, may take back. */
  mayRollBack = false
  /** Code that nobody saw has run since the server was asked which prepared statements it has. */
  #namesInDoubt = false
  /** Definitions have changed: schemas of the search path may have come or gone. */
  #schemasInDoubt = false
  /** The look failed: what comes now is judged without knowing where names lead. */
  #blind = false
  /** A large text that could not be read, and why. */
  #unreadable: { readonly text: string; readonly error: ChaperoneError } | undefined

  constructor(parts: BearingsParts) {
    this.#parts = parts
    this.context = parts.context
  }

  /** From here on names without a schema may lead anywhere, until the server is asked again. */
  forgetPath(): void {
    if (this.context.path) this.context = { ...this.context, path: undefined }
    this.mayRollBack = true
  }

  doubtNames(): void {
    this.#namesInDoubt = true
  }

  /** The newest that the database said of itself. */
  renew(mirror: Mirror | undefined, unsettled: boolean): void {
    if ((this.context.unsettled ?? false) !== unsettled) this.context = { ...this.context, unsettled }
    if (!mirror || mirror === this.context.mirror) return
    this.context = { ...this.context, mirror }
    this.#schemasInDoubt = true
  }

  /** Whether the session is held to reading, by the database too. */
  setPinned(pinned: boolean): void {
    if (this.context.pinnedReadOnly !== pinned) this.context = { ...this.context, pinnedReadOnly: pinned }
  }

  /** Code may lift `default_transaction_read_only` from the next transaction; in the middle of a text nothing can set it again. */
  assertHeld(text: readonly { readonly described: Described }[]): void {
    const end = text.findIndex(({ described }) => described.ends !== undefined)
    if (end < 0 || !this.context.pinnedReadOnly || !text.slice(end).some(({ described }) => described.opaque)) return
    throw new ChaperoneError('not_understood', 'A function may not be called behind the end of a transaction in the same text.', {
      fix: 'Send it by itself.',
    })
  }

  segmentBegins(): void {
    if (this.#schemasInDoubt && this.context.path) this.context = { ...this.context, path: undefined }
    this.#schemasInDoubt = false
  }

  segmentEnds(): void {
    this.#blind = false
  }

  /** Whether the text can be described now. A large one is parsed in another thread, and its message waits. */
  isAtHand(text: string): boolean {
    if (isAtHand(text)) return true
    const failed = this.#unreadable
    this.#unreadable = undefined
    if (failed?.text === text) throw failed.error
    this.isLooking = true
    this.#parts
      .readBig(text)
      .catch((error) => {
        this.#unreadable = { text, error: toChaperoneError(error) }
      })
      .finally(() => {
        this.isLooking = false
        this.#parts.goOn()
      })
    return false
  }

  /** Asks the server where names lead now. True: wait for it. */
  lookAgain(): boolean {
    const { isIdle, status, ask } = this.#parts
    if (this.#blind) return false
    if (!isIdle()) return true
    if (status() === 'E') return false
    const names = this.#namesInDoubt
    this.isLooking = true
    ask(names ? `${PROBE}, ${STATEMENTS_THERE}` : PROBE, (rows) => {
      this.isLooking = false
      const row = rows?.[0]
      this.#blind = row === undefined
      if (!row) return
      const { path, ceilings } = readProbe(names ? row.slice(0, -1) : row)
      this.context = { ...this.context, path }
      if (status() === 'I') this.mayRollBack = false
      if (names) this.#forgetUnlike(row.at(-1) ?? '{}')
      this.#holdTimes(ceilings)
    })
    return true
  }

  /** The same, whatever is known. */
  takeAgain(): void {
    this.#blind = false
    this.segmentBegins()
    if (this.context.path) this.context = { ...this.context, path: undefined }
    this.lookAgain()
  }

  /** Names that the server does not have under the same text any more are forgotten here too. */
  #forgetUnlike(there: string): void {
    const hashes = JSON.parse(there) as Readonly<Record<string, string>>
    const { statements } = this.#parts
    this.#namesInDoubt = false
    for (const name of [...statements.names()]) {
      const known = statements.known(name)
      if (name === '' || !known) continue
      const hash = createHash('sha256').update(known.source).digest('hex')
      if (!Object.hasOwn(hashes, name) || hashes[name] !== hash) statements.know(name, undefined)
    }
  }

  /** RESET ALL, or code that nobody saw, may have lifted the times that the document holds the session to. */
  #holdTimes(now: Ceilings): void {
    const { ceilings } = this.context
    const lifted = (ceilings.pinned ?? []).filter((name) => !now[name] || now[name] > (ceilings[name] ?? 0))
    if (lifted.length === 0) return
    this.isLooking = true
    this.#parts.ask(setConfig(lifted.map((name) => [name, String(ceilings[name])] as const)), (rows) => {
      this.isLooking = false
      if (!rows) throw new ChaperoneError('upstream_unavailable', 'The database does not take the settings that hold this session.')
    })
  }
}
