import type { Outcome, Permit } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { type Answer, finish } from '../answer.ts'
import { edited, spanAt } from '../text/json-text.ts'
import { memberOf, type Request, type UpstreamMessage } from '../wire.ts'

/** In the order of RFC 5424, which MCP took its names from. */
const LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency']

const LOG_LEVEL = 'io.modelcontextprotocol/logLevel'

/** The level that a request wants log messages from; undefined: it wants none, and then none may be sent (2026-07-28). */
export function logLevel(message: Request): string | undefined {
  const meta = message.params._meta as Record<string, unknown> | undefined
  const level = meta?.[LOG_LEVEL]
  return typeof level === 'string' && LEVELS.includes(level) ? level : undefined
}

export const lower = (level: string, than: string | undefined): boolean => than === undefined || LEVELS.indexOf(level) < LEVELS.indexOf(than)

/** One request of a modern client that waits for its answer: the first of a call, or a retry that continues it. */
export class Seat {
  readonly message: Request
  readonly answer: Answer
  readonly permit: Permit
  /** the client's own id, as it wrote it */
  readonly idText: string
  /** What became of it; rejects when there is no answer, and then none was written. */
  readonly done: Promise<Outcome>
  readonly #settle: PromiseWithResolvers<Outcome>
  readonly #token: string | undefined
  readonly #level: string | undefined
  #forget: (() => void)[] = []

  constructor(permit: Permit, message: Request, answer: Answer) {
    this.permit = permit
    this.message = message
    this.answer = answer
    const at = (path: readonly string[]) => {
      const span = spanAt(message.text, path)
      return span && message.text.slice(span.start, span.end)
    }
    this.idText = at(['id'])!
    this.#token = at(['params', '_meta', 'progressToken'])
    this.#level = logLevel(message)
    this.#settle = Promise.withResolvers()
    this.done = this.#settle.promise
  }

  /** `leave` is called when nobody waits any more: the client went away, or the permit is cut. */
  watch(clock: Clock, keepAliveMs: number, leave: (why: ChaperoneError) => void): void {
    const { answer, permit } = this
    const cut = () => leave(permit.signal.reason as ChaperoneError)
    permit.signal.addEventListener('abort', cut)
    // An answer that takes long is a stream from then on, so that nothing in between closes it.
    const disarm = clock.at(clock.now() + keepAliveMs, () => {
      if (answer.streams) answer.open()
    })
    this.#forget = [() => permit.signal.removeEventListener('abort', cut), disarm]
    answer.whenGone(() => leave(new ChaperoneError('upstream_timeout', 'The client went away before the answer came.')))
    if (permit.signal.aborted) cut()
  }

  /** Ends the client's answer with this message; the seat is not settled by it. */
  say(status: number, json: string): void {
    this.#forget.pop()?.()
    finish(this.answer, status, json)
  }

  settle(what: Outcome | ChaperoneError): void {
    for (const forget of this.#forget.splice(0)) forget()
    if (what instanceof ChaperoneError) this.#settle.reject(what)
    else this.#settle.resolve(what)
  }

  /** A notification of the server as this request's client shall get it; undefined when it did not ask for it. */
  wants(message: UpstreamMessage): string | undefined {
    if (message.method === 'notifications/progress') {
      const span = spanAt(message.text, ['params', 'progressToken'])
      return span && this.#token !== undefined ? edited(message.text, [{ ...span, text: this.#token }]) : undefined
    }
    if (message.method !== 'notifications/message') return message.text
    const level = memberOf(message, ['params', 'level'])
    return this.#level !== undefined && typeof level === 'string' && !lower(level, this.#level) ? message.text : undefined
  }
}
