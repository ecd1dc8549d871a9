import { listOf, namesOf, type Tree, unwrap } from '../sql/nodes.ts'
import { routinesOfField, touched } from './expressions.ts'
import { type Look, Misuse } from './look.ts'
import { type Col, meaningOf, type Output, type Scope, UNKNOWN_TYPE } from './scope.ts'

/** text, varchar, bpchar, name: as text each of them is its own value, and the cast cannot fail. */
const TEXTS: ReadonlySet<number> = new Set([25, 1043, 1042, 19])

/** MaxTupleAttributeNumber of access/htup_details.h */
const MOST_COLUMNS = 1664

/** A list of what is selected or returned: here, and nowhere else, may a hidden column stand, as it is. */
export function targets(list: unknown, scope: Scope, look: Look): Output {
  const columns: Col[] = []
  let open = false
  for (const item of listOf(list)) {
    const target = unwrap(item)[1]
    const name = target.name as string | undefined
    const [type, tree] = unwrap(target.val)
    const meaning = type === 'ColumnRef' ? meaningOf(tree.fields, scope) : undefined
    if (meaning?.is === 'star') {
      columns.push(...meaning.columns.map((column) => shown(column, look)))
      open ||= meaning.open
    } else columns.push(column(target.val, name, scope, look))
    if (columns.length > MOST_COLUMNS) throw new Misuse('it selects more columns than the database allows')
  }
  return { columns, open }
}

/** What is computed from something hidden may not be shown by anybody who reads the view that does so. */
function shown(column: Col, look: Look): Col {
  if (column.hides) look.carry()
  if (column.hides === 'unshowable' && !look.isView) look.misuse(`the column ${JSON.stringify(column.name ?? '')} is computed from what is hidden`)
  return column
}

function column(val: unknown, name: string | undefined, scope: Scope, look: Look): Col {
  const passed = passing(val, scope, look)
  if (passed) return shown({ ...passed, name: name ?? passed.name }, look)
  const found = touched(val, scope, look)
  if (found !== undefined && !look.isView) look.misuse(`${found} is used in an expression`)
  return {
    name: name ?? nameOf(val),
    hides: found === undefined ? undefined : 'unshowable',
    type: constantType(val),
    ...(isNull(val) ? { isNull: true } : {}),
  }
}

/** A column that goes on as it is: by its name, as text when it is text, or as the one value of a subquery. */
function passing(val: unknown, scope: Scope, look: Look): Col | undefined {
  const [type, tree] = unwrap(val)
  if (type === 'ColumnRef') {
    routinesOfField(tree, scope, look)
    const meaning = meaningOf(tree.fields, scope)
    return meaning.is === 'columns' && meaning.columns.length === 1 ? meaning.columns[0] : undefined
  }
  if (type === 'TypeCast') {
    const inner = passing(tree.arg, scope, look)
    return inner && TEXTS.has(inner.type) && isPlainText(tree.typeName as Tree) ? { ...inner, type: 25 } : undefined
  }
  if (type === 'SubLink' && tree.subLinkType === 'EXPR_SUBLINK') {
    const { columns, open } = look.output(tree.subselect, scope)
    return columns.length === 1 && !open && columns[0]!.hides ? columns[0] : undefined
  }
  return undefined
}

function isPlainText(type: Tree): boolean {
  const names = namesOf(type.names)
  return names.at(-1) === 'text' && (names.length === 1 || names[0] === 'pg_catalog') && listOf(type.arrayBounds).length === 0
}

const isNull = (val: unknown): boolean => {
  const [type, tree] = unwrap(val)
  return type === 'A_Const' ? tree.isnull === true : type === 'TypeCast' && isNull(tree.arg)
}

/** `NULL::text` as the first row of a recursion. */
const CAST_TYPES: Readonly<Record<string, number>> = {
  text: 25,
  varchar: 1043,
  bpchar: 1042,
  int2: 21,
  int4: 23,
  int8: 20,
  numeric: 1700,
  bool: 16,
  uuid: 2950,
  date: 1082,
  timestamp: 1114,
  timestamptz: 1184,
}

function constantType(val: unknown): number {
  const [type, tree] = unwrap(val)
  if (type === 'TypeCast') return (constantType(tree.arg) && CAST_TYPES[namesOf((tree.typeName as Tree).names).at(-1) ?? '']) || 0
  return type === 'A_Const' && (tree.isnull === true || tree.sval !== undefined) ? UNKNOWN_TYPE : 0
}

/** What the server calls a column without AS (FigureColname of parse_target.c), where that is known here. */
function nameOf(val: unknown): string | undefined {
  const [type, tree] = unwrap(val)
  switch (type) {
    case 'ColumnRef':
      return namesOf(tree.fields).at(-1)
    case 'FuncCall':
      return namesOf(tree.funcname).at(-1)
    case 'A_Const':
    case 'A_Expr':
    case 'BoolExpr':
    case 'NullTest':
    case 'BooleanTest':
    case 'ParamRef':
      return '?column?'
    default:
      return undefined
  }
}
