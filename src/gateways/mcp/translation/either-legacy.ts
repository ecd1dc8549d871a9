import type { Outcome, Permit } from '../../../access/types.ts'
import { ChaperoneError } from '../../../errors.ts'
import { type Answer, Collector } from '../answer.ts'
import { looksLikeOldSse } from '../http/old-sse.ts'
import { BareStatus, type ClientHeaders, type Upstream } from '../types.ts'
import { type Notification, type Request, sessionGone } from '../wire.ts'

export type LegacySpoken = 'legacy' | 'old-sse'

interface EitherLegacyParts {
  readonly open: (spoken: LegacySpoken) => Upstream
  readonly lineBytes: number
}

/**
 * A way to a server with a handshake over HTTP, of which nobody knows whether it has Streamable HTTP: a translator's
 * `initialize` is the probe, as a client's own is elsewhere. The answer is taken whole; it is one JSON object or event.
 */
export class EitherLegacy implements Upstream {
  readonly #parts: EitherLegacyParts
  #way: Upstream | undefined
  #over: ChaperoneError | undefined

  constructor(parts: EitherLegacyParts) {
    this.#parts = parts
  }

  async request(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    if (message.method !== 'initialize' || this.#way) return this.#found().request(permit, message, answer, headers)
    const taken = new Collector(this.#parts.lineBytes)
    this.#way = this.#open('legacy')
    try {
      const outcome = await this.#way.request(permit, message, taken, headers)
      taken.end()
      answer.send(taken.status, taken.text, { 'content-type': 'application/json' })
      return outcome
    } catch (error) {
      if (!(error instanceof BareStatus && looksLikeOldSse(error.status))) throw error
      await this.#way.end(new ChaperoneError('unsupported', 'The server does not know Streamable HTTP.'))
      this.#way = this.#open('old-sse')
      return this.#way.request(permit, message, answer, headers)
    }
  }

  #open(spoken: LegacySpoken): Upstream {
    if (this.#over) throw this.#over
    return this.#parts.open(spoken)
  }

  #found(): Upstream {
    if (!this.#way) throw this.#over ?? sessionGone('This MCP session has no handshake yet.')
    return this.#way
  }

  async notify(permit: Permit, message: Notification, headers: ClientHeaders): Promise<Outcome> {
    return this.#found().notify(permit, message, headers)
  }

  async stream(permit: Permit, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    return this.#found().stream(permit, answer, headers)
  }

  agreed(version: string): void {
    this.#way?.agreed(version)
  }

  async end(why: ChaperoneError): Promise<void> {
    this.#over ??= why
    await this.#way?.end(why)
  }
}
