import { ChaperoneError } from '../errors.ts'

/** Long enough for a URI with a few wildcards; the time of a match grows with the longest piece between two stars. */
const LONGEST_PATTERN = 1024

/** One part of a glob: literal text, one character (`?`), or any run of characters (`*`). */
export type GlobPart = { readonly literal: string } | '?' | '*'

export function isGlob(text: string): boolean {
  return text.includes('*') || text.includes('?')
}

const bad = (pattern: string, why: string, fix: string) =>
  new ChaperoneError('invalid_document', `${JSON.stringify(pattern.slice(0, 80))} is not a pattern: ${why}.`, { fix })

/**
 * Refuses what looks like another pattern language. Read as plain text it would silently match nothing, and a deny rule
 * that matches nothing is an open door (peers R28).
 */
export function assertPattern(pattern: string): void {
  if (typeof pattern !== 'string' || pattern === '') throw bad(String(pattern), 'it is empty', 'Write a name, or a pattern with * and ?.')
  if (pattern.length > LONGEST_PATTERN) throw bad(pattern, `it is over ${LONGEST_PATTERN} characters`, 'Write a shorter pattern.')
  if (pattern.includes('\0') || !pattern.isWellFormed()) throw bad(pattern, 'it holds a NUL or half a character', 'Write plain text with * and ?.')
  if (pattern.includes('**')) throw bad(pattern, '* already crosses every character, / included', 'Write one *.')
  if (pattern.startsWith('^') && pattern.endsWith('$')) throw bad(pattern, 'regular expressions are not read here', 'Use * and ?, or a list.')
  if (/\[.*\]|\{.*\}/s.test(pattern)) throw bad(pattern, 'only * and ? are wildcards', 'Write the alternatives as a list, or use `where`.')
}

/** The parts of a pattern. Throws ChaperoneError('invalid_document') for a bad one. */
export function parseGlob(pattern: string): GlobPart[] {
  assertPattern(pattern)
  const parts: GlobPart[] = []
  for (const piece of pattern.split(/([*?])/)) {
    if (piece === '*' || piece === '?') parts.push(piece)
    else if (piece !== '') parts.push({ literal: piece })
  }
  return parts
}

/**
 * Whether the parts cover the whole text. Only the last `*` is ever taken back (what earlier stars took never needs to
 * change), so the time is at most text length times the longest run between two stars: no pattern makes it explode.
 */
export function matchGlob(parts: readonly GlobPart[], text: string): boolean {
  let at = 0
  let part = 0
  let starPart = -1
  let starAt = 0
  while (part < parts.length || at < text.length) {
    const now = parts[part]
    if (now === '*') {
      starPart = part++
      starAt = at
      if (part === parts.length) return true
      continue
    }
    if (now === '?' && at < text.length) {
      at += width(text, at)
      part++
      continue
    }
    if (typeof now === 'object' && text.startsWith(now.literal, at)) {
      at += now.literal.length
      part++
      continue
    }
    if (starPart < 0 || starAt >= text.length) return false
    const next = parts[starPart + 1]
    starAt += width(text, starAt)
    if (typeof next === 'object') {
      starAt = text.indexOf(next.literal, starAt)
      if (starAt < 0) return false
    }
    at = starAt
    part = starPart + 1
  }
  return true
}

/** A character outside the BMP is two units, and one `?`. */
function width(text: string, at: number): number {
  const unit = text.charCodeAt(at)
  return unit >= 0xd800 && unit <= 0xdbff && at + 1 < text.length ? 2 : 1
}

/** The pattern as a function: `*` is any run of characters (also none, also `/`), `?` is one. Throws ChaperoneError('invalid_document') for a bad pattern. */
export function compileGlob(pattern: string): (text: string) => boolean {
  const parts = parseGlob(pattern)
  const [first, second] = parts
  // The three commonest forms without the loop: `name`, `*`, `prefix*`.
  if (parts.length === 1 && typeof first === 'object') return (text) => text === first.literal
  if (parts.length === 1 && first === '*') return () => true
  if (parts.length === 2 && typeof first === 'object' && second === '*') return (text) => text.startsWith(first.literal)
  return (text) => matchGlob(parts, text)
}
