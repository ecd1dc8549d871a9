/** under way at once */
const MOST_CANCELS = 8

export interface LastCancel {
  /** The server has closed the connection by itself: nothing of it runs any more. */
  readonly isOver: () => boolean
  /** Never rejects. */
  readonly cancel: () => Promise<void>
}

/**
 * The cancels behind connections that were cut, a few at a time. Each is a TLS handshake, and a process for the server: three
 * hundred at the same moment keep both busy for a second, and most statements are over before that. Whose turn comes when
 * the server has closed needs none.
 */
export class LastCancels {
  readonly #waiting: LastCancel[] = []
  #underWay = 0

  add(one: LastCancel): void {
    this.#waiting.push(one)
    this.#next()
  }

  #next(): void {
    while (this.#underWay < MOST_CANCELS) {
      const one = this.#waiting.shift()
      if (!one) return
      if (one.isOver()) continue
      this.#underWay++
      void one.cancel().finally(() => {
        this.#underWay--
        this.#next()
      })
    }
  }
}
