import type { Clock } from '../../../clock.ts'
import type { Item, Run } from './prepared.ts'

/** Stops the statement that the server is at, once it has run for longer than its rule gives it. */
export class Stopwatch {
  readonly #parts: { readonly clock: Clock; cancel(): void }
  #timed: Run | undefined
  #withdrawn: Item | undefined
  #disarm: (() => void) | undefined

  constructor(parts: { readonly clock: Clock; cancel(): void }) {
    this.#parts = parts
  }

  /** `waiting`: what was sent and is not answered, in order. */
  watch(waiting: readonly Item[]): void {
    // The server keeps ParseComplete and its like to itself until the Sync, so the first in line that runs is the one that it is
    // at; and at a Bind it plans, which can take longer than to run it.
    const busy = busyIn(waiting)
    const run = busy?.runs[busy.at]
    // A text of several statements is one message, and stops as one.
    if (busy && busy !== this.#withdrawn && busy.runs.some(({ withdrawn, status }) => withdrawn && status === undefined)) {
      this.#withdrawn = busy
      this.#parts.cancel()
    }
    if (run === this.#timed) return
    this.stop()
    this.#timed = run
    if (!run || run.timeoutMs === 0) return
    const { clock, cancel } = this.#parts
    this.#disarm = clock.at(clock.now() + run.timeoutMs, () => {
      run.overtime = true
      cancel()
    })
  }

  stop(): void {
    this.#disarm?.()
    this.#disarm = undefined
  }
}

/** The message that the server is at. */
export const busyIn = (waiting: readonly Item[]): Item | undefined => waiting.find(({ runs, at }) => runs[at] !== undefined)
