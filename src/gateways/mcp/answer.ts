import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Admission } from '../../access/types.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { McpLimits } from './limits.ts'
import { sseEvent, sseReader } from './text/sse.ts'
import { isObject } from './wire.ts'

/** Bodies up to this size are sent together with the headers, events with each other; larger ones are not worth the copy. */
const ONE_WRITE = 16_384

export type Headers = Readonly<Record<string, string | readonly string[]>>

/** Where the answer to one request goes: to a client over HTTP, or into our own hands. */
export interface Answer {
  /** `no`: nothing was sent; `body`: one body is on its way; `stream`: events are */
  readonly began: 'no' | 'body' | 'stream'
  /** nobody is there any more to read it */
  readonly gone: boolean
  /** whether the client reads events */
  readonly streams: boolean
  /** A response that could be a body is sent as a stream of one event, as servers with a stream for each request do. */
  readonly events?: boolean
  /** Ends it at once with the reason, when what it waits for is cut (see {@link Admission.cut}). */
  readonly lastWords?: ((why: unknown) => void) | undefined
  whenGone(see: () => void): void
  /** The whole answer at once. */
  send(status: number, body?: string | Buffer, headers?: Headers): void
  /** A body of unknown length follows by `write`, then `end`. */
  begin(status: number, headers: Headers): void
  /** Opens a stream of events; nothing when one is open. */
  open(headers?: Headers): void
  /** Resolves when more may be written: a slow client slows the server down, it does not fill our memory. */
  write(chunk: Buffer | string): Promise<void>
  end(): void
  /** The body cannot be finished: the client must not take what it has for all. */
  break(): void
}

/** Puts one JSON-RPC message into whatever form the answer has by now, and ends it. */
export function finish(answer: Answer, status: number, json: string): void {
  if (answer.began === 'no' && answer.events && answer.streams && status === 200) answer.open()
  if (answer.began === 'no') answer.send(status, json, { 'content-type': 'application/json' })
  else if (answer.began === 'stream') {
    void answer.write(sseEvent(json))
    answer.end()
  } else answer.break()
}

/** The answer to an HTTP request. `common` headers go with every form of it. */
export class HttpAnswer implements Answer {
  began: Answer['began'] = 'no'
  gone = false
  readonly streams: boolean
  events = false
  readonly common: Record<string, string> = {}
  readonly #response: ServerResponse
  readonly #clock: Clock
  readonly #limits: Pick<McpLimits, 'keepAliveMs' | 'queueBytes'>
  readonly #watchers: (() => void)[] = []
  #disarm: (() => void) | undefined
  /** Private: put into a public field, the closure and with it all of its request stayed until V8's next full collection. */
  #lastWords: ((why: unknown) => void) | undefined
  #written = 0
  /** small events of this turn of the event loop */
  #held: Buffer[] = []
  #heldBytes = 0

  constructor(request: IncomingMessage, response: ServerResponse, clock: Clock, limits: Pick<McpLimits, 'keepAliveMs' | 'queueBytes'>) {
    this.#response = response
    this.#clock = clock
    this.#limits = limits
    this.streams = /text\/event-stream|\*\/\*/i.test(request.headers.accept ?? '')
    response.once('close', () => {
      this.#disarm?.()
      if (response.writableFinished) return
      this.gone = true
      for (const see of this.#watchers) see()
    })
    response.on('error', () => {})
  }

  get lastWords(): ((why: unknown) => void) | undefined {
    return this.#lastWords
  }

  endWith(lastWords: (why: unknown) => void): void {
    this.#lastWords = lastWords
  }

  /** Something was said on it: of a stream, its beginning. */
  get spoken(): boolean {
    return this.#written > 0
  }

  whenGone(see: () => void): void {
    if (this.gone) see()
    else this.#watchers.push(see)
  }

  send(status: number, body?: string | Buffer, headers: Headers = {}): void {
    if (this.began !== 'no' || this.gone) return
    this.began = 'body'
    const length: Record<string, string> = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
    this.#response.writeHead(status, { ...headers, ...this.common, ...length } as Record<string, string>)
    // One character a byte: with a string, headers and body go out in one write; a Buffer would be a second one.
    if (body instanceof Buffer && body.length <= ONE_WRITE) this.#response.end(body.toString('latin1'), 'latin1')
    else this.#response.end(body)
  }

  begin(status: number, headers: Headers): void {
    if (this.began !== 'no' || this.gone) return
    this.began = 'body'
    this.#response.writeHead(status, { ...headers, ...this.common } as Record<string, string>)
  }

  open(headers: Headers = {}): void {
    if (this.began !== 'no' || this.gone) return
    this.began = 'stream'
    const stream = { 'content-type': 'text/event-stream', 'cache-control': 'no-cache, no-transform', 'x-accel-buffering': 'no' }
    this.#response.writeHead(200, { ...headers, ...stream, ...this.common } as Record<string, string>)
    // With the first events, when those are there already.
    process.nextTick(() => {
      void this.#giveHeld()
      this.#response.flushHeaders()
    })
    this.#keepAlive()
  }

  /** One timer a stream: it looks whether something was written since it last rang. */
  #keepAlive(): void {
    const before = this.#written
    this.#disarm = this.#clock.at(this.#clock.now() + this.#limits.keepAliveMs, () => {
      if (this.gone || this.#response.writableEnded) return
      if (this.#written === before && !this.#response.writableNeedDrain) this.#response.write(':\n\n')
      this.#keepAlive()
    })
  }

