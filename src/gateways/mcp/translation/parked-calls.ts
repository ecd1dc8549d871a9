import { randomBytes } from 'node:crypto'
import { ChaperoneError } from '../../../errors.ts'
import type { McpLimits } from '../limits.ts'
import { INVALID_PARAMS, ProtocolError } from '../wire.ts'
import type { Call } from './call.ts'

/**
 * The calls of one lane that wait for their client, each under a `requestState` that is good once. A lane belongs to one
 * session and one server, so what somebody else was given opens nothing here.
 */
export class ParkedCalls {
  /** what servers asked and nobody has answered, of calls that wait and of those that do not yet */
  asks = 0
  readonly #limits: Pick<McpLimits, 'asks'>
  readonly #calls = new Map<string, Call>()

  constructor(limits: Pick<McpLimits, 'asks'>) {
    this.#limits = limits
  }

  get size(): number {
    return this.#calls.size
  }

  /** The name under which its client continues the call; undefined when too many wait. */
  park(call: Call): string | undefined {
    if (this.#calls.size >= this.#limits.asks) return undefined
    const state = randomBytes(24).toString('base64url')
    this.#calls.set(state, call)
    return state
  }

  /** The call that a retry continues. To continue it uses its state up; a request that is another one does not. */
  take(state: unknown, key: string): Call {
    const call = typeof state === 'string' ? this.#calls.get(state) : undefined
    if (!call) throw new ProtocolError(INVALID_PARAMS, 'The requestState is unknown or no longer good: begin again without it.', { http: 200 })
    if (call.key !== key) throw new ProtocolError(INVALID_PARAMS, 'The requestState belongs to another request.', { http: 200, code: 'ambiguous' })
    return call
  }

  drop(state: string): void {
    this.#calls.delete(state)
  }

  /** One more question of a server. Throws `too_many`. */
  ask(): void {
    if (this.asks >= this.#limits.asks) throw new ChaperoneError('too_many', `The client has ${this.asks} questions to answer already.`)
    this.asks++
  }

  end(why: ChaperoneError): void {
    for (const call of [...this.#calls.values()]) call.leave(why)
    this.#calls.clear()
  }
}
