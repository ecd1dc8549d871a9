import type { Answer } from '../answer.ts'
import { onOneLine } from '../text/json-text.ts'
import { Tap } from '../translation/tap.ts'

/**
 * Between a server and the client's answer where the response itself must be looked at, or the client already reads a stream.
 * It goes on as soon as it is there: a call of a legacy server lasts longer than the answer in which its client is asked for
 * something (translation/call.ts), and waiting for its end would wait for what the client was never asked.
 */
export class Relay extends Tap {
  readonly #change: (text: string) => string | Promise<string>
  readonly #to: Answer
  #passed: Promise<void> | undefined

  constructor(to: Answer, maxBytes: number, change: (text: string) => string | Promise<string>) {
    const pass = (one: { readonly text: string }) => onOneLine(one.text)
    super({ to, maxBytes, told: pass, asked: pass })
    this.#to = to
    this.#change = change
  }

  override send(status: number, body?: string | Buffer): void {
    super.send(status, body)
    this.#pass()
  }

  override end(): void {
    super.end()
    this.#pass()
  }

  /** Resolves when the response has gone on; undefined when there was none. */
  get passed(): Promise<void> | undefined {
    return this.#passed
  }

  #pass(): void {
    const { text } = this
    if (this.#passed || text === undefined) return
    this.#passed = (async () => this.finish(this.status, await this.#change(text)))()
    this.#passed.catch(() => this.#to.break())
  }
}
