import type { Described } from '../describe.ts'
import type { HeldMirror } from '../mirror/mirrors.ts'
import type { Mirror } from '../mirror/types.ts'

/** What one connection sees of what its database says of itself: always the newest, and when to wait for a newer one. */
export class Sight {
  readonly #mirror: HeldMirror | undefined
  readonly #goOn: () => void
  /** Statements through this connection changed a definition, which nobody else sees before the transaction ends. */
  #changed = false
  #soughtFor: unknown
  #settledFor: unknown
  #recentFor: unknown
  isWaiting = false

  /** `goOn`: the message that waited may be taken again. */
  constructor(mirror: HeldMirror | undefined, goOn: () => void) {
    this.#mirror = mirror
    this.#goOn = goOn
  }

  /** Definitions were changed in the transaction that is open: the mirror does not show it yet. */
  get isUnsettled(): boolean {
    return this.#changed
  }

  /** False: definitions were just changed; `goOn` is called. What changes after the message came it does not wait for. */
  isReady(message: unknown): boolean {
    if (!this.#mirror || this.#mirror.isSettled || this.#settledFor === message) return true
    this.#settledFor = message
    this.#waitFor(this.#mirror.settled())
    return false
  }

  /** Throws ChaperoneError when the database has not shown itself for too long. */
  current(): Mirror | undefined {
    return this.#mirror?.current()
  }

  /** The same, where it is only looked into. */
  newest(): Mirror | undefined {
    try {
      return this.#mirror?.current()
    } catch {
      return undefined
    }
  }

  /** Whether everything that these statements name is known, or a look for it has just been made. False: `goOn` is called. */
  knows(statements: readonly Described[], message: unknown): boolean {
    if (!this.#mirror || this.#soughtFor === message || !statements.some((one) => one.unknown)) return true
    this.#soughtFor = message
    // When the look fails, the old mirror goes on, and the name stays unknown.
    this.#waitFor(this.#mirror.fresher().catch(() => {}))
    return false
  }

  /**
   * Whether what these statements go through was looked at a moment ago. A view or function is replaced by whoever owns it, perhaps on no
   * connection of ours, and nothing tells of that: a table keeps its name, and what is behind it may be anything. False: `goOn` is called.
   */
  isRecent(statements: readonly (Described | undefined)[], message: unknown): boolean {
    if (this.#recentFor === message || !statements.some((one) => one?.through)) return true
    const looking = this.#mirror?.recent()
    if (!looking) return true
    this.#recentFor = message
    this.#waitFor(looking)
    return false
  }

  /** What the server was told to do, and where its transaction stands afterwards. */
  ran({ effects }: Described): void {
    this.#changed ||= effects.includes('admin')
  }

  transactionOver(): void {
    if (!this.#changed) return
    this.#changed = false
    this.#mirror?.stale()
  }

  #waitFor(work: Promise<unknown>): void {
    this.isWaiting = true
    void work.then(() => {
      this.isWaiting = false
      this.#goOn()
    })
  }
}
