import { visible } from '../catalog/flag-types.ts'
import { unifiedDiff } from '../documents/unified-diff.ts'

/** Columns of a text that a person reads. */
const WIDTH = 100

/** The definition as a person reads it: field by field, long texts wrapped, and everything in it that hides made visible. */
export function readable(definition: string): string {
  if (definition === '') return 'too long to be shown\n'
  const value: unknown = JSON.parse(definition)
  return typeof value === 'string' ? `${block(value).join('\n')}\n` : `${lines(value).join('\n')}\n`
}

/** What changed between two definitions, field by field; empty when they are the same. */
export function definitionDiff(before: string, after: string): string {
  const diff = unifiedDiff(readable(before), readable(after))
  if (diff !== '' || before === after) return diff
  // Written in another way, though every value reads the same: a number with more digits than a double has.
  return unifiedDiff(`${visible(before, Number.POSITIVE_INFINITY)}\n`, `${visible(after, Number.POSITIVE_INFINITY)}\n`)
}

/** Deeper values stand on lines of their own as JSON: indented, a hundred kilobytes of them would be twenty megabytes. */
const DEEPEST = 16

function lines(value: unknown, depth = 0): string[] {
  if (depth > DEEPEST && typeof value === 'object' && value !== null) return block(JSON.stringify(value))
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      const [first = '', ...rest] = lines(item, depth + 1)
      return [`- ${first}`, ...rest.map((line) => `  ${line}`)]
    })
  }
  if (typeof value !== 'object' || value === null) return [scalar(value)]
  return Object.entries(value).flatMap(([key, item]) => {
    const name = /^[\w$.-]+$/.test(key) ? key : scalar(key)
    if (typeof item === 'string' && (item.length > WIDTH || item.includes('\n'))) return [`${name}: |`, ...block(item).map((line) => `  ${line}`)]
    if (isEmpty(item) || typeof item !== 'object' || item === null) return [`${name}: ${isEmpty(item) ? JSON.stringify(item) : scalar(item)}`]
    return [`${name}:`, ...lines(item, depth + 1).map((line) => `  ${line}`)]
  })
}

const isEmpty = (value: unknown): boolean => typeof value === 'object' && value !== null && Object.keys(value).length === 0

const scalar = (value: unknown): string => visible(JSON.stringify(value), Number.POSITIVE_INFINITY)

/** A line that is broken here and not in the text goes on with `… `; spaces at the end of one are counted. */
function block(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const shown = visible(line, Number.POSITIVE_INFINITY).replace(/ +$/, (spaces) => '\\u{20}'.repeat(spaces.length))
    const out: string[] = []
    let rest = shown
    while (rest.length > WIDTH) {
      const at = rest.lastIndexOf(' ', WIDTH)
      const cut = at > WIDTH / 2 ? at + 1 : WIDTH
      out.push(rest.slice(0, cut))
      rest = rest.slice(cut)
    }
    return [...out, rest].map((part, i) => (i === 0 ? part : `… ${part}`))
  })
}
