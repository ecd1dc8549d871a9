/**
 * What is stored is canonical JSON, whose keys stand in the order of the alphabet: a rule would begin with `as`, not with what it is
 * about. These come first and as here, the others after them by the alphabet, so that two texts of one document differ only where the
 * document does.
 */
const FIRST = [
  ...['kind', 'name', 'labels', 'spec'],
  ...['owner', 'roles', 'when', 'allow', 'ask', 'deny', 'request', 'sessions'],
  ...['chaperone', 'mcp', 'postgres', 'role', 'verbs', 'tools', 'prompts', 'resources', 'databases', 'as', 'can', 'statements', 'tables'],
  ...['operations', 'args', 'where', 'max', 'reason', 'approvers', 'escalate'],
]
const RANK = new Map(FIRST.map((key, i) => [key, i]))

/** The same value with the keys of its objects as a person reads them. Lists stay as they are. */
export function inReadingOrder<T>(value: T): T {
  if (Array.isArray(value)) return value.map(inReadingOrder) as T
  if (typeof value !== 'object' || value === null) return value
  const rank = (key: string) => RANK.get(key) ?? FIRST.length
  const entries = Object.entries(value).sort(([a], [b]) => rank(a) - rank(b) || (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([key, one]) => [key, inReadingOrder(one)])) as T
}
