import { ChaperoneError } from '../errors.ts'

/** Deeper is refused: also what ends a cycle. */
const MAX_DEPTH = 128

/** Text that needs no escape and holds no surrogate: most strings, told by one pass of a compiled regex. */
const NEEDS_CARE = /[\u0000-\u001f"\\\ud800-\udfff]/

/**
 * The one byte form of a JSON value (RFC 8785): what is hashed, signed and compared. Throws ChaperoneError('malformed')
 * for what JSON cannot say: undefined, non-finite numbers, lone surrogates, bigint, functions, symbols, and objects that are not plain.
 */
export function canonicalJson(value: unknown): string {
  return write(value, 0)
}

const refuse = (what: string) => new ChaperoneError('malformed', `The value cannot be written as canonical JSON: ${what}.`)

function write(value: unknown, depth: number): string {
  switch (typeof value) {
    case 'string':
      return quote(value)
    case 'number':
      // ECMAScript's own form is the one of RFC 8785 section 3.2.2.3, -0 included.
      if (!Number.isFinite(value)) throw refuse('a number is not finite')
      return `${value}`
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      if (depth >= MAX_DEPTH) throw refuse(`it is nested deeper than ${MAX_DEPTH}, or in itself`)
      return Array.isArray(value) ? writeArray(value, depth + 1) : writeObject(value, depth + 1)
    default:
      throw refuse(`${typeof value} is not JSON`)
  }
}

function quote(text: string): string {
  if (!NEEDS_CARE.test(text)) return `"${text}"`
  if (!text.isWellFormed()) throw refuse('a string holds a lone surrogate')
  return JSON.stringify(text)
}

function writeArray(items: readonly unknown[], depth: number): string {
  let text = '['
  for (let i = 0; i < items.length; i++) text += (i === 0 ? '' : ',') + write(items[i], depth)
  return `${text}]`
}

function writeObject(object: object, depth: number): string {
  const prototype = Object.getPrototypeOf(object)
  // A Date, Map or Uint8Array would come out as something that looks right and is not.
  if (prototype !== Object.prototype && prototype !== null) throw refuse('an object is not plain')
  const keys = Object.keys(object)
  sort(keys)
  let text = '{'
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!
    if (i > 0) text += ','
    text += quoteKey(key)
    text += write((object as Record<string, unknown>)[key], depth)
  }
  return `${text}}`
}

/**
 * RFC 8785 section 3.2.3 sorts by UTF-16 code units, which is how JavaScript compares strings. Few keys are sorted by
 * hand: the built-in sort costs more to start than they cost to move.
 */
function sort(keys: string[]): void {
  if (keys.length > 24) {
    keys.sort()
    return
  }
  for (let i = 1; i < keys.length; i++) {
    const key = keys[i]!
    let at = i - 1
    for (; at >= 0 && keys[at]! > key; at--) keys[at + 1] = keys[at]!
    keys[at + 1] = key
  }
}

/** The same few keys come again and again: `"key":` by key. Emptied when full, for keys that others choose. */
const quotedKeys = new Map<string, string>()
const MOST_KEYS = 2000
const LONGEST_KEY = 40

function quoteKey(key: string): string {
  const known = quotedKeys.get(key)
  if (known !== undefined) return known
  const quoted = `${quote(key)}:`
  if (key.length <= LONGEST_KEY) {
    if (quotedKeys.size >= MOST_KEYS) quotedKeys.clear()
    quotedKeys.set(key, quoted)
  }
  return quoted
}
