import { type Definition, definitionOf, type Subject } from '../../../catalog/pins.ts'
import { type Annotations, annotationsOf } from '../describe.ts'
import { learnMirrored, type Mirrored } from '../text/modern-headers.ts'
import { isObject } from '../wire.ts'
import type { Item } from './filter.ts'

/** What one server says of what it offers, as last seen by this process. */
export interface KnownTools {
  get(tool: string): Annotations | undefined
  /** Which arguments of which tool stand in headers too. */
  readonly mirrored: Mirrored
  learn(items: readonly unknown[]): void
  /** The server says that its list has changed. */
  forget(): void
  /** The definition that an item is. One whose text is the same as the last time is not hashed again. */
  define(subject: Subject, item: Item): Definition
}

/** More than any server has; a list without end must not fill our memory. */
const MAX_TOOLS = 10_000
/** Characters of definitions that are kept to be compared. */
const MAX_TEXT = 8 * 1024 * 1024

export function knownTools(): KnownTools {
  const tools = new Map<string, Annotations>()
  const defined = new Map<string, { readonly raw: string; readonly definition: Definition }>()
  let kept = 0
  const mirrored: Mirrored = new Map()
  return {
    get: (tool) => tools.get(tool),
    mirrored,
    learn(items) {
      learnMirrored({ tools: items }, mirrored)
      for (const item of items) {
        if (!isObject(item) || typeof item.name !== 'string') continue
        // Of two tools with one name the later could speak for the earlier (peers R91): neither is believed.
        const before = tools.get(item.name)
        const now = annotationsOf(item)
        const same = before === undefined || JSON.stringify(before) === JSON.stringify(now)
        if (tools.size < MAX_TOOLS || before) tools.set(item.name, same ? now : {})
      }
    },
    forget: () => tools.clear(),
    define({ kind, name }, { value, text, exact }) {
      const key = `${kind} ${name}`
      const before = defined.get(key)
      if (before?.raw === text) return before.definition
      const definition = definitionOf(value, text, exact)
      kept += text.length - (before?.raw.length ?? 0)
      if (kept > MAX_TEXT) {
        defined.clear()
        kept = text.length
      }
      defined.set(key, { raw: text, definition })
      return definition
    },
  }
}
