import type { Tally } from './findings.ts'
import { effectsOfFunction } from './functions.ts'
import { listOf, namesOf, type Tree, unwrap } from './nodes.ts'
import { routinesOf, typesOf } from './resolve.ts'
import { isColumn, ownersOf, type Range } from './scope.ts'

/** Where a statement runs something: by the name of a function, by an operator, or by what looks like a column. */

/** No name: what PostgreSQL puts in means `=`. */
export function operator(found: Tally, name: unknown, operands: readonly unknown[]): void {
  const path = namesOf(name)
  found.operates(path.length > 0 ? path : ['='], operands)
}

export function operators(found: Tally, tree: Tree): void {
  const operands = [tree.lexpr, tree.rexpr].filter((operand) => operand !== undefined)
  if (!String(tree.kind).includes('BETWEEN')) operator(found, tree.name, operands)
  else for (const name of ['<', '<=', '>=', '>']) found.operates([name], operands)
}

/** `f(c)` is also how a column f of c can be written, where no function has that name. */
export function functionCall(found: Tally, tree: Tree, range: Range | undefined): void {
  const path = namesOf(tree.funcname)
  const args = listOf(tree.args)
  const [type, arg] = unwrap(args[0])
  const alias = type === 'ColumnRef' && args.length === 1 ? listOf(arg.fields) : []
  if (path.length === 1 && alias.length === 1 && !mayCall(found, path[0]!) && isColumn(namesOf(alias)[0]!, path[0]!, range)) return
  found.calls(path, args)
}

/**
 * `c.f`: a column; or, where c has none of that name, a call of f. So `('orders_id_seq'::regclass).nextval` is one, and so
 * is `s.nextval` after `FROM to_regclass('orders_id_seq') s`.
 */
export function columnRef(found: Tally, fields: readonly unknown[], range: Range | undefined): void {
  const [last] = unwrap(fields.at(-1))
  const names = namesOf(fields)
  const name = last === 'A_Star' ? '*' : names.at(-1)!
  if (names.length === 1) {
    const owners = ownersOf(undefined, name, range)
    found.columns(owners, name, false)
    // The name of a table alone is its whole row.
    if (owners.length === 0) found.columns(ownersOf(name, '*', range), '*', false)
    return
  }
  const alias = names.at(-2)!
  found.columns(ownersOf(alias, name, range), name, false)
  if (name !== '*' && mayCall(found, name) && !isColumn(alias, name, range)) found.calls([name], [{}])
}

export function fieldsOf(found: Tally, { arg, indirection }: Tree, range: Range | undefined): void {
  const [type, column] = unwrap(arg)
  const alias = type === 'ColumnRef' ? namesOf(column.fields) : []
  listOf(indirection).forEach((step, i) => {
    const [kind, field] = unwrap(step)
    if (kind !== 'String') return
    const name = String(field.sval ?? '')
    if (!mayCall(found, name)) return
    if (i === 0 && alias.length === 1 && isColumn(alias[0]!, name, range)) return
    found.calls([name], [{}])
  })
}

/** Whether a function that does more than read can be meant by a name in the place of a column. */
function mayCall({ around }: Tally, name: string): boolean {
  const { mirror } = around
  if (routinesOf([name], around).some((routine) => routine.takes.length > 0 && (routine.least ?? routine.takes.length) <= 1)) return true
  if (typesOf([name], around).length > 0) return true
  if (mirror && !mirror.isSystemFunction(name)) return false
  const { effects, opaque } = effectsOfFunction(name, true)
  // Without a mirror nothing tells a column from a function that is on no list.
  return (mirror !== undefined || !opaque) && effects.some((effect) => effect !== 'read')
}

/**
 * The parser is that of PostgreSQL 18. Older servers refuse most of what they do not know, but these they read as calls, and
 * somebody may have a function `json_value`. Nothing else is known that both read, and each in another way: `0x1F` and `1_000` are
 * a number and an alias to servers before 16, which changes no effect.
 */
const NEW_SYNTAX: Readonly<Record<string, { readonly version: number; readonly names: readonly string[] }>> = {
  JsonFuncExpr: { version: 170000, names: ['json_exists', 'json_query', 'json_value'] },
  JsonTable: { version: 170000, names: ['json_table'] },
  JsonParseExpr: { version: 170000, names: ['json'] },
  JsonScalarExpr: { version: 170000, names: ['json_scalar'] },
  JsonSerializeExpr: { version: 170000, names: ['json_serialize'] },
  JsonArrayConstructor: { version: 160000, names: ['json_array'] },
  JsonArrayQueryConstructor: { version: 160000, names: ['json_array'] },
  JsonObjectConstructor: { version: 160000, names: ['json_object'] },
  JsonArrayAgg: { version: 160000, names: ['json_arrayagg'] },
  JsonObjectAgg: { version: 160000, names: ['json_objectagg'] },
}

export function newSyntax(found: Tally, type: string): void {
  const since = Object.hasOwn(NEW_SYNTAX, type) ? NEW_SYNTAX[type] : undefined
  const { mirror } = found.around
  if (since && mirror && mirror.serverVersion < since.version) for (const name of since.names) found.callsAny(name)
}
