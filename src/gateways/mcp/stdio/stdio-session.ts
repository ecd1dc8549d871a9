import type { Outcome, Permit } from '../../../access/types.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import type { McpLimits } from '../limits.ts'
import { sseEvent } from '../text/sse.ts'
import type { Asker, Upstream } from '../types.ts'
import type { Notification, Request } from '../wire.ts'
import type { Member } from './flight.ts'
import type { Hub } from './hub.ts'

export interface StdioSessionParts {
  readonly name: string
  readonly modern: boolean
  readonly asker: Asker
  /** The process for a session that begins with this message; the member is attached to it. */
  readonly hub: (message: Request | Notification, member: Member) => Hub
  readonly limits: Pick<McpLimits, 'streams'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
  /** The process has ended; nothing is in flight any more. */
  readonly ended: (why: ChaperoneError) => void
}

/** What a legacy server said while nobody listened is kept, within limits: messages, and characters of them. */
const UNHEARD = 64
const UNHEARD_SIZE = 1024 * 1024

/**
 * One session's way to a stdio server, whose process it may share. A legacy session stays with its process: what it told
 * the server lives there. Requests of the modern era stand for themselves, so each goes to whatever process there is.
 */
export class StdioSession implements Upstream, Member {
  readonly asker: Asker
  closed: ChaperoneError | undefined
  readonly #parts: StdioSessionParts
  readonly #streams: Answer[] = []
  readonly #onEnd = new Set<(why: ChaperoneError) => void>()
  #hub: Hub | undefined
  #unheard: string[] = []
  #unheardSize = 0

  constructor(parts: StdioSessionParts) {
    this.#parts = parts
    this.asker = parts.asker
  }

  #place(message: Request | Notification): Hub {
    if (this.closed) throw this.closed
    if (!this.#hub || (this.#parts.modern && this.#hub.over)) this.#hub = this.#parts.hub(message, this)
    return this.#hub
  }

  async request(permit: Permit, message: Request, answer: Answer): Promise<Outcome> {
    return this.#place(message).request(this, permit, message, answer)
  }

  async notify(permit: Permit, message: Notification): Promise<Outcome> {
    return this.#place(message).notify(this, permit, message)
  }

  async stream(permit: Permit, answer: Answer): Promise<Outcome> {
    if (this.closed) throw this.closed
    if (this.#streams.length >= this.#parts.limits.streams) throw new ChaperoneError('too_many', 'This MCP session has too many open streams.')
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>()
    answer.open()
    this.#streams.push(answer)
    for (const text of this.#unheard.splice(0)) void answer.write(sseEvent(text))
    this.#unheardSize = 0
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

  agreed(): void {}

  async end(why: ChaperoneError): Promise<void> {
    this.closed ??= why
    this.#endStreams(why)
    await this.#hub?.detach(this, why)
  }

  lost(why: ChaperoneError): void {
    this.#endStreams(why)
    if (!this.closed) this.#parts.ended(why)
  }

  deliver(text: string): void {
    const stream = this.#streams.findLast((one) => !one.gone)
    if (stream) void stream.write(sseEvent(text))
    else if (!this.#hub?.along(this, text)) this.#keep(text)
  }

  #endStreams(why: ChaperoneError): void {
    for (const end of [...this.#onEnd]) end(why)
  }

  #keep(text: string): void {
    if (this.#parts.modern) return
    this.#unheard.push(text)
    this.#unheardSize += text.length
    while (this.#unheard.length > UNHEARD || this.#unheardSize > UNHEARD_SIZE) {
      this.#unheardSize -= this.#unheard.shift()!.length
      this.#parts.log('mcp.child.unheard', { server: this.#parts.name })
    }
  }
}
