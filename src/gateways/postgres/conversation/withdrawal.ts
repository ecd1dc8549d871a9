import type { Clock } from '../../../clock.ts'
import { toChaperoneError } from '../../../errors.ts'
import { Withdrawn } from '../refuse.ts'
import type { Item, Names, Outcome, Portal, Run } from './prepared.ts'
import type { Replies } from './replies.ts'

/** ms after which a cancel that the server did not feel is sent again: it throws away one that comes before its statement has begun */
const AGAIN_MS = 500
/** ms after which a statement that does not stop ends its connection */
const PATIENCE_MS = 5_000

interface WithdrawalParts {
  readonly clock: Clock
  readonly replies: Replies
  readonly portals: Names<Portal>
  /** read, and not sent */
  queue(): readonly Item[]
  /** The connection has a right of its own, and that one stands. */
  mayStay(): boolean
  settle(run: Run, outcome: Outcome): void
  cancel(): void
  cut(reason: unknown): void
}

/**
 * The right to a statement may end before the statement does, when a role was granted until this minute. Then that statement is
 * stopped, and the connection goes on with what the others allow; without a right of its own it ends, as it does with a lock.
 */
export class Withdrawal {
  readonly #parts: WithdrawalParts

  constructor(parts: WithdrawalParts) {
    this.#parts = parts
  }

  /** A permit of this connection was cut. */
  over(reason: unknown): void {
    const { clock, mayStay, cut, replies } = this.#parts
    const error = toChaperoneError(reason)
    const runs = error.code === 'no_rule' ? this.#ended() : []
    // While it reads copy data the server feels no cancel.
    if (runs.length === 0 || runs.some(({ described }) => described.copiesIn) || !mayStay()) {
      cut(reason)
      return
    }
    for (const run of runs) run.withdrawn = error
    for (const item of this.#parts.queue()) {
      const about = item.runs.find(({ withdrawn }) => withdrawn)
      if (about) item.refusal ??= { error: new Withdrawn(error), about: about.described }
    }
    const sent = new Set(replies.unanswered)
    for (const run of runs) if (!sent.has(run)) this.#parts.settle(run, { status: 'failed', sent: false, reason: error.code })
    replies.watchTime()
    const runsOn = () => replies.unanswered.some((run) => runs.includes(run))
    const now = clock.now()
    clock.at(now + AGAIN_MS, () => runsOn() && replies.isAt(runs) && this.#parts.cancel())
    clock.at(now + PATIENCE_MS, () => runsOn() && cut(reason))
  }

  #ended(): Run[] {
    const { queue, replies, portals } = this.#parts
    const bound = [...portals.values()].flatMap(({ run }) => (run ? [run] : []))
    const all = new Set([...queue().flatMap(({ runs }) => runs), ...replies.unanswered, ...bound])
    return [...all].filter((run) => run.status === undefined && !run.withdrawn && run.permit.signal.aborted)
  }
}
