import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Status } from '../wire/codes.ts'
import { LIFT, setConfig } from './own-statements.ts'
import type { Rows } from './question.ts'

/** What holds the session itself, below the judging of its statements. */
export interface Fence {
  /** Settings that are made before anything of the client's is sent. */
  readonly settings: Readonly<Record<string, string>>
  /** The session began read-only, because no rule could allow it to change something. */
  readonly pinned: boolean
  /** Whether a rule could allow that now. */
  mayWrite(): boolean
  /** Whether rules or grants have changed since this was last asked. */
  rightsMoved(): boolean
  /** What keeps the order of rows from telling what masks hide. It stands in the startup packet; only code that nobody saw can lift it. */
  readonly planning: Readonly<Record<string, string>>
  /** Whether that is still enough for the masks that there are now. */
  keepsOrder(): boolean
}

interface RightsParts {
  readonly clock: Clock
  readonly fence: Fence
  status(): Status
  isIdle(): boolean
  ask(sql: string, done: (rows: Rows | undefined) => void): void
  /** What immutable and stable functions count as depends on it. */
  setPinned(pinned: boolean): void
}

/** ms between two looks at whether a session may still write */
const EVERY_MS = 1_000

/**
 * Keeps the session to what its rights are: when no rule lets it write any more, the database holds it to reading too, and when
 * one does again, by a role that was granted perhaps, the database lets it. Looked at with each change of rights and once a
 * second; the check of every statement, which is the first fence, follows at once.
 */
export class Rights {
  readonly #parts: RightsParts
  #lookedAt: number
  #pinned: boolean
  #mustPin = false
  /** The session began read-only, and may write now: the database must be told. */
  #mustLift = false
  /** It was told. What leads back to the start of the session leads back to reading. */
  #lifted = false
  /** A transaction may have begun since the fence was lifted. */
  #mayBeOpen = false
  #mustPlan = false
  /** This transaction, which began when the session could still write, was made read-only. */
  #pinnedInside = false

  constructor(parts: RightsParts) {
    this.#parts = parts
    this.#lookedAt = parts.clock.now()
    this.#pinned = parts.fence.pinned
  }

  /** Before the first message of the client. */
  start(): void {
    const settings = Object.entries(this.#parts.fence.settings)
    if (settings.length > 0) this.#parts.ask(setConfig(settings), assertTaken)
  }

  /** Something ran that may have lifted what was set after the login: it is set again before anything else is read. */
  doubt(isOpaque: boolean): void {
    this.#mustPlan ||= isOpaque && Object.keys(this.#parts.fence.planning).length > 0
    this.#mustLift ||= this.#lifted
    if (!this.#pinned || (this.#parts.fence.pinned && !isOpaque)) return
    this.#pinned = false
    this.#mustPin = true
    // A transaction that began read-only stays so to its end, whatever code lifts for the next one.
    if (!this.#parts.fence.pinned) this.#parts.setPinned(false)
  }

  /** The end of a transaction was sent. What begins behind it in the same text may be without the fence. */
  transactionEnds(): void {
    if (!this.#mustPin) return
    this.#mayBeOpen = true
    this.#parts.setPinned(false)
  }

  /** Before something new of the client's begins. True: wait, a fence is being set. */
  mustWait(inSegment: boolean): boolean {
    const { clock, fence, status, isIdle, ask, setPinned } = this.#parts
    const state = status()
    if (state === 'I') this.#pinnedInside = false
    const now = clock.now()
    if (now - this.#lookedAt >= EVERY_MS || fence.rightsMoved()) {
      this.#lookedAt = now
      if (!fence.keepsOrder())
        throw new ChaperoneError('conflict', 'The rules for this database hide more than when you connected.', { fix: 'Connect again.' })
      const may = fence.mayWrite()
      setPinned((this.#pinned || (fence.pinned && !this.#mayBeOpen)) && !may)
      this.#mustPin = !this.#pinned && !may
      this.#mustLift = may && (this.#pinned || this.#mustLift)
    }
    if (this.#mustPlan && !inSegment && state !== 'E') {
      if (!isIdle()) return true
      ask(setConfig(Object.entries(fence.planning)), (rows) => {
        assertTaken(rows)
        this.#mustPlan = false
      })
      return true
    }
    // A transaction that began read-only ends so.
    if (this.#mustLift && !inSegment && state === 'I') {
      if (!isIdle()) return true
      ask(LIFT, (rows) => {
        assertTaken(rows)
        this.#pinned = false
        this.#mustLift = false
        this.#lifted = true
        this.#mayBeOpen = true
      })
      return true
    }
    if (!this.#mustPin || inSegment || state === 'E' || (state === 'T' && this.#pinnedInside)) return false
    if (!isIdle()) return true
    if (state === 'T') {
      // ROLLBACK would take back what is set for the session in here.
      this.#pinnedInside = true
      ask(setConfig([['transaction_read_only', 'on']], true), assertTaken)
      return true
    }
    ask(setConfig([['default_transaction_read_only', 'on']]), (rows) => {
      assertTaken(rows)
      this.#pinned = true
      this.#mustPin = false
      this.#mayBeOpen = false
      this.#lifted = false
      setPinned(true)
    })
    return true
  }
}

function assertTaken(rows: Rows | undefined): void {
  if (!rows) throw new ChaperoneError('upstream_unavailable', 'The database does not take the settings that hold this session.')
}
