import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Answer } from './answer.ts'
import type { McpLimits } from './limits.ts'
import { edited, onOneLine } from './text/json-text.ts'
import { sseEvent } from './text/sse.ts'
import { INVALID_REQUEST, ProtocolError, type RequestId, type Response, type UpstreamMessage } from './wire.ts'

interface InquiriesParts {
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'askMs' | 'asks'>
  /** Several servers ask this client: the id of one would be an answer to another, also after its own question is over. */
  readonly several?: boolean
}

interface Open {
  /** the server's own id, as it wrote it */
  readonly idText: string
  readonly of: object
  readonly serverId: RequestId
  readonly settle: (answer: string | ChaperoneError) => void
}

/**
 * What servers asked of one legacy client (sampling, elicitation, roots) and it has not answered. The client answers by a
 * POST of its own; its answer reaches only the server that asked, because it is looked up by the id that we showed.
 */
export class Inquiries {
  readonly #parts: InquiriesParts
  readonly #open = new Map<RequestId, Open>()
  readonly #streams: Answer[] = []
  #next = 1

  constructor(parts: InquiriesParts) {
    this.#parts = parts
  }

  get waiting(): number {
    return this.#open.size
  }

  /** A standalone stream of the client, while it is open. */
  listen(stream: Answer): () => void {
    this.#streams.push(stream)
    return () => {
      const at = this.#streams.indexOf(stream)
      if (at >= 0) this.#streams.splice(at, 1)
    }
  }

  /**
   * Shows the question to the client on the stream that it came on (never on two), else on its standalone stream. Resolves
   * with the client's answer under the server's id. `raw` is the very event, used when nothing in it must change. `of` is
   * whoever asked: ids of two servers may be the same. Rejects with ChaperoneError: `unsupported`, `too_many`, `upstream_timeout`, or why `signal` aborted.
   */
  async ask(message: UpstreamMessage, via: Answer | undefined, of: object, signal: AbortSignal, raw?: Buffer): Promise<string> {
    const { clock, limits } = this.#parts
    if (this.#open.size >= limits.asks) throw new ChaperoneError('too_many', `More than ${limits.asks} requests of servers wait for this client.`)
    const stream = via?.streams && !via.gone ? via : this.#streams.findLast((one) => !one.gone)
    if (!stream) throw new ChaperoneError('unsupported', 'The client reads no stream, so it cannot be asked anything.')
    if (signal.aborted) throw signal.reason
    const serverId = message.id!
    const span = message.members.get('id')!
    let id: RequestId = serverId
    // A server may have asked under a name like ours, too.
    for (let other = this.#parts.several === true; other || this.#open.has(id); other = false) id = `chaperone-${this.#next++}`
    const { promise, resolve } = Promise.withResolvers<string | ChaperoneError>()
    const open: Open = { idText: message.text.slice(span.start, span.end), of, serverId, settle: resolve }
    this.#open.set(id, open)
    const cut = () => resolve(signal.reason as ChaperoneError)
    signal.addEventListener('abort', cut)
    const disarm = clock.at(clock.now() + limits.askMs, () =>
      resolve(new ChaperoneError('upstream_timeout', `The client did not answer for ${limits.askMs / 1000} s.`)),
    )
    stream.open()
    const renamed = id !== serverId
    const text = renamed ? edited(message.text, [{ ...span, text: JSON.stringify(id) }]) : message.text
    void stream.write(renamed || !raw ? sseEvent(onOneLine(text)) : raw)
    try {
      const answer = await promise
      if (typeof answer === 'string') return answer
      throw answer
    } finally {
      disarm()
      signal.removeEventListener('abort', cut)
      if (this.#open.get(id) === open) this.#open.delete(id)
    }
  }

  /** The client's answer. False when nothing is open under its id: nobody asked, or it came twice or too late. */
  answered(response: Response): boolean {
    const open = this.#open.get(response.id)
    if (!open) return false
    this.#open.delete(response.id)
    const { start, end } = response.idSpan
    open.settle(onOneLine(edited(response.text, [{ start, end, text: open.idText }])))
    return true
  }

  /** The server withdraws what it asked. Returns the id under which the client knows it. */
  withdrawn(serverId: RequestId, of: object): RequestId | undefined {
    for (const [id, open] of this.#open) {
      if (open.of !== of || open.serverId !== serverId) continue
      open.settle(new ChaperoneError('upstream_timeout', 'The server withdrew its request.'))
      return id
    }
    return undefined
  }

  /** The session is over: whoever waits is told. */
  close(why: ChaperoneError): void {
    for (const open of [...this.#open.values()]) open.settle(why)
  }
}

export const nobodyAsked = ({ id }: Response) => new ProtocolError(INVALID_REQUEST, 'Nobody asked for this response.', { id, code: 'not_found' })
