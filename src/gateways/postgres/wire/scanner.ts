import { ChaperoneError } from '../../../errors.ts'
import { FROM_SERVER } from './codes.ts'

/**
 * What becomes of a message of the server: it goes on, it does not, or these bytes go in its place. `whole`: it is held and
 * asked about once more, when all of it is here (rows, copy data and descriptions only; the others always come whole).
 */
export type Passage = 'keep' | 'drop' | 'whole' | Buffer

export interface ServerVisitor {
  /**
   * Called once a message, in order: for the small ones that steer (ready, errors, completions ...) with the whole
   * frame, for data (rows, copy data, descriptions) with its type only, when its header is here.
   * `size` is of the whole message, with its header.
   */
  see(type: number, frame: Buffer | undefined, size: number): Passage
  /** Bytes for the client, in order. Never copied: parts of the chunks that came in. */
  emit(bytes: Buffer): void
}

/** Forwarded as they flow by. All others are held until they are whole, so that they can be judged or replaced. */
const STREAMED = new Set<number>([FROM_SERVER.dataRow, FROM_SERVER.copyData, FROM_SERVER.rowDescription, FROM_SERVER.parameterDescription])
const KNOWN = new Set<number>(Object.values(FROM_SERVER))

/** An error or notice may quote a whole statement and a stack of contexts, but not more than this. */
const LONGEST_HELD = 16 * 1024 * 1024

/**
 * Walks over a server's bytes by the headers alone. Rows are neither copied nor parsed: measured, the walk costs less than
 * a pipe of its own (engineering.md B.4). Throws ChaperoneError('malformed') when the stream cannot be followed.
 */
export class ServerScanner {
  /** bytes left of the message that flows by */
  #left = 0
  #passage: Passage = 'keep'
  /** a header or a message that is not whole yet */
  #held: Buffer[] = []
  #heldBytes = 0
  /** What is held is a message that flows by otherwise, and was asked for whole. */
  #whole = false

  /** True when a part of a message has been forwarded and the rest has not come: nothing may be written in between. */
  get midMessage(): boolean {
    return this.#left > 0 && this.#passage === 'keep'
  }

  push(input: Buffer, visitor: ServerVisitor): void {
    let chunk = input
    if (this.#heldBytes > 0) {
      this.#held.push(chunk)
      this.#heldBytes += chunk.length
      if (this.#heldBytes < this.#wanted()) return
      chunk = Buffer.concat(this.#held)
      this.#held = []
      this.#heldBytes = 0
    }
    let at = 0
    /** start of the bytes that go on and were not emitted yet */
    let run = 0
    if (this.#left > 0) {
      const here = Math.min(this.#left, chunk.length)
      this.#left -= here
      at = here
      if (this.#passage !== 'keep') run = here
    }
    const flush = (end: number) => {
      if (end > run) visitor.emit(run === 0 && end === chunk.length ? chunk : chunk.subarray(run, end))
    }
    while (at + 5 <= chunk.length) {
      const type = chunk[at]!
      const size = messageSize(chunk, at)
      if (STREAMED.has(type) && !this.#whole) {
        const passage = visitor.see(type, undefined, size)
        if (passage === 'whole') {
          if (size > LONGEST_HELD) throw tooLarge(type, size)
          this.#whole = true
          continue
        }
        const end = at + size
        if (passage !== 'keep') {
          flush(at)
          run = Math.min(end, chunk.length)
          if (typeof passage !== 'string') visitor.emit(passage)
        }
        if (end > chunk.length) {
          this.#left = end - chunk.length
          this.#passage = passage
        }
        at = Math.min(end, chunk.length)
        continue
      }
      if (at + size > chunk.length) break
      this.#whole = false
      const passage = visitor.see(type, chunk.subarray(at, at + size), size)
      if (passage !== 'keep') {
        flush(at)
        run = at + size
        if (typeof passage !== 'string') visitor.emit(passage)
      }
      at += size
    }
    flush(at)
    if (at < chunk.length) {
      this.#held = [chunk.subarray(at)]
      this.#heldBytes = chunk.length - at
    }
  }

  #wanted(): number {
    const first = this.#held[0]!
    if (first.length >= 5) return messageSize(first, 0)
    if (this.#heldBytes < 5) return 5
    this.#held = [Buffer.concat(this.#held)]
    const joined = this.#held[0]!
    // A message that flows by need not be whole.
    return STREAMED.has(joined[0]!) && !this.#whole ? 5 : messageSize(joined, 0)
  }
}

function messageSize(chunk: Buffer, at: number): number {
  const type = chunk[at]!
  const length = chunk.readInt32BE(at + 1)
  if (!KNOWN.has(type) || length < 4)
    throw new ChaperoneError('malformed', 'The database sent a message that cannot be read.', { detail: `type ${type}, length ${length}` })
  if (!STREAMED.has(type) && length > LONGEST_HELD) throw tooLarge(type, length)
  return length + 1
}

const tooLarge = (type: number, length: number) =>
  new ChaperoneError('too_large', 'The database sent a message over the limit.', { detail: `type ${type}, length ${length}` })
