/** Refused messages of one connection that wait for the record. */
const MOST = 16

/**
 * A connection is refused no faster than the record takes it: refusals cost the client a few bytes, and without end they would
 * fill the places of the record and shut out everybody who acts.
 */
export class Noted {
  readonly #goOn: () => void
  #waiting = 0

  constructor(goOn: () => void) {
    this.#goOn = goOn
  }

  get isFull(): boolean {
    return this.#waiting >= MOST
  }

  /** `recorded` settles when one is on record, or never will be. */
  note(recorded: unknown): void {
    this.#waiting++
    const over = () => {
      this.#waiting--
      this.#goOn()
    }
    Promise.resolve(recorded).then(over, over)
  }
}
