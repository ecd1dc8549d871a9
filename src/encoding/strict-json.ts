import { isUtf8 } from 'node:buffer'
import { ChaperoneError } from '../errors.ts'
import { lossyNumbers } from './lossy-numbers.ts'

export interface Limits {
  /** default 1 MiB */
  readonly maxBytes?: number
  /** arrays and objects inside each other, default 64, never over 512 */
  readonly maxDepth?: number
}

export interface Parsed {
  readonly value: unknown
  /** JSON pointers (RFC 6901) of numbers whose decimal value a double does not keep. */
  readonly lossy: ReadonlySet<string>
}

const DEFAULT_BYTES = 1_048_576
const DEFAULT_DEPTH = 64
/** The walks below recurse; this keeps them far from the end of the stack. */
const DEEPEST = 512

const NOTHING_LOST: ReadonlySet<string> = new Set()

/**
 * One parse for what is judged and forwarded (rule 2): refuses every text that another parser may read differently.
 *
 * `too_large`: over `maxBytes` or `maxDepth`. `ambiguous`: duplicate keys however they are written (RFC 8259 section 4 leaves
 * their meaning open), a `__proto__` key, half a surrogate pair. `malformed`: anything else that is not one JSON text in UTF-8.
 *
 * JSON.parse does the reading, because nothing written in JavaScript is as fast. What it forgives is found by counting:
 * it keeps one of two equal keys, so the keys in its value are then fewer than those in the text.
 */
export function parseStrict(input: Uint8Array | string, limits: Limits = {}): Parsed {
  const maxBytes = limits.maxBytes ?? DEFAULT_BYTES
  const text = typeof input === 'string' ? checkText(input, maxBytes) : decode(input, maxBytes)
  const seen = scan(text, Math.min(limits.maxDepth ?? DEFAULT_DEPTH, DEEPEST))
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new ChaperoneError('malformed', 'The message is not JSON.', { detail: error instanceof Error ? error.message : '', cause: error })
  }
  if (seen.keys > 0 && countKeys(value) !== seen.keys) throw ambiguous('a key stands twice in one object')
  // Only an escape can bring half a surrogate pair or a disguised `__proto__` into text that was well formed.
  if (seen.escapes || text.includes('"__proto__"')) refuseOddStrings(value)
  return { value, lossy: seen.longNumbers ? lossyNumbers(text) : NOTHING_LOST }
}

const malformed = (why: string) => new ChaperoneError('malformed', `The message is not JSON: ${why}.`)
const ambiguous = (why: string) => new ChaperoneError('ambiguous', `The message could be read in two ways: ${why}.`)

function checkText(text: string, maxBytes: number): string {
  // A UTF-16 unit is one to three bytes of UTF-8, so most texts need no counting.
  if (text.length > maxBytes || (text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes)) throw tooLarge(maxBytes)
  if (!text.isWellFormed()) throw malformed('it holds half a character')
  if (text.charCodeAt(0) === 0xfeff) throw malformed('it begins with a byte order mark')
  return text
}

function decode(bytes: Uint8Array, maxBytes: number): string {
  if (bytes.length > maxBytes) throw tooLarge(maxBytes)
  if (!isUtf8(bytes)) throw malformed('it is not UTF-8')
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) throw malformed('it begins with a byte order mark')
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return buffer.toString('utf8')
}

const tooLarge = (maxBytes: number) => new ChaperoneError('too_large', `The message is over ${maxBytes} bytes.`)

interface Seen {
  /** how many keys the text writes */
  readonly keys: number
  /** a backslash-u somewhere */
  readonly escapes: boolean
  /** a number with an exponent, or too long to be surely kept */
  readonly longNumbers: boolean
}

const QUOTE = 34
const COLON = 58
const BACKSLASH = 92

/** One pass over the text outside its strings. It may be no JSON at all: then the counts mean nothing, and JSON.parse refuses. */
function scan(text: string, maxDepth: number): Seen {
  let depth = 0
  let keys = 0
  let longNumbers = false
  const end = text.length
  for (let i = 0; i < end; i++) {
    const unit = text.charCodeAt(i)
    if (unit === QUOTE) {
      i = endOfString(text, i + 1)
    } else if (unit === COLON) {
      keys++
    } else if (unit === 0x7b || unit === 0x5b) {
      if (++depth > maxDepth) throw new ChaperoneError('too_large', `The message is nested deeper than ${maxDepth}.`)
    } else if (unit === 0x7d || unit === 0x5d) {
      depth--
    } else if (unit >= 0x30 && unit <= 0x39) {
      const start = i
      let exponent = false
      for (; i + 1 < end; i++) {
        const next = text.charCodeAt(i + 1)
        if (next >= 0x30 && next <= 0x39) continue
        if (next === 0x65 || next === 0x45) exponent = true
        else if (next !== 0x2e && next !== 0x2b && next !== 0x2d) break
      }
      // 15 significant digits always survive a double (DBL_DIG).
      if (exponent || i - start >= 15) longNumbers = true
    }
  }
  return { keys, escapes: text.includes('\\u'), longNumbers }
}

/** Index of the quote that ends the string whose content begins at `from`, or the last index of the text. */
function endOfString(text: string, from: number): number {
  for (let at = from; ; at++) {
    at = text.indexOf('"', at)
    if (at < 0) return text.length
    let slashes = 0
    while (text.charCodeAt(at - 1 - slashes) === BACKSLASH) slashes++
    if (slashes % 2 === 0) return at
  }
}

function countKeys(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  let count = 0
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) if (typeof value[i] === 'object') count += countKeys(value[i])
    return count
  }
  for (const key in value) {
    count++
    const item = (value as Record<string, unknown>)[key]
    if (typeof item === 'object') count += countKeys(item)
  }
  return count
}

function refuseOddStrings(value: unknown): void {
  if (typeof value === 'string') {
    if (!value.isWellFormed()) throw ambiguous('a string holds half a surrogate pair')
  } else if (Array.isArray(value)) {
    for (const item of value) refuseOddStrings(item)
  } else if (typeof value === 'object' && value !== null) {
    for (const key of Object.keys(value)) {
      // Some readers set the prototype with it instead of a key.
      if (key === '__proto__') throw ambiguous('a key is named __proto__')
      refuseOddStrings(key)
      refuseOddStrings((value as Record<string, unknown>)[key])
    }
  }
}
