import type { Outcome, Permit } from '../../../access/types.ts'
import type { ChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import type { McpLimits } from '../limits.ts'
import { StandaloneStreams } from '../standalone-streams.ts'
import type { Asker, Upstream } from '../types.ts'
import type { Notification, Request } from '../wire.ts'
import type { Member } from './flight.ts'
import type { Hub } from './hub.ts'

interface StdioSessionParts {
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

/**
 * One session's way to a stdio server, whose process it may share. A legacy session stays with its process: what it told
 * the server lives there. Requests of the modern era stand for themselves, so each goes to whatever process there is.
 */
export class StdioSession implements Upstream, Member {
  readonly asker: Asker
  closed: ChaperoneError | undefined
  readonly #parts: StdioSessionParts
  readonly #streams: StandaloneStreams
  #hub: Hub | undefined

  constructor(parts: StdioSessionParts) {
    this.#parts = parts
    this.asker = parts.asker
    this.#streams = new StandaloneStreams(parts.limits.streams, () => parts.log('mcp.child.unheard', { server: parts.name }))
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
    return this.#streams.listen(permit, answer)
  }

  agreed(): void {}

  async end(why: ChaperoneError): Promise<void> {
    this.closed ??= why
    this.#streams.close(why)
    await this.#hub?.detach(this, why)
  }

  lost(why: ChaperoneError): void {
    this.#streams.close(why)
    if (!this.closed) this.#parts.ended(why)
  }

  deliver(text: string): void {
    if (this.#streams.say(text) || this.#hub?.along(this, text) || this.#parts.modern) return
    this.#streams.keep(text)
  }
}
