import { ChaperoneError } from '../../../errors.ts'
import { FROM_CLIENT, WIRE_LIMITS, type WireLimits } from './codes.ts'
import { malformed } from './reader.ts'

/** One whole message, header included. `oversized`: its body was skipped, only its header is here. */
export interface ClientMessage {
  readonly type: number
  readonly frame: Buffer
  readonly oversized: boolean
}

const SMALL_PIECE = 16 * 1024

/**
 * Cuts a client's bytes into messages. Holds at most one incomplete message; a text over its limit is skipped, so that
 * the connection lives on. Throws ChaperoneError (`malformed`, `too_large`) when the stream cannot be followed any more.
 */
export class ClientFramer {
  readonly #limits: WireLimits
  readonly #longest: ReadonlyMap<number, number>
  #chunks: Buffer[] = []
  #held = 0
  #skip = 0

  constructor(limits: WireLimits = WIRE_LIMITS) {
    this.#limits = limits
    const { messageBytes } = limits
    const small = 64 * 1024
    const { bind, close, copyData, copyDone, copyFail, describe, execute, flush, functionCall, parse, password, query, sync, terminate } = FROM_CLIENT
    this.#longest = new Map([
      ...[bind, copyData, parse, query, functionCall].map((type) => [type, messageBytes] as const),
      ...[close, copyDone, copyFail, describe, execute, flush, password, sync, terminate].map((type) => [type, small] as const),
    ])
  }

  /** Bytes held for a message that is not complete. */
  get held(): number {
    return this.#held
  }

  /** In how many. */
  get pieces(): number {
    return this.#chunks.length
  }

  push(chunk: Buffer): void {
    if (this.#skip > 0) {
      const skipped = Math.min(this.#skip, chunk.length)
      this.#skip -= skipped
      chunk = chunk.subarray(skipped)
    }
    if (chunk.length === 0) return
    this.#held += chunk.length
    // A message that comes byte by byte would take a hundred times its size: small pieces become larger ones.
    let last = chunk
    for (let before = this.#chunks.at(-1); before && before.length <= last.length && last.length < SMALL_PIECE; before = this.#chunks.at(-1)) {
      last = Buffer.concat([before, last])
      this.#chunks.pop()
    }
    this.#chunks.push(last)
  }

  next(): ClientMessage | undefined {
    if (this.#held < 5) return undefined
    if (this.#chunks[0]!.length < 5) this.#join()
    const head = this.#chunks[0]!
    const type = head[0]!
    const longest = this.#longest.get(type)
    if (longest === undefined) throw malformed(`type 0x${type.toString(16).padStart(2, '0')} is unknown`)
    const length = head.readInt32BE(1)
    if (length < 4) throw malformed('its length is below four')
    if (length > longest) throw new ChaperoneError('too_large', `A message of ${length} bytes is over the limit of ${longest}.`)
    const whole = length + 1
    const isText = type === FROM_CLIENT.query || type === FROM_CLIENT.parse
    // Parse carries a name and parameter types besides its text.
    if (isText && length > this.#limits.statementBytes * (type === FROM_CLIENT.query ? 1 : 2) + 1024) return this.#skipBody(type, whole)
    if (this.#held < whole) return undefined
    if (head.length < whole) this.#join()
    const first = this.#chunks[0]!
    const frame = first.subarray(0, whole)
    if (first.length === whole) this.#chunks.shift()
    else this.#chunks[0] = first.subarray(whole)
    this.#held -= whole
    return { type, frame, oversized: false }
  }

  #skipBody(type: number, whole: number): ClientMessage {
    this.#join()
    const all = this.#chunks[0]!
    const here = Math.min(whole, all.length)
    this.#skip = whole - here
    this.#chunks = here === all.length ? [] : [all.subarray(here)]
    this.#held -= here
    return { type, frame: all.subarray(0, 5), oversized: true }
  }

  #join(): void {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)]
  }
}
