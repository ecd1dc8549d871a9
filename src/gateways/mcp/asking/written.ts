import { ODD_SPACE, UNSEEN } from '../../../encoding/unseen.ts'
import { itemsOf, membersOf, type Span } from '../text/json-text.ts'

/**
 * One form of a JSON value, whatever its spaces, escapes and order of keys: what an approval is bound to. Numbers stay as
 * they are written: of 1 and 1.0, or of two over 2^53, a server may make different things where a double makes one.
 */
export function boundForm(text: string, { start, end }: Span): string {
  switch (text[start]) {
    case '{': {
      const members = [...membersOf(text, start)].sort(([a], [b]) => (a < b ? -1 : 1))
      return `{${members.map(([key, span]) => `${JSON.stringify(key)}:${boundForm(text, span)}`).join(',')}}`
    }
    case '[':
      return `[${itemsOf(text, start)
        .map((span) => boundForm(text, span))
        .join(',')}]`
    case '"':
      return JSON.stringify(JSON.parse(text.slice(start, end)))
    default:
      return text.slice(start, end)
  }
}

/**
 * The same value for a person to read: indented, in its own order, numbers as they are written. What shows nothing or turns
 * the direction of what follows stands there as its escape: what is read must be what will run (rule 12).
 */
export function readableForm(text: string, { start, end }: Span, indent = ''): string {
  const inner = `${indent}  `
  const block = (open: string, parts: readonly string[], close: string) =>
    parts.length === 0 ? open + close : `${open}\n${parts.map((part) => inner + part).join(',\n')}\n${indent}${close}`
  switch (text[start]) {
    case '{':
      return block(
        '{',
        [...membersOf(text, start)].map(([key, span]) => `${shownString(key)}: ${readableForm(text, span, inner)}`),
        '}',
      )
    case '[':
      return block(
        '[',
        itemsOf(text, start).map((span) => readableForm(text, span, inner)),
        ']',
      )
    case '"':
      return shownString(JSON.parse(text.slice(start, end)) as string)
    default:
      return text.slice(start, end)
  }
}

const HIDDEN = new RegExp(`${UNSEEN.source}|${ODD_SPACE.source}`, 'gv')

const escaped = (character: string) => [...character].map(unitsOf).join('')
const unitsOf = (point: string) => Array.from({ length: point.length }, (_, i) => `\\u${point.charCodeAt(i).toString(16).padStart(4, '0')}`).join('')

const shownString = (value: string): string => JSON.stringify(value).replace(HIDDEN, escaped)

/** A name or sentence that somebody else wrote, on its own line. */
export const plainly = (text: string): string => text.replace(/\s+/g, ' ').replace(HIDDEN, escaped)
