import type { Clock } from '../../../clock.ts'
import type { Outcome, Run } from './prepared.ts'

/** query_canceled */
export const CANCELED = '57014'

/** It ended by a cancel of ours: one that came too late, or that the statement caught, changed nothing. */
export const wasTimedOut = ({ overtime, sqlstate }: Run): boolean => overtime && sqlstate === CANCELED

/** What is recorded of how a run ended; `transaction`: the number of the one that is open, where it was not answered. */
function factsOf(run: Run, now: number, transaction: number): Record<string, unknown> {
  return {
    rows: run.rows,
    ...(run.bytes > 0 ? { bytes: run.bytes } : {}),
    ...(run.cut || run.wordsCut ? { capped: true, cut_by: run.cut ?? 'bytes' } : {}),
    ...(wasTimedOut(run) ? { timed_out: true } : {}),
    ...(run.withdrawn ? { reason: run.withdrawn.code } : {}),
    ...run.masks?.facts,
    ...(run.sqlstate === undefined || run.sqlstate === '' ? {} : { sqlstate: run.sqlstate }),
    ms: Math.max(0, now - run.startedAt),
    ...(run.sent ? { transaction: run.transaction || transaction } : {}),
    ...(run.ended === undefined ? {} : { ended: run.ended }),
  }
}

/** What came of the statements of one connection, from their answers to the record. */
export class Outcomes {
  readonly #parts: { readonly clock: Clock; settle(run: Run, outcome: Outcome): void }
  /** answered, and not settled before ReadyForQuery: until then a commit may fail */
  #answered: Run[] = []
  /** Something has failed since the last ReadyForQuery. */
  failed = false
  /** Counts the transactions of the connection: what ran in one has one number. */
  transaction = 1

  constructor(parts: { readonly clock: Clock; settle(run: Run, outcome: Outcome): void }) {
    this.#parts = parts
  }

  get answered(): readonly Run[] {
    return this.#answered
  }

  answer(run: Run, status: 'ok' | 'failed', sqlstate: string | undefined): void {
    run.status = status
    run.sqlstate = sqlstate
    run.transaction = this.transaction
    this.#answered.push(run)
  }

  settle(run: Run, { status, ...more }: Outcome): void {
    this.#parts.settle(run, { status, ...factsOf(run, this.#parts.clock.now(), this.transaction), ...more })
  }

  settleAnswered(): void {
    for (const run of this.#answered) this.settle(run, { status: run.status ?? 'unknown' })
    this.#answered = []
  }

  /** Outside a transaction block (`implicit`) everything since the last Sync is one transaction: one failure undoes the rest. */
  ready(implicit: boolean): void {
    if (this.failed && implicit) for (const run of this.#answered) if (run.status === 'ok') this.#undone(run)
    this.settleAnswered()
    this.failed = false
  }

  /**
   * Nothing will be answered any more: not what was answered and not settled, nor what still `waits`. What has failed has failed: many
   * clients take the error for the end and are gone before ReadyForQuery. What went well may have been undone since.
   */
  abandon(waits: readonly Run[]): void {
    const runs = new Set([...this.#answered, ...waits])
    this.#answered = []
    for (const run of runs) {
      if (run.sent) this.settle(run, { status: run.status === 'failed' ? 'failed' : 'unknown' })
      else this.#parts.settle(run, { status: 'failed', sent: false })
    }
  }

  #undone(run: Run): void {
    run.status = 'failed'
    this.settle(run, { status: 'failed', rolledBack: true })
  }
}