  write(chunk: Buffer | string): Promise<void> {
    if (this.gone || this.#response.writableEnded) return Promise.resolve()
    this.#written++
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    if (this.began !== 'stream' || bytes.length > ONE_WRITE || this.#response.writableNeedDrain) {
      void this.#giveHeld()
      return this.#put(bytes)
    }
    // Events that came together go on together: each write by itself would be a TLS record and a system call.
    if (this.#held.length === 0) process.nextTick(() => this.#giveHeld())
    this.#held.push(bytes)
    this.#heldBytes += bytes.length
    return this.#heldBytes > ONE_WRITE ? this.#giveHeld() : Promise.resolve()
  }

  #giveHeld(): Promise<void> {
    if (this.#held.length === 0) return Promise.resolve()
    const bytes = this.#held.length === 1 ? this.#held[0]! : Buffer.concat(this.#held, this.#heldBytes)
    this.#held = []
    this.#heldBytes = 0
    return this.gone || this.#response.writableEnded ? Promise.resolve() : this.#put(bytes)
  }

  #put(bytes: Buffer): Promise<void> {
    if (this.#response.write(bytes)) return Promise.resolve()
    // A child cannot be read more slowly for one slow client: that client is let go instead.
    if (this.#response.writableLength > this.#limits.queueBytes) this.#response.destroy()
    const { promise, resolve } = Promise.withResolvers<void>()
    const go = () => {
      this.#response.off('drain', go)
      this.#response.off('close', go)
      resolve()
    }
    this.#response.once('drain', go)
    this.#response.once('close', go)
    return promise
  }

  end(): void {
    this.#disarm?.()
    void this.#giveHeld()
    if (!this.#response.writableEnded) this.#response.end()
    // Whatever comes later reaches nobody: a question of the server must not be put here and waited for.
    this.gone = true
  }

  break(): void {
    this.#response.destroy()
  }
}

/** Takes an answer into our own hands: for a batch, and for lists that we ask for ourselves. */
export class Collector implements Answer {
  began: Answer['began'] = 'no'
  readonly gone = false
  readonly streams = false
  /** the response, once there is one */
  text: string | undefined
  status = 200
  readonly #maxBytes: number
  readonly #events: ReturnType<typeof sseReader>
  #chunks: Buffer[] = []
  #size = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
    this.#events = sseReader(maxBytes)
  }

  whenGone(): void {}

  send(status: number, body?: string | Buffer): void {
    this.began = 'body'
    this.status = status
    this.text ??= body?.toString()
  }

  begin(): void {
    this.began = 'body'
  }

  open(): void {
    if (this.began === 'no') this.began = 'stream'
  }

  async write(chunk: Buffer | string): Promise<void> {
    const bytes = Buffer.from(chunk)
    this.#size += bytes.length
    if (this.#size > this.#maxBytes) throw new ChaperoneError('too_large', `The server's answer is over ${this.#maxBytes} bytes.`)
    if (this.began === 'stream') {
      for (const event of this.#events.push(bytes)) {
        const message: unknown = event.data === undefined ? undefined : JSON.parse(event.data)
        if (isObject(message) && !('method' in message)) this.text ??= event.data
      }
      return
    }
    this.#chunks.push(bytes)
  }

  end(): void {
    if (this.began === 'body') this.text ??= Buffer.concat(this.#chunks).toString('utf8')
  }

  break(): void {
    this.text = undefined
  }
}
