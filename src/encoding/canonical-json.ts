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
  // Most objects are made with their keys in the same few orders; a look costs less than a sort.
  for (let i = 1; i < keys.length; i++) {
    if (keys[i - 1]! > keys[i]!) {
      keys.sort(byCodeUnits)
      break
    }
  }
  let text = '{'
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!
    text += `${(i === 0 ? '' : ',') + quote(key)}:${write((object as Record<string, unknown>)[key], depth)}`
  }
  return `${text}}`
}

/** RFC 8785 section 3.2.3 sorts by UTF-16 code units, which is how JavaScript compares strings. */
const byCodeUnits = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
