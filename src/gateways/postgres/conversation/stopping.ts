interface StoppingParts {
  /** Resolves when it can hit nothing that is sent later; never rejects. */
  cancel(): Promise<void>
  /** The server is at something of the client's. */
  isBusy(): boolean
  /** What of the client's the server is at. */
  at(): unknown
  goOn(): void
}

/**
 * Cancels on their way to the server. Until each is over nothing more is sent: it would be stopped instead. A client has one at a time,
 * however many come in, none while nothing of its own runs, and so none hits a question of ours. One that comes meanwhile is for what ran
 * then, and not for what stands behind it in the same pipeline.
 */
export class Stopping {
  readonly #parts: StoppingParts
  #onTheirWay = 0
  #askedAgain: unknown

  constructor(parts: StoppingParts) {
    this.#parts = parts
  }

  get isOn(): boolean {
    return this.#onTheirWay > 0
  }

  /** The client wants it. */
  ask(): void {
    if (this.isOn) this.#askedAgain = this.#parts.at()
    else if (this.#parts.isBusy()) this.begin()
  }

  /** Whoever wants it. */
  begin(): void {
    this.#onTheirWay++
    this.#parts.cancel().then(() => {
      this.#onTheirWay--
      const again = this.#askedAgain
      this.#askedAgain = undefined
      if (again !== undefined && !this.isOn && again === this.#parts.at()) this.begin()
      this.#parts.goOn()
    })
  }
}
