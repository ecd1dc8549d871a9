/** Kinds of documents that name secrets. */
const NAMING = ['mcp', 'postgres', 'notifier', 'directory', 'join'] as const

interface Documents {
  list(kind: string): readonly { readonly resource: { readonly name: string }; readonly spec: unknown }[]
}

/** Which documents (`mcp/crm`) name which secret, by its name. */
export function secretUsers(current: Documents): ReadonlyMap<string, readonly string[]> {
  const users = new Map<string, Set<string>>()
  for (const kind of NAMING)
    for (const { resource, spec } of current.list(kind))
      for (const secret of secretsIn(spec)) users.set(secret, (users.get(secret) ?? new Set()).add(`${kind}/${resource.name}`))
  return new Map([...users].map(([secret, names]) => [secret, [...names]]))
}

/** Every `{ secret: NAME }`, and the names alone where a document has a list of them. */
function secretsIn(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.flatMap(secretsIn)
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, inner]) => {
    if (key !== 'secret') return secretsIn(inner)
    return [inner].flat().filter((name): name is string => typeof name === 'string')
  })
}
