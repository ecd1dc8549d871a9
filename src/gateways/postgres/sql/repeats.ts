import { unwrap } from './nodes.ts'

/** Of members that differ in plain values only, so many stay: enough to see that there are several. */
const KEPT = 2

/**
 * The tree without the repeats in its long lists: rows of VALUES, members of IN and of ARRAY. Constants and parameters do
 * nothing by themselves, so what the statement does is the same without them; an INSERT of 1 MiB becomes a tree of a few
 * hundred nodes. What stays, stays whole and in its place. `nodes`: how many objects are left.
 */
export function withoutRepeats(value: unknown): { readonly tree: unknown; readonly nodes: number } {
  let nodes = 0
  const copy = (part: unknown): unknown => {
    if (typeof part !== 'object' || part === null) return part
    if (Array.isArray(part)) return part.map(copy)
    nodes++
    return Object.fromEntries(
      Object.entries(part).map(([key, inner]) => {
        if ((key === 'valuesLists' || key === 'elements') && Array.isArray(inner)) return [key, distinct(inner).map(copy)]
        const list = key === 'rexpr' ? membersOf(inner) : undefined
        return [key, list ? { List: { items: distinct(list).map(copy) } } : copy(inner)]
      }),
    )
  }
  return { tree: copy(value), nodes }
}

/** `IN (1, 2, 3)` */
function membersOf(wrapped: unknown): readonly unknown[] | undefined {
  const [type, tree] = unwrap(wrapped)
  return type === 'List' && Object.keys(tree).length === 1 && Array.isArray(tree.items) ? tree.items : undefined
}

function distinct(members: readonly unknown[]): readonly unknown[] {
  const seen = new Map<string, number>()
  return members.filter((member) => {
    const shape = shapeOf(member)
    const times = (seen.get(shape) ?? 0) + 1
    seen.set(shape, times)
    return times <= KEPT
  })
}

/** Plain values of a row, or a plain member, count as equal; those inside of anything else (`set_config('...')`) do not. */
function shapeOf(member: unknown): string {
  const [type, tree] = unwrap(member)
  if (type === 'List' && Array.isArray(tree.items)) return `(${tree.items.map(shapeOf).join()})`
  if (type === 'A_Const' || type === 'ParamRef' || type === 'SetToDefault') return '?'
  return JSON.stringify(member, (key, value: unknown) => (key === 'location' ? undefined : value))
}
