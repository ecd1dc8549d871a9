import type { Relation } from '../mirror/types.ts'
import { listOf, namesOf, type Tree, unwrap } from '../sql/nodes.ts'
import { isCatalogRead, relationName } from '../sql/relations.ts'
import { anyOf, relationsOf } from '../sql/resolve.ts'
import { covering } from './covered.ts'
import { called, mustNotTouch } from './expressions.ts'
import { type Look, Misuse, named } from './look.ts'
import { aliasOf, type Col, type Ctes, type Item, isNameless, type Output, renamed, type Scope, scopeOf, type Table } from './scope.ts'

/** Where an item of FROM stands: LATERAL items and functions see what is on their left. */
export interface Standing {
  readonly left: readonly Item[]
  readonly outer: Scope | undefined
  readonly ctes: Ctes
}

/** Nobody joins so many; and the time for names grows with their columns, for each of them. */
const MOST_JOINED = 200

const plain = (name: string | undefined): Col => ({ name, hides: undefined, type: 0 })

/** One item of FROM or USING. Whatever is not known here may not stand beside something hidden. */
export function fromItem(node: unknown, at: Standing, look: Look): Item {
  const [type, tree] = unwrap(node)
  const lateral = () => scopeOf(at.left, at.outer, at.ctes)
  switch (type) {
    case 'RangeVar':
      return single(rangeTable(tree, at, look))
    case 'RangeTableSample':
      mustNotTouch([tree.args, tree.repeatable], lateral(), look, 'TABLESAMPLE')
      called(namesOf(tree.method), look)
      return fromItem(tree.relation, at, look)
    case 'RangeSubselect': {
      const outer = tree.lateral === true ? lateral() : at.outer
      return single(aliased(look.output(tree.subquery, outer, at.ctes), tree.alias, look))
    }
    case 'RangeFunction':
      mustNotTouch([tree.functions, tree.coldeflist], lateral(), look, 'a function')
      return single(functionTable(tree, look))
    case 'JsonTable':
    case 'RangeTableFunc': {
      const { alias, ...rest } = tree
      mustNotTouch(rest, lateral(), look, 'a function')
      return single(aliased({ columns: [], open: true }, alias, look))
    }
    case 'JoinExpr':
      return join(tree, at, look)
    default:
      look.misuse(`FROM holds ${type ?? 'something'} that cannot be followed`)
      return { tables: [], columns: [], open: true }
  }
}

const single = (table: Table): Item => ({ tables: [table], columns: table.columns, open: table.open })

function aliased(output: Output, alias: unknown, look: Look): Table {
  const { name, columns } = aliasOf(alias)
  return { alias: name, ...renamedHere(output, columns, look) }
}

/** New names go by position, and where positions are not known a hidden column could get the name of another. */
export function renamedHere(output: Output, names: readonly string[], look: Look): Output {
  const hidden = output.open && names.length > 0 ? output.columns.find((column) => column.hides) : undefined
  if (hidden) look.misuse(`${named(hidden.name)} stands among columns that are not known here, and all get new names`)
  return renamed(output, names)
}

function rangeTable(range: Tree, at: Standing, look: Look): Table {
  const { name: alias, columns: names } = aliasOf(range.alias)
  const cte = range.schemaname === undefined && range.catalogname === undefined ? at.ctes.get(String(range.relname)) : undefined
  if (cte) return { alias: alias ?? String(range.relname), ...renamedHere(cte(), names, look) }
  const meant = meantBy(range, look)
  if (typeof meant === 'object') return relationTable(meant, alias, names, look)
  if (meant === undefined) look.misuse(`the table ${relationName(range).slice(0, 130)} is not known here`)
  else if (isCatalogRead(meant) !== true) look.misuse(`${meant} may show values of hidden columns, or other people's statements`)
  const schema = alias === undefined && meant !== undefined ? { schema: meant.slice(0, meant.indexOf('.')) } : {}
  return { alias: alias ?? String(range.relname), ...schema, ...renamed({ columns: [], open: true }, names) }
}

/** A relation, and those that it covers (see `Led`). */
export type Meant = readonly [Relation, ...Relation[]]

