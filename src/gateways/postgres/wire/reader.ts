import { isUtf8 } from 'node:buffer'
import { ChaperoneError } from '../../../errors.ts'

export const malformed = (what: string) => new ChaperoneError('malformed', `The PostgreSQL message cannot be read: ${what}.`)

/**
 * NAMEDATALEN: what follows it the server does not look at, neither here nor in SQL. Two longer names could be one there and two
 * here, and what was judged under the one would be run under the other.
 */
const LONGEST_NAME = 63

/** type and length, before the body of a message */
export const HEADER = 5

/** Reads one frame from front to back. Throws `malformed` at the first thing that is not as it must be. */
export class Reader {
  readonly #bytes: Buffer
  #at: number

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes
    this.#at = at
  }

  int16(): number {
    this.#need(2)
    this.#at += 2
    return this.#bytes.readInt16BE(this.#at - 2)
  }

  /** A count: the server takes all 16 bits for it, so 65,535 parameters are possible. */
  count(): number {
    return this.int16() & 0xffff
  }

  int32(): number {
    this.#need(4)
    this.#at += 4
    return this.#bytes.readInt32BE(this.#at - 4)
  }

  byte(): number {
    this.#need(1)
    return this.#bytes[this.#at++]!
  }

  bytes(length: number): Buffer {
    this.#need(length)
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  text(): string {
    const end = this.#bytes.indexOf(0, this.#at)
    if (end < 0) throw malformed('a text has no end')
    const bytes = this.#bytes.subarray(this.#at, end)
    if (!isUtf8(bytes)) throw malformed('a text is not UTF-8')
    this.#at = end + 1
    return bytes.toString('utf8')
  }

  /** Of a prepared statement or a portal. */
  name(): string {
    const from = this.#at
    const name = this.text()
    if (this.#at - from - 1 > LONGEST_NAME)
      throw new ChaperoneError('unsupported', `The name of a prepared statement or portal is longer than ${LONGEST_NAME} bytes.`, {
        fix: 'Give it a shorter name.',
      })
    return name
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw malformed('something follows its end')
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  #need(length: number): void {
    if (length < 0 || this.#at + length > this.#bytes.length) throw malformed('it ends too early')
  }
}
