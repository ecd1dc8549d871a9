export interface StoppingParts {
  /** Resolves when it can hit nothing that is sent later; never rejects. */
  cancel(): Promise<void>
  /** The server is at something of the client's. */
  isBusy(): boolean
  /** The client has asked for it while another cancel was on its way. */
  again(): void
  goOn(): void
}

/**
 * Cancels on their way to the server. Until each is over nothing more is sent: it would be stopped instead. A client has one at a time,
 * however many come in, none while nothing of its own runs, and so none hits a question of ours.
 */
export class Stopping {
  readonly #parts: StoppingParts
  #onTheirWay = 0
  #askedAgain = false

  constructor(parts: StoppingParts) {
    this.#parts = parts
  }

  get isOn(): boolean {
    return this.#onTheirWay > 0
  }

  /** The client wants it. */
  ask(): void {
    this.#askedAgain = this.isOn
    if (this.#parts.isBusy() && !this.#askedAgain) this.begin()
  }

  /** Whoever wants it. */
  begin(): void {
    this.#onTheirWay++
    this.#parts.cancel().then(() => {
      this.#onTheirWay--
      if (this.#askedAgain) this.#parts.again()
      this.#parts.goOn()
    })
  }
}
