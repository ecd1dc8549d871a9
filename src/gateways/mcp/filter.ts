import { parseStrict } from '../../encoding/strict-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { type Edit, edited, itemsOf, membersOf, type Span } from './json-text.ts'
import { isObject } from './wire.ts'

/** The array of a list's result. */
export const LIST_KEYS: Readonly<Record<string, string>> = {
  'tools/list': 'tools',
  'prompts/list': 'prompts',
  'resources/list': 'resources',
  'resources/templates/list': 'resourceTemplates',
}

export interface Filtered {
  readonly text: string
  /** what the server listed, before anything was taken out */
  readonly items: readonly unknown[]
  readonly kept: number
}

/**
 * The answer to a list with only those items that `keep` keeps. What stays is the server's own text: unknown fields, order
 * and numbers included (the SDK's schemas would drop what they do not know). A modern answer becomes `private` and may be
 * cached for at most `ttlMs`, because rights change. Anything that cannot be filtered is refused, never passed.
 */
export function filterList(
  text: string,
  method: string,
  keep: (item: unknown) => boolean,
  limits: { readonly bytes: number; readonly ttlMs: number },
): Filtered {
  const key = LIST_KEYS[method]!
  const { value } = parseStrict(text, { maxBytes: limits.bytes, maxDepth: 256 })
  if (!isObject(value) || 'error' in value) return { text, items: [], kept: 0 }
  const result = value.result
  if (!isObject(result)) throw unreadable(method)
  if (result.resultType !== undefined && result.resultType !== 'complete') throw unreadable(method)
  // A client whose decoder ignores case would read the unfiltered twin.
  const twin = [...Object.keys(value), ...Object.keys(result)].find(
    (name) => name !== 'result' && name !== key && ['result', key.toLowerCase()].includes(name.toLowerCase()),
  )
  if (twin !== undefined) throw unreadable(method)

  const members = membersOf(text, membersOf(text).get('result')!.start)
  const edits = cacheEdits(text, members, limits.ttlMs)
  const items = result[key]
  if (items === undefined) return { text: edited(text, edits), items: [], kept: 0 }
  if (!Array.isArray(items)) throw unreadable(method)
  const span = members.get(key)!
  const texts = itemsOf(text, span.start)
  const kept = texts.filter((_, i) => keep(items[i]))
  if (kept.length < texts.length) edits.push({ ...span, text: `[${kept.map((item) => text.slice(item.start, item.end)).join(',')}]` })
  return { text: edited(text, edits), items, kept: kept.length }
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
