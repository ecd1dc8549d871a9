import { createHash } from 'node:crypto'
import type { Outcome } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import type { McpLimits } from '../limits.ts'
import { onOneLine, spanAt } from '../text/json-text.ts'
import { sseEvent } from '../text/sse.ts'
import { outcomeOf } from '../types.ts'
import { isObject, type Request, type RequestId, type UpstreamMessage } from '../wire.ts'
import { isAnswer } from './input-responses.ts'
import { type Sent, sameness, URL_REQUIRED } from './modern-results.ts'
import type { ParkedCalls } from './parked-calls.ts'
import type { Seat } from './seat.ts'

export interface CallParts {
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'askMs' | 'rounds' | 'keepAliveMs'>
  readonly parked: ParkedCalls
  /** The server's last word as this request's client gets it: translated, filtered. */
  readonly final: (message: Request, idText: string, text: string) => Sent | Promise<Sent>
  /** `input_required` with these questions */
  readonly round: (idText: string, inputRequests: string, state: string) => string
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/** What the server asked, admitted already. */
export interface Question {
  /** the server's own id; undefined when the question is a part of its answer (-32042) */
  readonly serverId: RequestId | undefined
  readonly method: string
  /** JSON text as the client gets it */
  readonly params: string
  readonly settle: (outcome: Outcome) => void
}

interface Ask extends Question {
  readonly done: (result: string) => void
  readonly failed: (why: ChaperoneError) => void
}

/** `again`: the server wants the call once more when its questions are answered. */
type End = { readonly text: string } | { readonly error: ChaperoneError } | { readonly again: string }

/** What a server asks at once comes within this; then the client gets all of it in one round. */
const COLLECT_MS = 10
/** Notifications that wait for the client's next round. */
const KEPT = 64

/**
 * One call of a modern client at a legacy server. Upstream it is one request from its beginning to its end; the client sees
 * rounds of it, each a request with an answer of its own:
 *
 *   seated   a request of the client waits: what the server says goes there
 *   parked   the client has got `input_required` and is to come back with answers; the request upstream stays open
 *   over     the server has answered, or nobody waits any more
 *
 * The permit of the first request is that of the call upstream, so its outcome is known only when that is over.
 */
export class Call {
  readonly message: Request
  readonly key: string
  /** Ends the request upstream, which tells the server. */
  readonly stop = new AbortController()
  readonly #parts: CallParts
  #seat: Seat | undefined
  /** the first request, answered with a question, while the call goes on under its permit */
  #carrier: Seat | undefined
  /** who got the last question */
  #asked: Seat | undefined
  readonly #asks = new Map<string, Ask>()
  #nextAsk = 1
  #rounds: number
  #state: string | undefined
  #end: End | undefined
  #window: (() => void) | undefined
  #expiry: (() => void) | undefined
  #kept: UpstreamMessage[] = []
  #declined = false
  #judged = 0

  constructor(parts: CallParts, seat: Seat, rounds = 0) {
    this.#parts = parts
    this.#rounds = rounds
    this.message = seat.message
    this.key = Call.keyOf(seat.message)
    this.#sit(seat)
  }

  /** What a retry must have in common with the call that it continues. */
  static keyOf(message: Request): string {
    return createHash('sha256').update(sameness(message)).digest('base64')
  }

  get rounds(): number {
    return this.#rounds
  }
  /** Whether the server has said anything of it, which the client may have seen. */
  get touched(): boolean {
    return this.#nextAsk > 1 || this.#rounds > 0 || this.#seat?.answer.began !== 'no'
  }

  #sit(seat: Seat): void {
    const { clock, limits } = this.#parts
    this.#seat = seat
    seat.watch(clock, limits.keepAliveMs, (why) => {
      if (seat === this.#seat || seat === this.#carrier || seat === this.#asked) this.leave(why)
    })
  }

