import { once } from 'node:events'
import type { Writable } from 'node:stream'

/** Lines to a client. One that does not read makes us stop reading from the server, and so on up to the source. */
export class LineWriter {
  readonly #output: Writable
  readonly #over: AbortSignal
  #draining: Promise<unknown> | undefined

  /** `over`: nobody reads any more; what is written from then on is dropped, and who waits goes on. */
  constructor(output: Writable, over: AbortSignal) {
    this.#output = output
    this.#over = over
  }

  async write(line: string): Promise<void> {
    if (this.#output.destroyed || this.#over.aborted) return
    if (!this.#output.write(`${line}\n`)) await this.#drained()
  }

  /** One wait for all who write. */
  #drained(): Promise<unknown> {
    this.#draining ??= once(this.#output, 'drain', { signal: this.#over })
      .catch(() => undefined)
      .finally(() => {
        this.#draining = undefined
      })
    return this.#draining
  }
}
