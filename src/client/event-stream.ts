import { ChaperoneError } from '../errors.ts'

/** One event of a `text/event-stream` (WHATWG HTML, server-sent events). */
export interface StreamEvent {
  readonly data: string
  /** its name, where it is not a plain `message` */
  readonly event?: string
  readonly id?: string
  /** ms to wait before reconnecting, when the server said so */
  readonly retry?: number
}

const BIGGEST_EVENT = 32 * 1024 * 1024

/** Feeds bytes in, gets events out. Keeps at most one unfinished event; a larger one is refused. */
export class EventStreamReader {
  #decoder = new TextDecoder('utf-8', { fatal: true })
  #text = ''
  #data: string[] = []
  #size = 0
  #id: string | undefined
  #retry: number | undefined
  #event: string | undefined
  /** a line feed that begins the next chunk belongs to the carriage return that ended this one */
  #skipLineFeed = false

  push(chunk: Uint8Array): StreamEvent[] {
    let text: string
    try {
      text = this.#decoder.decode(chunk, { stream: true })
    } catch (cause) {
      throw new ChaperoneError('malformed', 'The stream is not UTF-8.', { cause })
    }
    if (this.#skipLineFeed && text.startsWith('\n')) text = text.slice(1)
    if (text !== '') this.#skipLineFeed = text.endsWith('\r')
    this.#text += text
    if (this.#text.length + this.#size > BIGGEST_EVENT) throw new ChaperoneError('too_large', 'An event of the stream is over its limit.')
    // A large result comes in many chunks of one line: splitting at each would cost the square of its size.
    if (!/[\r\n]/.test(text)) return []
    const lines = this.#text.split(/\r\n|\r|\n/)
    this.#text = lines.pop() ?? ''
    const events: StreamEvent[] = []
    for (const line of lines) {
      const event = this.#line(line)
      if (event) events.push(event)
    }
    return events
  }

  #line(line: string): StreamEvent | undefined {
    if (line === '') return this.#finish()
    const colon = line.indexOf(':')
    if (colon === 0) return undefined
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'data') {
      this.#data.push(value)
      this.#size += value.length
    } else if (field === 'event') this.#event = value === '' ? undefined : value
    else if (field === 'id' && !value.includes('\0')) this.#id = value
    else if (field === 'retry' && /^\d{1,9}$/.test(value)) this.#retry = Number(value)
    return undefined
  }

  #finish(): StreamEvent | undefined {
    const event = {
      data: this.#data.join('\n'),
      ...(this.#event === undefined ? {} : { event: this.#event }),
      ...(this.#id === undefined ? {} : { id: this.#id }),
      ...(this.#retry === undefined ? {} : { retry: this.#retry }),
    }
    const empty = this.#data.length === 0 && this.#id === undefined && this.#retry === undefined
    this.#data = []
    this.#size = 0
    this.#id = undefined
    this.#retry = undefined
    this.#event = undefined
    return empty ? undefined : event
  }
}
