import { listOf, type Tree, unwrap } from '../sql/nodes.ts'
import { relationName } from '../sql/relations.ts'
import { mustNotTouch } from './expressions.ts'
import { fromItem, type Meant, meantBy, relationTable } from './from.ts'
import type { Look } from './look.ts'
import { aliasOf, type Ctes, type Item, type Output, type Scope, scopeOf, type Table } from './scope.ts'
import { targets } from './targets.ts'
import { mustTellNothing } from './tells.ts'

const NOTHING: Output = { columns: [], open: false }
const UNKNOWN: Table = { alias: undefined, columns: [], open: true }

/** INSERT, UPDATE, DELETE and MERGE: what they return, and whether it tells of something hidden that they succeed at all. */
export function changeOutput(type: string, tree: Tree, outer: Scope | undefined, look: Look, ctes: Ctes): Output {
  const range = (tree.relation ?? {}) as Tree
  const target = targetOf(range, look)
  const table = target ? relationTable(target, aliasOf(range.alias).name, aliasOf(range.alias).columns, look) : UNKNOWN
  const at = { outer, ctes }
  switch (type) {
    case 'InsertStmt':
      return insert(tree, target, table, at, look)
    case 'UpdateStmt': {
      const scope = scopeWith(table, tree.fromClause, at, look)
      assigned(tree.targetList, scope, look)
      mustNotTouch(tree.whereClause, scope, look, 'WHERE')
      if (target) mustTellNothing({ kind: 'update', columns: namesOfTargets(tree.targetList) }, target, look)
      return returned(tree, table, scope, look)
    }
    case 'DeleteStmt': {
      const scope = scopeWith(table, tree.usingClause, at, look)
      mustNotTouch(tree.whereClause, scope, look, 'WHERE')
      if (target) mustTellNothing({ kind: 'delete' }, target, look)
      return returned(tree, table, scope, look)
    }
    default:
      return merge(tree, target, table, at, look)
  }
}

interface At {
  readonly outer: Scope | undefined
  readonly ctes: Ctes
}

/** The table that is written to, and those that it covers. Through a view too much happens that the statement does not show. */
export function targetOf(range: Tree, look: Look): Meant | undefined {
  const meant = meantBy(range, look)
  if (typeof meant !== 'object') {
    look.misuse(`the table ${relationName(range).slice(0, 130)} is not known here`)
    return undefined
  }
  for (const { kind, schema, name } of meant)
    if (kind !== 'table' && kind !== 'partitioned table')
      look.misuse(`${schema}.${name} is a ${kind}, and writing through it may tell what is hidden`)
  return meant
}

const itemOf = (table: Table): Item => ({ tables: [table], columns: table.columns, open: table.open })

function scopeWith(table: Table, from: unknown, { outer, ctes }: At, look: Look): Scope {
  const items: Item[] = [itemOf(table)]
  // What stands in FROM or USING beside the target cannot see it, except as a neighbour (LATERAL is refused by the server).
  for (const node of listOf(from)) items.push(fromItem(node, { left: items, outer, ctes }, look))
  return scopeOf(items, outer, ctes)
}

const namesOfTargets = (list: unknown): readonly string[] => listOf(list).map((item) => String(unwrap(item)[1].name ?? ''))

/** SET: neither a value nor a subscript may be computed from something hidden. */
function assigned(list: unknown, scope: Scope, look: Look): void {
  for (const item of listOf(list)) {
    const { val, indirection } = unwrap(item)[1]
    mustNotTouch([val, indirection], scope, look, 'a value that is written')
  }
}

function insert(tree: Tree, target: Meant | undefined, table: Table, at: At, look: Look): Output {
  // The query sees neither the table nor what is inserted.
  if (tree.selectStmt) {
    const { columns } = look.output(tree.selectStmt, at.outer, at.ctes)
    if (columns.some((column) => column.hides)) look.misuse('a hidden column is written into a table')
  }
  for (const column of listOf(tree.cols)) mustNotTouch(unwrap(column)[1].indirection, scopeOf([], at.outer, at.ctes), look, 'INSERT')
  const conflict = tree.onConflictClause as Tree | undefined
  if (target) mustTellNothing({ kind: 'insert' }, target, look, namesOfTargets(tree.cols))
  const own = scopeOf([itemOf(table)], at.outer, at.ctes)
  if (conflict) onConflict(conflict, target, table, at, look)
  return returned(tree, table, own, look)
}

function onConflict(conflict: Tree, target: Meant | undefined, table: Table, at: At, look: Look): void {
  const own = scopeOf([itemOf(table)], at.outer, at.ctes)
  const infer = conflict.infer as Tree | undefined
  for (const element of listOf(infer?.indexElems)) {
    const name = unwrap(element)[1].name
    if (table.columns.some((column) => column.name === name && column.hides))
      look.misuse(`the hidden column ${JSON.stringify(name)} is compared by ON CONFLICT`)
  }
  mustNotTouch(infer, own, look, 'ON CONFLICT')
  const excluded: Table = { ...table, alias: 'excluded' }
  const both: Scope = { ...own, tables: [...own.tables, excluded] }
  assigned(conflict.targetList, both, look)
  mustNotTouch(conflict.whereClause, both, look, 'ON CONFLICT')
  if (target && conflict.action === 'ONCONFLICT_UPDATE')
    mustTellNothing({ kind: 'update', columns: namesOfTargets(conflict.targetList) }, target, look)
}

function merge(tree: Tree, target: Meant | undefined, table: Table, { outer, ctes }: At, look: Look): Output {
  const source = fromItem(tree.sourceRelation, { left: [], outer, ctes }, look)
  const scope = scopeOf([itemOf(table), source], outer, ctes)
  mustNotTouch(tree.joinCondition, scope, look, 'a join condition')
  for (const clause of listOf(tree.mergeWhenClauses).map((wrapped) => unwrap(wrapped)[1])) {
    mustNotTouch(clause.condition, scope, look, 'WHEN')
    assigned(clause.targetList, scope, look)
    mustNotTouch(clause.values, scope, look, 'a value that is written')
    if (!target) continue
    if (clause.commandType === 'CMD_INSERT') mustTellNothing({ kind: 'insert' }, target, look, namesOfTargets(clause.targetList))
    if (clause.commandType === 'CMD_UPDATE') mustTellNothing({ kind: 'update', columns: namesOfTargets(clause.targetList) }, target, look)
    if (clause.commandType === 'CMD_DELETE') mustTellNothing({ kind: 'delete' }, target, look)
  }
  // RETURNING * gives the columns of the source first.
  return returned(tree, table, scopeOf([source, itemOf(table)], outer, ctes), look)
}

function returned(tree: Tree, table: Table, scope: Scope, look: Look): Output {
  const clause = tree.returningClause as Tree | undefined
  if (!clause) return NOTHING
  const names = new Map([
    ['RETURNING_OPTION_OLD', 'old'],
    ['RETURNING_OPTION_NEW', 'new'],
  ])
  for (const option of listOf(clause.options).map((wrapped) => unwrap(wrapped)[1]))
    names.set(String(option.option ?? 'RETURNING_OPTION_OLD'), String(option.value))
  const versions = [...names.values()].map((alias): Table => ({ alias, columns: table.columns, open: table.open }))
  // A table that is itself called old or new is found first.
  return targets(clause.exprs, { ...scope, tables: [...scope.tables, ...versions] }, look)
}
