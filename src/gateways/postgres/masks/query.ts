import { listOf, namesOf, type Tree, unwrap } from '../sql/nodes.ts'
import { ctesOf } from './ctes.ts'
import { mustNotTouch } from './expressions.ts'
import { fromItem } from './from.ts'
import { type Look, Misuse } from './look.ts'
import { type Col, type Ctes, type Item, isNameless, meaningOf, NO_CTES, type Output, type Scope, scopeOf } from './scope.ts'
import { targets } from './targets.ts'
import { united } from './union.ts'
import { changeOutput } from './writes.ts'

/** Queries inside one statement, each as often as it must be looked at. A recursion inside a recursion multiplies. */
const MOST_QUERIES = 5_000
const MOST_ITEMS = 200
/** Columns side by side: a dozen of the widest tables that there can be. Each FROM goes through them once. */
const MOST_IN_REACH = 20_000

/** {@link Look.output}: bounded, and what was looked at in the same surroundings is not looked at again. */
export function queries(look: () => Look): Look['output'] {
  const known = new WeakMap<Tree, { readonly outer: Scope | undefined; readonly ctes: Ctes; readonly output: Output }>()
  let left = MOST_QUERIES
  return (query, outer, ctes = outer?.ctes ?? NO_CTES) => {
    const [, tree] = unwrap(query)
    const before = known.get(tree)
    if (before && before.outer === outer && before.ctes === ctes) return before.output
    if (--left < 0) throw new Misuse('it holds too many queries inside each other')
    const output = queryOutput(query, outer, look(), ctes)
    known.set(tree, { outer, ctes, output })
    return output
  }
}

/** The columns of a query, or of what a changing statement returns, with what is hidden in them. `outer`: what it may name besides its own. */
function queryOutput(wrapped: unknown, outer: Scope | undefined, look: Look, ctes: Ctes): Output {
  const [type, tree] = unwrap(wrapped)
  switch (type) {
    case 'SelectStmt':
      return select(tree, outer, look, ctes)
    case 'InsertStmt':
    case 'UpdateStmt':
    case 'DeleteStmt':
    case 'MergeStmt':
      return changeOutput(type, tree, outer, look, ctesOf(tree.withClause as Tree | undefined, outer, look, ctes))
    default:
      look.misuse(`it holds ${type ?? 'something'} that cannot be followed`)
      return { columns: [], open: true }
  }
}

function select(tree: Tree, outer: Scope | undefined, look: Look, around: Ctes): Output {
  const ctes = ctesOf(tree.withClause as Tree | undefined, outer, look, around)
  if (tree.op !== undefined && tree.op !== 'SETOP_NONE') return setOperation(tree, outer, look, ctes)
  if (tree.valuesLists) return values(tree, outer, look, ctes)

  const items: Item[] = []
  if (listOf(tree.fromClause).length > MOST_ITEMS) throw new Misuse('it joins too many tables')
  for (const node of listOf(tree.fromClause)) items.push(fromItem(node, { left: items, outer, ctes }, look))
  if (items.reduce((sum, { columns }) => sum + columns.length, 0) > MOST_IN_REACH) throw new Misuse('it joins too many columns')
  const scope = scopeOf(items, outer, ctes)
  const output = targets(tree.targetList, scope, look)

  mustNotTouch(tree.whereClause, scope, look, 'WHERE')
  mustNotTouch(tree.havingClause, scope, look, 'HAVING')
  mustNotTouch(tree.windowClause, scope, look, 'a window')
  const distinct = listOf(tree.distinctClause)
  const [isOn] = distinct.map((node) => Object.keys(node as object).length > 0)
  if (isOn) for (const node of distinct) ordered(node, output, scope, look, 'DISTINCT ON')
  else if (distinct.length > 0) mustHideNothing(output, look, 'DISTINCT')
  for (const node of listOf(tree.groupClause)) grouped(node, output, scope, look)
  for (const node of listOf(tree.sortClause)) sorted(node, output, scope, look)
  limits(tree, scope, look)
  return output
}

function limits(tree: Tree, scope: Scope, look: Look): void {
  mustNotTouch(tree.limitCount, scope, look, 'LIMIT')
  mustNotTouch(tree.limitOffset, scope, look, 'OFFSET')
}

