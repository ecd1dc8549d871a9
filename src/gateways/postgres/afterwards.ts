/** so much in each turn of the event loop */
const MOST_AT_ONCE = 16

/**
 * What a cut leaves to be done behind the goodbyes, a little in each turn of the event loop. A lock falls on a thousand
 * connections at once: all of it in one go would keep the other clients, and who made the lock, waiting for their answers.
 */
export class Afterwards {
  readonly #failed: (error: unknown) => void
  #work: (() => void)[] = []
  #next = 0

  constructor(failed: (error: unknown) => void) {
    this.#failed = failed
  }

  add(work: () => void): void {
    this.#work.push(work)
    if (this.#work.length === 1) setImmediate(() => this.#some())
  }

  #some(): void {
    const end = Math.min(this.#next + MOST_AT_ONCE, this.#work.length)
    while (this.#next < end) {
      try {
        this.#work[this.#next++]!()
      } catch (error) {
        this.#failed(error)
      }
    }
    if (this.#next < this.#work.length) {
      setImmediate(() => this.#some())
      return
    }
    this.#work = []
    this.#next = 0
  }
}