/** The relation that a name leads to; the full name of one of the system's; undefined when that cannot be said for sure. */
export function meantBy(range: Tree, { mirror, path }: Look): Meant | string | undefined {
  const schema = range.schemaname as string | undefined
  // What is of the session alone comes and goes unseen, and is found before everything else.
  if (schema === undefined ? path === undefined || path.some(isTemporary) : isTemporary(schema)) return undefined
  const led = relationsOf(range, { ...NOTHING_ELSE, mirror, path })
  if (led === 'unknown') return undefined
  const [relation, ...covered] = anyOf(led) ?? []
  if (relation) return led.relations.length === 1 ? [relation, ...covered] : undefined
  return led.relations.length === 0 ? led.system[0] : undefined
}

/** Names of relations depend on nothing else. */
const NOTHING_ELSE = { ceilings: {}, pinnedReadOnly: false, reviewed: { isNamed: () => false, isMatched: () => false } }

const isTemporary = (schema: string) => schema.startsWith('pg_temp')

/** A relation with what is hidden in it, and in those that it covers. */
export function relationTable(meant: Meant, alias: string | undefined, names: readonly string[], look: Look): Table {
  const [{ schema, name }] = meant
  return {
    alias: alias ?? name,
    ...(alias === undefined ? { schema } : {}),
    ...renamed(covering(meant, look), names),
  }
}

/** Functions of the server's own that give one column, whatever they are called with. */
const ONE_COLUMN: ReadonlySet<string> = new Set(
  `generate_series generate_subscripts string_to_table regexp_split_to_table json_array_elements json_array_elements_text
   jsonb_array_elements jsonb_array_elements_text json_object_keys jsonb_object_keys`.split(/\s+/),
)

function functionTable(tree: Tree, look: Look): Table {
  const { name, columns: names } = aliasOf(tree.alias)
  const calls = listOf(tree.functions).map((list) => unwrap(listOf(unwrap(list)[1].items)[0]))
  const [only] = calls
  const path = only?.[0] === 'FuncCall' && calls.length === 1 ? namesOf(only[1].funcname) : []
  const defined = listOf(tree.coldeflist).length > 0
  const called = path.at(-1) ?? ''
  const one = !defined && (ONE_COLUMN.has(called) || (called === 'unnest' && listOf(only?.[1].args).length === 1))
  const known = one && look.mirror.routinesNamed(called).length === 0 && (path.length === 1 || path[0] === 'pg_catalog')
  if (!known) return { alias: name ?? called, ...renamed({ columns: [], open: true }, names.length > 0 || name === undefined ? names : [name]) }
  const columns = [plain(name ?? called), ...(tree.ordinality === true ? [plain('ordinality')] : [])]
  return { alias: name ?? called, ...renamed({ columns, open: called === 'unnest' }, names) }
}

function join(tree: Tree, at: Standing, look: Look): Item {
  const left = fromItem(tree.larg, at, look)
  const right = fromItem(tree.rarg, { ...at, left: [...at.left, left] }, look)
  if (left.tables.length + right.tables.length > MOST_JOINED) throw new Misuse('it joins too many tables')
  const both = [...left.columns, ...right.columns]
  const using = tree.isNatural === true ? commonNames(left, right, look) : namesOf(tree.usingClause)
  for (const name of using) {
    if (both.some((column) => isNameless(column) || (column.name === name && column.hides)))
      look.misuse(`the hidden column ${JSON.stringify(name)} is joined on`)
  }
  mustNotTouch(tree.quals, scopeOf([left, right], at.outer, at.ctes), look, 'a join condition')
  const rest = both.filter((column) => column.name === undefined || !using.includes(column.name))
  const merged = using.map((name) => both.find((column) => column.name === name) ?? plain(name))
  const columns = [...merged, ...rest]
  const open = left.open || right.open
  const { name, columns: names } = aliasOf(tree.alias)
  if (name !== undefined) return single({ alias: name, ...renamedHere({ columns, open }, names, look) })
  const usingAlias = aliasOf(tree.join_using_alias).name
  const tables = [...left.tables, ...right.tables]
  return { tables: usingAlias === undefined ? tables : [...tables, { alias: usingAlias, columns: merged, open: false }], columns, open }
}

function commonNames(left: Item, right: Item, look: Look): readonly string[] {
  const isUnsure = (item: Item) => item.open || item.columns.some((column) => column.name === undefined)
  if (isUnsure(left) || isUnsure(right)) {
    const hidden = [...left.columns, ...right.columns].find((column) => column.hides)
    if (hidden) look.misuse(`${named(hidden.name)} stands in a NATURAL join whose columns are not known here`)
  }
  return [...new Set(left.columns.flatMap(({ name }) => (name !== undefined && right.columns.some((column) => column.name === name) ? [name] : [])))]
}