  /** What the tap writes to: whoever waits now. A stream is opened there only when there is something to say. */
  get outlet(): Answer {
    const seat = () => this.#seat
    return {
      began: 'no',
      gone: false,
      get streams() {
        return seat()?.answer.streams ?? false
      },
      whenGone() {},
      send() {},
      begin() {},
      open() {},
      async write(chunk) {
        const answer = seat()?.answer
        answer?.open()
        await answer?.write(chunk)
      },
      end() {},
      break() {},
    }
  }

  /** A notification of the server on this call: its text for who waits now, or undefined. For a client that is to come back it is kept. */
  heard(message: UpstreamMessage): string | undefined {
    if (this.#seat) {
      const text = this.#seat.wants(message)
      return text === undefined ? undefined : onOneLine(text)
    }
    if (this.#state === undefined) return undefined
    this.#kept.push(message)
    if (this.#kept.length > KEPT) this.#parts.log('mcp.parked.unheard', { method: this.#kept.shift()!.method })
    return undefined
  }

  /** The same, when it came on another stream than its own. */
  tell(message: UpstreamMessage): void {
    const text = this.heard(message)
    const answer = this.#seat?.answer
    if (text === undefined || !answer?.streams) return
    answer.open()
    void answer.write(sseEvent(text))
  }

  /** Policy looks at a question: until it is done no round is closed, so that what was asked at once is shown at once. */
  async judging<T>(judge: Promise<T>): Promise<T> {
    this.#judged++
    try {
      return await judge
    } finally {
      this.#judged--
      this.#serve()
    }
  }

  /** A question for the client. Resolves with the JSON text of its result; rejects when there will be none. */
  ask(question: Question): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    const refused = (why: ChaperoneError) => {
      question.settle({ status: 'failed', facts: { why: why.code } })
      reject(why)
    }
    try {
      if (this.#end && !('again' in this.#end)) throw new ChaperoneError('upstream_unavailable', 'The call is over.')
      this.#parts.parked.ask()
    } catch (error) {
      refused(toChaperoneError(error))
      return promise
    }
    const key = `q${this.#nextAsk++}`
    const close = () => {
      if (this.#asks.delete(key)) this.#parts.parked.asks--
    }
    this.#asks.set(key, {
      ...question,
      done: (result) => {
        close()
        question.settle({ status: 'ok', facts: { bytes: Buffer.byteLength(result) } })
        resolve(result)
      },
      failed: (why) => {
        close()
        refused(why)
      },
    })
    this.#serve()
    return promise
  }

  /** The server does not want the answer to what it asked any more. */
  withdraw(serverId: RequestId): void {
    for (const ask of [...this.#asks.values()]) {
      if (ask.serverId === serverId) ask.failed(new ChaperoneError('upstream_unavailable', 'The server has withdrawn its question.'))
    }
  }

  /**
   * The client has come back. What it does not answer well is asked again (2026-07-28: missing answers are no error), and
   * what it was not asked is ignored. `again`: the call must be sent once more, for this seat.
   */
  resume(seat: Seat): 'waiting' | 'again' {
    this.#unpark()
    const given = seat.message.params.inputResponses
    for (const [key, ask] of [...this.#asks]) {
      if (!isObject(given) || !Object.hasOwn(given, key) || !isAnswer(ask.method, given[key])) continue
      const span = spanAt(seat.message.text, ['params', 'inputResponses', key])!
      ask.done(seat.message.text.slice(span.start, span.end))
      if ((given[key] as Record<string, unknown>).action !== 'accept') this.#declined = true
    }
    if (this.#end && 'again' in this.#end && this.#asks.size === 0) {
      if (!this.#declined) return 'again'
      // The person did not want what the server needs before it does the call: then its own error is the answer.
      this.#end = { text: this.#end.again }
    }
    this.#sit(seat)
    for (const message of this.#kept.splice(0)) this.tell(message)
    this.#serve()
    return 'waiting'
  }

  /** What became of the request upstream. */
  finish(end: End): void {
    if (this.#end) return
    this.#end = end
    this.#failAsks(new ChaperoneError('upstream_unavailable', 'The server has ended the call without the answer.'))
    const carrier = this.#carrier
    this.#carrier = undefined
    if ('error' in end) carrier?.settle({ status: 'unknown', facts: { why: end.error.code } })
    else carrier?.settle(outcomeOf('text' in end ? end.text : end.again))
    this.#serve()
  }

  /** The server does the call only when the person has answered these; `text` is its own word for that (-32042). */
  again(text: string, questions: readonly Question[]): void {
    this.finish({ again: text })
    for (const question of questions) {
      // Its answer goes nowhere: that the person has been there is all that the next call needs.
      this.ask(question).catch((error: unknown) => {
        if (!this.#end || !('again' in this.#end)) return
        this.#end = { error: toChaperoneError(error) }
        this.#failAsks(this.#end.error)
        this.#serve()
      })
    }
  }

  /** Nobody waits any more: the client left, its time is over, the lane ends. */
  leave(why: ChaperoneError): void {
    this.#unpark()
    this.#window?.()
    this.#window = undefined
    this.#failAsks(why)
    const open = !this.#end
    if (this.#end) this.#end = { error: why }
    this.stop.abort(why)
    if (!open) this.#serve()
  }

  #unpark(): void {
    this.#expiry?.()
    this.#expiry = undefined
    if (this.#state !== undefined) this.#parts.parked.drop(this.#state)
    this.#state = undefined
    this.#asked = undefined
  }

  #failAsks(why: ChaperoneError): void {
    for (const ask of [...this.#asks.values()]) ask.failed(why)
  }

  /** Gives whoever waits what there is: the end, or, a moment later, the questions. */
  #serve(): void {
    const { clock } = this.#parts
    if (!this.#seat) return
    if (this.#end && !('again' in this.#end)) {
      this.#window?.()
      this.#window = undefined
      const seat = this.#seat
      this.#seat = undefined
      if ('error' in this.#end) seat.settle(this.#end.error)
      else void this.#deliver(seat, this.#end.text)
      return
    }
    if (this.#asks.size > 0) this.#window ??= clock.at(clock.now() + COLLECT_MS, () => this.#park())
  }

  async #deliver(seat: Seat, text: string): Promise<void> {
    try {
      const sent = await this.#parts.final(seat.message, seat.idText, text)
      seat.say(sent.status, sent.text)
      seat.settle(outcomeOf(text))
    } catch (error) {
      seat.settle(toChaperoneError(error))
    }
  }

  /** Answers the request that waits with the questions. The call goes on without a client until it comes back. */
  #park(): void {
    this.#window = undefined
    const { clock, limits, parked, round } = this.#parts
    const seat = this.#seat
    if (!seat || this.#asks.size === 0 || this.#judged > 0) return
    const state = this.#rounds < limits.rounds ? parked.park(this) : undefined
    if (state === undefined) {
      const why = new ChaperoneError('too_many', 'The client cannot be asked more.')
      this.#failAsks(why)
      if (this.#end) {
        this.#end = { error: why }
        this.#serve()
      }
      return
    }
    this.#rounds++
    this.#state = state
    this.#seat = undefined
    this.#asked = seat
    const questions = [...this.#asks].map(([key, { method, params }]) => `"${key}":{"method":${JSON.stringify(method)},"params":${params}}`)
    seat.say(200, round(seat.idText, `{${questions.join(',')}}`, state))
    this.#expiry = clock.at(clock.now() + limits.askMs, () =>
      this.leave(new ChaperoneError('upstream_timeout', 'The client did not answer the question of the server in time.')),
    )
    const facts = { asked: questions.length }
    if (this.#end) seat.settle({ status: 'failed', facts: { ...facts, error: URL_REQUIRED } })
    else if (seat.message === this.message) this.#carrier = seat
    else seat.settle({ status: 'ok', facts })
  }
}
