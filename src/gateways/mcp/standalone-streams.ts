import type { Outcome, Permit } from '../../access/types.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Answer } from './answer.ts'
import { sseEvent } from './text/sse.ts'

/** What a server said while nobody listened is kept, within limits: messages, and characters of them. */
const UNHEARD = 64
const UNHEARD_SIZE = 1024 * 1024

/** The standalone streams of one legacy client, where its server has none of its own: what belongs to no request goes to one of them. */
export class StandaloneStreams {
  readonly #most: number
  readonly #dropped: () => void
  readonly #streams: Answer[] = []
  readonly #onEnd = new Set<(why: ChaperoneError) => void>()
  #unheard: string[] = []
  #size = 0

  /** `dropped` hears of every message that is given up because nobody came to hear it. */
  constructor(most: number, dropped: () => void) {
    this.#most = most
    this.#dropped = dropped
  }

  /** Until the client leaves, or the permit or `close` ends it. Throws `too_many`. */
  async listen(permit: Permit, answer: Answer): Promise<Outcome> {
    if (this.#streams.length >= this.#most) throw new ChaperoneError('too_many', 'This MCP session has too many open streams.')
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>()
    answer.open()
    this.#streams.push(answer)
    for (const text of this.#unheard.splice(0)) void answer.write(sseEvent(text))
    this.#size = 0
    const cut = () => reject(permit.signal.reason)
    permit.signal.addEventListener('abort', cut)
    answer.whenGone(() => resolve({ status: 'ok' }))
    this.#onEnd.add(reject)
    try {
      return await promise
    } finally {
      this.#onEnd.delete(reject)
      this.#streams.splice(this.#streams.indexOf(answer), 1)
      permit.signal.removeEventListener('abort', cut)
    }
  }

  /** Writes one line of JSON to the newest stream; false when none is open. */
  say(text: string): boolean {
    const stream = this.#streams.findLast((one) => !one.gone)
    // A slow client slows nobody down: what it cannot take is bounded by its socket.
    void stream?.write(sseEvent(text))
    return stream !== undefined
  }

  keep(text: string): void {
    this.#unheard.push(text)
    this.#size += text.length
    while (this.#unheard.length > UNHEARD || this.#size > UNHEARD_SIZE) {
      this.#size -= this.#unheard.shift()!.length
      this.#dropped()
    }
  }

  close(why: ChaperoneError): void {
    for (const end of [...this.#onEnd]) end(why)
  }
}
