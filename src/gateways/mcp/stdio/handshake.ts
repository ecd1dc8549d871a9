import type { UpstreamMessage } from '../wire.ts'
import type { Waiting } from './correlate.ts'

/**
 * The `initialize` of a process that several sessions share: a second one cannot be sent, so who comes while the first is
 * under way waits for its answer, and who comes later is given the same. It outlives whoever began it.
 */
export class Handshake<T> {
  #asked: { readonly id: number; readonly joined: Waiting<T>[] } | undefined
  #welcome: UpstreamMessage | undefined

  /** `send` it; or it `waits` for the one that is under way; or this is the answer. */
  begin(waiting: Waiting<T>): 'send' | 'wait' | UpstreamMessage {
    if (this.#welcome) return this.#welcome
    if (this.#asked) {
      this.#asked.joined.push(waiting)
      return 'wait'
    }
    this.#asked = { id: waiting.id, joined: [] }
    return 'send'
  }

  /** It could not be sent: nobody will answer those who wait with it. */
  failed(waiting: Waiting<T>): readonly Waiting<T>[] {
    if (this.#asked?.id !== waiting.id) return []
    const { joined } = this.#asked
    this.#asked = undefined
    return joined
  }

  /** Those who wait with the one that this answers; undefined: it answers something else. A refusal holds for them alone. */
  answered(message: UpstreamMessage): readonly Waiting<T>[] | undefined {
    if (this.#asked === undefined || this.#asked.id !== message.id) return undefined
    const { joined } = this.#asked
    this.#asked = undefined
    if (message.members.has('result')) this.#welcome = message
    return joined
  }
}
