import type { TLSSocket } from 'node:tls'
import { ChaperoneError } from '../../../errors.ts'

/** Longest message while logging in. Rows of our own questions (a view's definition) may be longer. */
const LONGEST_AT_LOGIN = 64 * 1024

/** Whole messages of a server, one at a time; leaves the socket paused and without listeners of ours. */
export class Frames {
  readonly #socket: TLSSocket
  #chunks: Buffer[] = []
  #held = 0

  constructor(socket: TLSSocket) {
    this.#socket = socket
  }

  /** What came after the last message that was taken. */
  get rest(): Buffer {
    return this.#whole()
  }

  /** Throws ChaperoneError when the server ends, or sends a message over `longest` bytes; what `signal` says when it fires. */
  async next(signal: AbortSignal, longest = LONGEST_AT_LOGIN): Promise<Buffer> {
    for (;;) {
      if (this.#held >= 5) {
        if (this.#chunks[0]!.length < 5) this.#whole()
        const size = this.#chunks[0]!.readInt32BE(1) + 1
        if (size < 5 || size > longest) throw new ChaperoneError('malformed', 'The database sent a message that cannot be read.')
        if (this.#held >= size) {
          const bytes = this.#chunks[0]!.length < size ? this.#whole() : this.#chunks[0]!
          if (bytes.length === size) this.#chunks.shift()
          else this.#chunks[0] = bytes.subarray(size)
          this.#held -= size
          return bytes.subarray(0, size)
        }
      }
      const chunk = this.#socket.read() as Buffer | null
      if (chunk) {
        this.#chunks.push(chunk)
        this.#held += chunk.length
      } else if (this.#socket.readableEnded || this.#socket.destroyed)
        throw new ChaperoneError('upstream_unavailable', 'The database closed the connection.')
      else await this.#more(signal)
    }
  }

  #whole(): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks)
    this.#chunks = all.length === 0 ? [] : [all]
    return all
  }

  async #more(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const wake = () => resolve()
    const stop = () => reject(signal.reason)
    const events = ['readable', 'end', 'close']
    for (const event of events) this.#socket.on(event, wake)
    signal.addEventListener('abort', stop)
    try {
      await promise
    } finally {
      for (const event of events) this.#socket.off(event, wake)
      signal.removeEventListener('abort', stop)
    }
  }
}
