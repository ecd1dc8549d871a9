/** Folded protocol keys by the list that names them; the lists are constants of the gateways. */
const folded = new WeakMap<readonly string[], { readonly exact: ReadonlySet<string>; readonly fold: ReadonlySet<string> }>()

/**
 * One form for all ways to write a key that some decoder takes for the same: Go's encoding/json and Java's Jackson match
 * keys without case, Go also by Unicode folding (`ſ` is `s`, the Kelvin sign is `k`). Upper first, then lower, covers both.
 */
const fold = (key: string) => key.toUpperCase().toLowerCase()

/**
 * The keys of `object` that are not in `known` but equal a known key once case is ignored. A message with one of them is
 * read in one way here and in another way upstream (peers R01-R04): refuse it. Keep `known` a constant.
 */
export function findCaseVariants(object: object, known: readonly string[]): string[] {
  const names = namesOf(known)
  const found: string[] = []
  for (const key of Object.keys(object)) if (!names.exact.has(key) && names.fold.has(fold(key))) found.push(key)
  return found
}

function namesOf(known: readonly string[]) {
  const seen = folded.get(known)
  if (seen) return seen
  const names = { exact: new Set(known), fold: new Set(known.map(fold)) }
  folded.set(known, names)
  return names
}