function setOperation(tree: Tree, outer: Scope | undefined, look: Look, ctes: Ctes): Output {
  const [left, right] = [tree.larg, tree.rarg].map((side) => select(side as Tree, outer, look, ctes)) as [Output, Output]
  if (tree.op !== 'SETOP_UNION' || tree.all !== true) {
    mustHideNothing(left, look, 'UNION, INTERSECT or EXCEPT')
    mustHideNothing(right, look, 'UNION, INTERSECT or EXCEPT')
  }
  const output = united(left, right, look)
  // Only names and positions of the result may be sorted by here.
  const scope: Scope = { tables: [], columns: output.columns, open: output.open, outer, ctes }
  for (const node of listOf(tree.sortClause)) sorted(node, output, scope, look)
  limits(tree, scope, look)
  return output
}

function values(tree: Tree, outer: Scope | undefined, look: Look, ctes: Ctes): Output {
  const scope = scopeOf([], outer, ctes)
  const rows = listOf(tree.valuesLists).map((list) => listOf(unwrap(list)[1].items))
  mustNotTouch(rows, scope, look, 'VALUES')
  const columns = (rows[0] ?? []).map((_, i): Col => ({ name: `column${i + 1}`, hides: undefined, type: 0 }))
  const output = { columns, open: false }
  for (const node of listOf(tree.sortClause)) sorted(node, output, { ...scope, columns }, look)
  limits(tree, scope, look)
  return output
}

function mustHideNothing({ columns }: Output, look: Look, where: string): void {
  const hidden = columns.find((column) => column.hides)
  if (hidden) look.misuse(`the hidden column ${JSON.stringify(hidden.name ?? '')} is compared by ${where}`)
}

const bareName = (node: unknown): string | undefined => {
  const [type, tree] = unwrap(node)
  const fields = type === 'ColumnRef' ? namesOf(tree.fields) : []
  return fields.length === 1 ? fields[0] : undefined
}

/** `ORDER BY 2`: a place in the list. Where the list is not known, what is hidden in it could be meant. */
function placed(node: unknown, output: Output, look: Look, where: string): boolean {
  const [type, tree] = unwrap(node)
  const place = type === 'A_Const' ? (tree.ival as { ival?: number } | undefined) : undefined
  if (!place) return false
  const meant = output.open ? output.columns : output.columns.slice((place.ival ?? 0) - 1, place.ival ?? 0)
  if (meant.some((column) => column.hides)) look.misuse(`the hidden column in place ${place.ival} is used in ${where}`)
  return true
}

function sorted(node: unknown, output: Output, scope: Scope, look: Look): void {
  const sort = unwrap(node)[1]
  mustNotTouch(sort.useOp === undefined ? undefined : { SortBy: { useOp: sort.useOp } }, scope, look, 'ORDER BY')
  ordered(sort.node, output, scope, look, 'ORDER BY')
}

/** Columns of the result that a name may mean. */
function namedIn({ columns }: Output, name: string): readonly Col[] {
  const named = columns.filter((column) => column.name === name)
  return named.length > 0 ? named : columns.filter(isNameless)
}

/** A bare name is first a name of the result, then one of FROM. */
function ordered(node: unknown, output: Output, scope: Scope, look: Look, where: string): void {
  if (placed(node, output, look, where)) return
  const name = bareName(node)
  const named = name === undefined ? [] : namedIn(output, name)
  if (named.some((column) => column.hides)) look.misuse(`the hidden column ${JSON.stringify(name)} is used in ${where}`)
  if (named.length === 0) mustNotTouch(node, scope, look, where)
}

/** A bare name is first one of FROM, then one of the result, and only then one of a query around it. */
function grouped(node: unknown, output: Output, scope: Scope, look: Look): void {
  const [type, tree] = unwrap(node)
  if (type === 'GroupingSet' || type === 'RowExpr' || type === 'List') {
    for (const inner of listOf(tree.content ?? tree.args ?? tree.items)) grouped(inner, output, scope, look)
    return
  }
  if (placed(node, output, look, 'GROUP BY')) return
  const name = bareName(node)
  const inFrom = name !== undefined && meaningOf(tree.fields, { ...scope, outer: undefined }).is === 'columns'
  if (name !== undefined && !inFrom) {
    const named = namedIn(output, name)
    if (named.some((column) => column.hides)) look.misuse(`the hidden column ${JSON.stringify(name)} is used in GROUP BY`)
    if (named.length > 0) return
  }
  mustNotTouch(node, scope, look, 'GROUP BY')
}
