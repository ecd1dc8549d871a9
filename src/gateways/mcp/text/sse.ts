import { ChaperoneError } from '../../../errors.ts'

/** One event of a text/event-stream: the bytes as they came, and what they say. */
export interface SseEvent {
  readonly raw: Buffer
  /** undefined: a comment, a `retry`, or a priming event without data */
  readonly data: string | undefined
  /** what its `event` field names; undefined: a message */
  readonly name: string | undefined
  readonly id: string | undefined
  /** False when a field is there that we do not know: it could be one that the client does. */
  readonly plain: boolean
}

const LF = 10
const CR = 13

/**
 * Cuts a byte stream into events without decoding more than one at a time. An event over `maxBytes` throws
 * ChaperoneError('too_large'): a server that never ends an event must not fill our memory.
 */
export function sseReader(maxBytes: number): { push(chunk: Buffer): SseEvent[]; readonly pending: number } {
  let parts: Buffer[] = []
  let size = 0
  let lineEmpty = true
  let afterCr = false
  let first = true

  const finish = (): SseEvent => {
    const raw = parts.length === 1 ? parts[0]! : Buffer.concat(parts)
    parts = []
    size = 0
    const event = readEvent(raw, first)
    first = false
    return event
  }

  return {
    get pending() {
      return size
    },
    push(chunk) {
      const events: SseEvent[] = []
      let start = 0
      for (let i = 0; i < chunk.length; i++) {
        const byte = chunk[i]
        if (byte === LF && afterCr) {
          // The second half of CRLF ends no further line; it belongs to what stands before it.
          afterCr = false
          continue
        }
        afterCr = byte === CR
        if (byte !== LF && byte !== CR) {
          lineEmpty = false
          continue
        }
        if (!lineEmpty) {
          lineEmpty = true
          continue
        }
        const end = byte === CR && chunk[i + 1] === LF ? i + 2 : i + 1
        parts.push(chunk.subarray(start, end))
        start = end
        events.push(finish())
      }
      if (start < chunk.length) {
        size += chunk.length - start
        if (size > maxBytes) throw new ChaperoneError('too_large', `An event of the server is over ${maxBytes} bytes.`)
        parts.push(chunk.subarray(start))
      }
      return events
    },
  }
}

const KNOWN = new Set(['data', 'event', 'id', 'retry', ''])

function readEvent(raw: Buffer, first: boolean): SseEvent {
  let text = raw.toString('utf8')
  // The stream's readers drop a byte order mark, so what follows it is a field for them.
  if (first && text.charCodeAt(0) === 0xfeff) text = text.slice(1)
  let data: string | undefined
  let id: string | undefined
  let name: string | undefined
  let plain = true
  for (const line of text.split(/\r\n|\n|\r/)) {
    if (line === '') continue
    const colon = line.indexOf(':')
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'data') data = data === undefined ? value : `${data}\n${value}`
    else if (field === 'id') id = value
    else if (field === 'event') name = value === '' ? undefined : value
    else if (!KNOWN.has(field)) plain = false
  }
  return { raw, data: data === '' ? undefined : data, name, id, plain }
}

/** An event with this JSON text, which must stand on one line. */
export function sseEvent(json: string, id?: string): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: message\ndata: ${json}\n\n`
}
