import type { Identity, Obligations, Vocabulary } from './types.ts'

export const NO_OBLIGATIONS: Obligations = Object.freeze({})

/** Among rules of one identity: only what both demand, each field in its least binding form. A rule without a field demands nothing there. */
export function leastOf(a: Obligations, b: Obligations, vocabulary: Vocabulary): Obligations {
  const merged: Record<string, unknown> = {}
  for (const key of Object.keys(a)) if (Object.hasOwn(b, key)) merged[key] = mergeOf(vocabulary, key).least(a[key], b[key])
  return merged
}

/** Over guardrails and chain links: everything that either demands, each field in its most binding form. */
export function mostOf(a: Obligations, b: Obligations, vocabulary: Vocabulary): Obligations {
  if (a === NO_OBLIGATIONS) return b
  if (b === NO_OBLIGATIONS) return a
  const merged: Record<string, unknown> = { ...a }
  for (const key of Object.keys(b)) merged[key] = Object.hasOwn(a, key) ? mergeOf(vocabulary, key).most(a[key], b[key]) : b[key]
  return merged
}

/** What rules of this identity demand, in the form in which it says so where that matters. */
export function boundTo(identity: Identity, obligations: Obligations, vocabulary: Vocabulary): Obligations {
  let bound = obligations
  for (const [key, value] of Object.entries(obligations)) {
    const merge = mergeOf(vocabulary, key)
    if (merge.ofLink) bound = { ...bound, [key]: merge.ofLink(value, identity) }
  }
  return bound
}

function mergeOf(vocabulary: Vocabulary, key: string) {
  const merge = vocabulary.obligations[key]
  if (!merge) throw new Error(`${vocabulary.kind} does not say how two ${key} merge`)
  return merge
}
