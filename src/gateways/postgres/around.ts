import { compileGlob, isGlob } from '../../encoding/glob.ts'
import type { SqlContext } from './describe.ts'
import type { Mirror } from './mirror/types.ts'
import { makeBehind } from './sql/behind.ts'
import type { Behind, Reviewed, Surroundings } from './sql/surroundings.ts'

/** What one context means for the walk. What stands behind names is shared by all connections that see the same mirror with the same rights. */
export function surroundingsOf(context: SqlContext): Surroundings {
  const { path, ceilings, mirror, unsettled, asOfNow, pinnedReadOnly = false, reviewed = [] } = context
  const base = { ceilings, pinnedReadOnly, reviewed: reviewedBy(reviewed) }
  if (!mirror) return { ...base, path }
  const kept = behinds.get(mirror) ?? new Map<string, Behind>()
  behinds.set(mirror, kept)
  const key = JSON.stringify([pinnedReadOnly, reviewed])
  const behind = kept.get(key) ?? makeBehind(mirror, base)
  kept.set(key, behind)
  return { ...base, path, mirror, unsettled, asOfNow, behind }
}

const behinds = new WeakMap<Mirror, Map<string, Behind>>()

function reviewedBy(names: readonly string[]): Reviewed {
  const exact = new Set(names.filter((name) => !isGlob(name)))
  const globs = names.filter(isGlob).map(compileGlob)
  return { isNamed: (name) => exact.has(name), isMatched: (name) => globs.some((matches) => matches(name)) }
}
