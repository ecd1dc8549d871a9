import { randomBytes } from 'node:crypto'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Row, Taken, ToolLimits } from './types.ts'

/** One page of a result. */
export interface Page {
  readonly taken: Taken
  readonly rows: readonly Row[]
  /** position of its first row, from 0 */
  readonly from: number
  /** for the next one; undefined on the last */
  readonly cursor: string | undefined
}

/** What is paged, and whether it may still be shown. */
interface Kept {
  readonly taken: Taken
  readonly at: number
  readonly bytes: number
  readonly until: number
  /** Throws when it may not be shown any more. */
  readonly assertShown: () => void
  readonly disarm: () => void
}

/** How much all sessions of this process keep together. */
export interface KeptBytes {
  now: number
}

/**
 * The further pages of the results of one session. They are kept here, in memory and for minutes: a cursor of the database
 * would hold its transaction open for as long as a model thinks.
 */
export class Pages {
  readonly #clock: Clock
  readonly #limits: ToolLimits
  readonly #total: KeptBytes
  readonly #kept = new Map<string, Kept>()

  constructor(clock: Clock, limits: ToolLimits, total: KeptBytes) {
    this.#clock = clock
    this.#limits = limits
    this.#total = total
  }

  /** The first page; what is left of the result is kept, as long as there is room. */
  first(taken: Taken, maxRows: number, assertShown: () => void): Page {
    return this.#page(taken, 0, maxRows, assertShown)
  }

  /** Throws `not_found`, or why it may not be shown any more. A cursor is good once. */
  next(cursor: string, maxRows: number): Page {
    const kept = this.#kept.get(cursor)
    this.#forget(cursor)
    if (!kept || kept.until <= this.#clock.now())
      throw new ChaperoneError('not_found', 'There is no such cursor, or not any more.', { fix: 'Run the query again.' })
    kept.assertShown()
    return this.#page(kept.taken, kept.at, maxRows, kept.assertShown)
  }

  clear(): void {
    for (const cursor of [...this.#kept.keys()]) this.#forget(cursor)
  }

  #page(taken: Taken, from: number, maxRows: number, assertShown: () => void): Page {
    let bytes = 0
    let end = from
    while (end < taken.rows.length && end - from < maxRows) {
      bytes += JSON.stringify(taken.rows[end]).length
      if (bytes > this.#limits.pageBytes && end > from) break
      end++
    }
    const cursor = end < taken.rows.length ? this.#keep(taken, end, assertShown) : undefined
    return { taken, rows: taken.rows.slice(from, end), from, cursor }
  }

  #keep(taken: Taken, at: number, assertShown: () => void): string | undefined {
    const { keptMs, keptResults, keptBytes } = this.#limits
    const now = this.#clock.now()
    for (const [cursor, kept] of this.#kept) if (kept.until <= now || this.#kept.size >= keptResults) this.#forget(cursor)
    const bytes = taken.rows.slice(at).reduce((sum, row) => sum + JSON.stringify(row).length, 0)
    if (this.#total.now + bytes > keptBytes) return undefined
    this.#total.now += bytes
    const cursor = randomBytes(16).toString('base64url')
    const disarm = this.#clock.at(now + keptMs, () => this.#forget(cursor))
    this.#kept.set(cursor, { taken, at, bytes, until: now + keptMs, assertShown, disarm })
    return cursor
  }

  #forget(cursor: string): void {
    const kept = this.#kept.get(cursor)
    if (!kept) return
    this.#kept.delete(cursor)
    this.#total.now -= kept.bytes
    kept.disarm()
  }
}
