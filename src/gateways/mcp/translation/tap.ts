import { ChaperoneError } from '../../../errors.ts'
import { type Answer, finish, type Headers } from '../answer.ts'
import { type SseEvent, sseEvent, sseReader } from '../text/sse.ts'
import { readUpstream, type UpstreamMessage } from '../wire.ts'

export interface TapParts {
  /** the client's own answer: what `pass` and `finish` write to */
  readonly to: Answer
  readonly maxBytes: number
  /** A notification of the server on this answer. Returns its text as the client shall get it, or undefined to drop it. */
  readonly told: (message: UpstreamMessage) => string | undefined
  /** A question of the server that was judged. Without this the client is asked in another way, and the question is not for its stream. */
  readonly asked?: (message: UpstreamMessage) => string
  /** When given, it alone ends the request upstream: in the legacy era the client's leaving does not. */
  readonly stop?: AbortSignal
  /** Each event, before it is read: for its id and `retry`. */
  readonly seen?: (event: SseEvent) => void
  /** Takes the responses of a stream that is not of one request: then none is kept. */
  readonly answered?: (message: UpstreamMessage) => void
  /** The server has closed the stream, and the response was not on it. */
  readonly closed?: () => void
}

/**
 * Stands between a raw upstream and the client's answer for a translator: sees each message, in whatever form the server
 * sends it (one JSON body, a body in pieces, a stream of events), passes notifications on as they come, and keeps the
 * response. One tap is for one request upstream; a call that takes several rounds has several taps on the same answer.
 */
export class Tap implements Answer {
  began: Answer['began'] = 'no'
  /** the JSON-RPC response, once it is there */
  text: string | undefined
  status = 200
  readonly #parts: TapParts
  readonly #events: ReturnType<typeof sseReader>
  #chunks: Buffer[] = []
  #size = 0

  constructor(parts: TapParts) {
    this.#parts = parts
    this.#events = sseReader(parts.maxBytes)
  }

  get gone(): boolean {
    return this.#parts.stop?.aborted ?? this.#parts.to.gone
  }

  /** The client's answer, for what is not a response: a stream is opened there only when something comes. */
  get streams(): boolean {
    return this.#parts.asked === undefined || this.#parts.to.streams
  }

  whenGone(see: () => void): void {
    const { stop, to } = this.#parts
    if (!stop) to.whenGone(see)
    else if (stop.aborted) see()
    else stop.addEventListener('abort', see, { once: true })
  }

  send(status: number, body?: string | Buffer): void {
    this.began = 'body'
    this.status = status
    if (body !== undefined) this.text ??= body.toString()
  }

  begin(status: number, _headers: Headers): void {
    this.began = 'body'
    this.status = status
  }

  open(): void {
    if (this.began === 'no') this.began = 'stream'
    // A server that opens a stream takes its time: so may we, and nothing in between closes the client's.
    if (this.#parts.to.streams) this.#parts.to.open()
  }

  async write(chunk: Buffer | string): Promise<void> {
    const bytes = Buffer.from(chunk)
    if (this.began === 'stream') {
      for (const event of this.#events.push(bytes)) {
        this.#parts.seen?.(event)
        if (event.data !== undefined) await this.#message(event.data)
      }
      return
    }
    this.#size += bytes.length
    if (this.#size > this.#parts.maxBytes) throw new ChaperoneError('too_large', `The server's answer is over ${this.#parts.maxBytes} bytes.`)
    this.#chunks.push(bytes)
  }

  end(): void {
    if (this.began === 'body') this.text ??= Buffer.concat(this.#chunks).toString('utf8')
    else if (this.text === undefined) this.#parts.closed?.()
  }

  break(): void {
    this.text = undefined
  }

  async #message(text: string): Promise<void> {
    const message = readUpstream(text)
    if (message.kind === 'response') {
      if (this.#parts.answered) this.#parts.answered(message)
      else this.text ??= text
    } else if (message.kind === 'notification') {
      await this.#pass(this.#parts.told(message))
    } else await this.#pass(this.#parts.asked?.(message))
  }

  async #pass(out: string | undefined): Promise<void> {
    if (out === undefined || !this.#parts.to.streams) return
    this.#parts.to.open()
    await this.#parts.to.write(sseEvent(out))
  }

  /** Ends the client's answer with this message. */
  finish(status: number, json: string): void {
    finish(this.#parts.to, status, json)
  }
}
