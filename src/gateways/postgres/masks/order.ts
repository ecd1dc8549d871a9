import type { Mirror, Relation } from '../mirror/types.ts'
import type { MaskKeys } from './keys.ts'
import type { Hiding } from './look.ts'

/**
 * How rows may be read, where a column is hidden that an index is sorted by. Nobody may compare, sort or look for such a column, so
 * - an index with this key alone gives rows in its order only when it is read whole, instead of the table: without
 *   index-only scans never, because the planner makes no other path for it;
 * - one with another key or a condition beside it is chosen for those: `WHERE tenant = 5` through (tenant, email) gives the tenant's rows by
 *   email. There only bitmaps are left, which give rows as they lie in the table.
 */
export type Order = 'free' | 'no index-only' | 'no index'

/** For everything in the database that the mask hides. */
export function orderOf(mirror: Mirror, keys: MaskKeys, hidingOf: (relation: Relation) => Hiding): Order {
  let order: Order = 'free'
  for (const relation of mirror.all()) {
    if (relation.kind === 'view') {
      // Where the mask names a column of a view and not that of the table below, rows still come as the table gives them.
      const isNamed = keys.speaksOf(relation) && relation.columns.some(({ name }) => keys.formOf(relation, name))
      if (isNamed && hidingOf(relation).hidesMore !== false) return 'no index'
      continue
    }
    if (relation.sorted?.length === 0 || !HAS_INDEXES.has(relation.kind)) continue
    // Of many thousand tables a mask speaks of a few, and only of those are the columns looked at.
    const isDerived = relation.kind === 'materialized view' || relation.parents.length + relation.children.length > 0
    if (!isDerived && !keys.speaksOf(relation)) continue
    const { columns } = hidingOf(relation)
    const hidden = new Set(relation.columns.flatMap(({ attnum }, i) => (columns[i]?.hides ? [attnum] : [])))
    if (hidden.size === 0) continue
    if (!relation.sorted) return 'no index'
    for (const { columns: by, plain } of relation.sorted) {
      if (!by.some((attnum) => attnum === 0 || hidden.has(attnum))) continue
      if (!plain) return 'no index'
      order = 'no index-only'
    }
  }
  return order
}

const HAS_INDEXES: ReadonlySet<string> = new Set(['table', 'partitioned table', 'materialized view', 'other'])
