import { parseStrict } from '../../../encoding/strict-json.ts'
import { ChaperoneError } from '../../../errors.ts'
import { type Edit, edited, itemsOf, membersOf, type Span } from '../text/json-text.ts'
import { OUR_META } from '../text/meta.ts'
import { isObject } from '../wire.ts'

/** The array of a list's result. */
export const LIST_KEYS: Readonly<Record<string, string>> = {
  'tools/list': 'tools',
  'prompts/list': 'prompts',
  'resources/list': 'resources',
  'resources/templates/list': 'resourceTemplates',
}

/** Names of what a list leaves out because its definition waits for an administrator. */
const QUARANTINED = `${OUR_META}quarantined`
/** Names in that member; a client that needs more asks an administrator. */
const MOST_NAMES = 100

/** One thing of a list, as the server wrote it. */
export interface Item {
  readonly value: unknown
  readonly text: string
  /** false: it holds a number that a double does not keep, so `value` is less than `text` */
  readonly exact: boolean
}

/** The answer to a list, read once and in one way. */
export interface Listing {
  readonly items: readonly Item[]
  /** nothing follows: the client, or we, have seen all pages */
  readonly last: boolean
  /**
   * The answer with only those items that `keep` keeps. What stays is the server's own text: unknown fields, order and numbers
   * included (the SDK's schemas would drop what they do not know). `withheld` are names to say that they are left out.
   */
  text(keep: (item: Item, index: number) => boolean, withheld?: readonly string[]): string
}

export interface FilterLimits {
  readonly bytes: number
  readonly ttlMs: number
}

/**
 * Reads the answer to a list. A modern answer becomes `private` and may be cached for at most `ttlMs`, because rights change.
 * Anything that cannot be filtered is refused, never passed; an error has no items and stays as it is.
 */
export function readList(text: string, method: string, limits: FilterLimits): Listing {
  const key = LIST_KEYS[method]!
  const { value, lossy } = parseStrict(text, { maxBytes: limits.bytes, maxDepth: 256 })
  if (!isObject(value) || 'error' in value) return { items: [], last: false, text: () => text }
  const result = value.result
  if (!isObject(result)) throw unreadable(method)
  if (result.resultType !== undefined && result.resultType !== 'complete') throw unreadable(method)
  // A client whose decoder ignores case would read the unfiltered twin.
  const twin = [...Object.keys(value), ...Object.keys(result)].find(
    (name) => name !== 'result' && name !== key && ['result', key.toLowerCase()].includes(name.toLowerCase()),
  )
  if (twin !== undefined) throw unreadable(method)

  const span = membersOf(text).get('result')!
  const members = membersOf(text, span.start)
  const caching = cacheEdits(text, members, limits.ttlMs)
  const values = result[key]
  const last = typeof result.nextCursor !== 'string'
  if (values === undefined) return { items: [], last, text: () => edited(text, caching) }
  if (!Array.isArray(values)) throw unreadable(method)
  const array = members.get(key)!
  const inexact = new Set(
    [...lossy].map((pointer) => pointer.split('/', 4)).flatMap(([, top, list, index]) => (top === 'result' && list === key ? [Number(index)] : [])),
  )
  const items = itemsOf(text, array.start).map((at, i): Item => ({ value: values[i], text: text.slice(at.start, at.end), exact: !inexact.has(i) }))
  return {
    items,
    last,
    text(keep, withheld = []) {
      const kept = items.filter(keep)
      const edits = [...caching]
      if (kept.length < items.length) edits.push({ ...array, text: `[${kept.map((item) => item.text).join(',')}]` })
      if (withheld.length > 0) edits.push(...metaEdits(text, span, members.get('_meta'), withheld))
      return edited(text, edits)
    },
  }
}

const unreadable = (method: string) =>
  new ChaperoneError('upstream_unavailable', `The server's answer to ${method} cannot be read, so it cannot be filtered.`)

function cacheEdits(text: string, members: ReadonlyMap<string, Span>, ttlMs: number): Edit[] {
  const edits: Edit[] = []
  const scope = members.get('cacheScope')
  if (scope) edits.push({ ...scope, text: '"private"' })
  const ttl = members.get('ttlMs')
  if (ttl && !(Number(text.slice(ttl.start, ttl.end)) <= ttlMs)) edits.push({ ...ttl, text: String(ttlMs) })
  return edits
}

/** Says in `_meta` of the result what is left out. */
function metaEdits(text: string, result: Span, meta: Span | undefined, withheld: readonly string[]): Edit[] {
  const said = quarantinedMeta(text, meta, withheld)
  return [meta ? { ...meta, text: said } : { start: result.start + 1, end: result.start + 1, text: `"_meta":${said},` }]
}

/** The `_meta` object at `meta` with the names that are left out. A key of ours that the server sent is not ours, and goes. */
export function quarantinedMeta(text: string, meta: Span | undefined, names: readonly string[]): string {
  const mine = `${JSON.stringify(QUARANTINED)}:${JSON.stringify(names.slice(0, MOST_NAMES))}`
  const there = meta && text[meta.start] === '{' ? [...membersOf(text, meta.start)] : []
  const others = there.filter(([key]) => key !== QUARANTINED).map(([key, span]) => `${JSON.stringify(key)}:${text.slice(span.start, span.end)}`)
  return `{${[mine, ...others].join(',')}}`
}
