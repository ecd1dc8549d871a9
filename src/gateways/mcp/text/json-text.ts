import { ChaperoneError } from '../../../errors.ts'

/**
 * Exact edits of JSON text: what a rule does not ask to change keeps its very bytes (rules 2 and 10). Numbers over 2^53,
 * the order of keys and unknown fields survive, because nothing is parsed and written again.
 *
 * The text must be well-formed JSON; where it is not, functions throw ChaperoneError('malformed') or find nothing.
 */
export interface Span {
  readonly start: number
  /** one past the last character */
  readonly end: number
}

export interface Edit extends Span {
  readonly text: string
}

const malformed = () => new ChaperoneError('malformed', 'The JSON text is not well-formed.')

const QUOTE = 34
const BACKSLASH = 92
const isSpace = (code: number) => code === 32 || code === 10 || code === 13 || code === 9

function skipSpace(text: string, at: number): number {
  let i = at
  while (isSpace(text.charCodeAt(i))) i++
  return i
}

/** One past the string that opens at `at`. Counting backslashes backwards keeps this linear: their runs never overlap. */
function skipString(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let back = end - 1
    while (text.charCodeAt(back) === BACKSLASH) back--
    if ((end - back) % 2 === 1) return end + 1
  }
  throw malformed()
}

/** One past the value that begins at `at`. */
function skipValue(text: string, at: number): number {
  const first = text[at]
  if (first === '"') return skipString(text, at)
  if (first !== '{' && first !== '[') {
    let i = at
    while (i < text.length && !',]}'.includes(text[i]!) && !isSpace(text.charCodeAt(i))) i++
    if (i === at) throw malformed()
    return i
  }
  let depth = 0
  for (let i = at; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === QUOTE) i = skipString(text, i) - 1
    else if (code === 123 || code === 91) depth++
    else if ((code === 125 || code === 93) && --depth === 0) return i + 1
  }
  throw malformed()
}

/** Calls `see` with each value of the object or array at `at`, in order. Returns one past its end. */
function walk(text: string, at: number, open: '{' | '[', see: (value: Span, key: string) => void): number {
  const close = open === '{' ? '}' : ']'
  if (text[at] !== open) throw malformed()
  let i = skipSpace(text, at + 1)
  if (text[i] === close) return i + 1
  for (;;) {
    let key = ''
    if (open === '{') {
      if (text[i] !== '"') throw malformed()
      const end = skipString(text, i)
      key = decode(text.slice(i, end))
      i = skipSpace(text, end)
      if (text[i] !== ':') throw malformed()
      i = skipSpace(text, i + 1)
    }
    const end = skipValue(text, i)
    see({ start: i, end }, key)
    i = skipSpace(text, end)
    if (text[i] === close) return i + 1
    if (text[i] !== ',') throw malformed()
    i = skipSpace(text, i + 1)
  }
}

function decode(literal: string): string {
  if (!literal.includes('\\')) return literal.slice(1, -1)
  try {
    return JSON.parse(literal) as string
  } catch {
    throw malformed()
  }
}

/** The members of the object that begins at or after `at`. A key that stands there twice throws ChaperoneError('ambiguous'). */
export function membersOf(text: string, at = 0): Map<string, Span> {
  const members = new Map<string, Span>()
  walk(text, skipSpace(text, at), '{', (span, key) => {
    if (members.has(key)) throw new ChaperoneError('ambiguous', `The key ${JSON.stringify(key.slice(0, 64))} stands there twice.`)
    members.set(key, span)
  })
  return members
}

/** The items of the array that begins at or after `at`. */
export function itemsOf(text: string, at = 0): Span[] {
  const items: Span[] = []
  walk(text, skipSpace(text, at), '[', (span) => {
    items.push(span)
  })
  return items
}

/** The value at a path of keys, from the object that begins at or after `at`. Undefined when it is not there. */
export function spanAt(text: string, path: readonly string[], at = 0): Span | undefined {
  let here: Span = { start: skipSpace(text, at), end: text.length }
  for (const key of path) {
    if (text[here.start] !== '{') return undefined
    const next = membersOf(text, here.start).get(key)
    if (!next) return undefined
    here = next
  }
  return here
}

/** The text with all edits made. They must not overlap. */
export function edited(text: string, edits: readonly Edit[]): string {
  if (edits.length === 0) return text
  let out = ''
  let from = 0
  for (const edit of [...edits].sort((a, b) => a.start - b.start)) {
    out += text.slice(from, edit.start) + edit.text
    from = edit.end
  }
  return out + text.slice(from)
}

/** Puts members at the end of the object `parent`: JSON texts such as `"a":1`, joined with commas. Their keys must not be there. */
export function appending(text: string, parent: Span, members: string): Edit {
  const empty = membersOf(text, parent.start).size === 0
  return { start: parent.end - 1, end: parent.end - 1, text: empty ? members : `,${members}` }
}

/** The text without the member at this path of keys; the same text when it is not there. */
export function without(text: string, path: readonly string[]): string {
  const parent = spanAt(text, path.slice(0, -1))
  if (!parent || text[parent.start] !== '{') return text
  const members = [...membersOf(text, parent.start)]
  const at = members.findIndex(([key]) => key === path.at(-1))
  if (at === -1) return text
  const [, value] = members[at]!
  // With the comma before it, or, for the first, the one behind it.
  if (at > 0) return edited(text, [{ start: members[at - 1]![1].end, end: value.end, text: '' }])
  const behind = skipSpace(text, value.end)
  return edited(text, [{ start: parent.start + 1, end: text[behind] === ',' ? behind + 1 : behind, text: '' }])
}

/**
 * The object that begins at or after `at`, with members put in the place of their namesakes or at its end, and others left
 * out. What stays keeps its order, and its value its bytes. `put` holds JSON text.
 */
export function remade(text: string, put: Readonly<Record<string, string>>, drop: (key: string) => boolean = () => false, at = 0): string {
  const members: string[] = []
  const added = new Map(Object.entries(put))
  for (const [key, span] of membersOf(text, at)) {
    const value = added.get(key) ?? (drop(key) ? undefined : text.slice(span.start, span.end))
    added.delete(key)
    if (value !== undefined) members.push(`${JSON.stringify(key)}:${value}`)
  }
  for (const [key, value] of added) members.push(`${JSON.stringify(key)}:${value}`)
  return `{${members.join(',')}}`
}

/** The same JSON on one line: a raw line break can only stand between tokens, never inside a string. */
export function onOneLine(text: string): string {
  return /[\r\n]/.test(text) ? text.replace(/[\r\n]+/g, ' ') : text
}
