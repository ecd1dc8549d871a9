import { listOf, type Tree, unwrap } from '../sql/nodes.ts'
import type { Hidden } from './types.ts'

/** One column of a table, a subquery or a result. */
export interface Col {
  /** undefined: what the server calls it is not known here, and it hides nothing */
  readonly name: string | undefined
  readonly hides: Hidden | undefined
  /** oid of its type; 0: not known; 705 (`unknown`): a plain text constant or NULL */
  readonly type: number
  readonly isNull?: boolean
}

export const UNKNOWN_TYPE = 705

/** The columns of a query, in order. `open`: there are more, or fewer, that are not known; these hide nothing. */
export interface Output {
  readonly columns: readonly Col[]
  readonly open: boolean
}

/** Something with a name in FROM. */
export interface Table extends Output {
  readonly alias: string | undefined
  /** of a relation without an alias: `schema.table.column` may be written */
  readonly schema?: string
}

/** One item of FROM: what can be named through it, and what `*` is. */
export interface Item extends Output {
  readonly tables: readonly Table[]
}

/** What the names of columns mean at one place. */
export interface Scope {
  readonly tables: readonly Table[]
  readonly columns: readonly Col[]
  readonly open: boolean
  readonly outer: Scope | undefined
  readonly ctes: Ctes
}

/** Queries of WITH by name; each is looked at when it is first named. */
export type Ctes = ReadonlyMap<string, () => Output>

export const NO_CTES: Ctes = new Map()

export function scopeOf(items: readonly Item[], outer: Scope | undefined, ctes: Ctes): Scope {
  return {
    tables: items.flatMap((item) => item.tables),
    columns: items.flatMap((item) => item.columns),
    open: items.some((item) => item.open),
    outer,
    ctes,
  }
}

/** What a reference leads to. `row`: a whole row, of these columns. `unknown`: nothing here has the name. */
export type Meaning =
  | { readonly is: 'columns'; readonly columns: readonly Col[] }
  | { readonly is: 'row' | 'star'; readonly columns: readonly Col[]; readonly open: boolean }
  | { readonly is: 'plain' }
  | { readonly is: 'unknown' }

/** Every table has them, and no mask speaks of them. */
const SYSTEM_COLUMNS: ReadonlySet<string> = new Set(['ctid', 'xmin', 'cmin', 'xmax', 'cmax', 'tableoid'])

/** `fields` of a ColumnRef, looked for as the server does: inside first, columns before rows. */
export function meaningOf(fields: unknown, scope: Scope): Meaning {
  const path = listOf(fields).map((field) => unwrap(field))
  const names = path.map(([type, tree]) => (type === 'String' ? String((tree as { sval?: string }).sval ?? '') : undefined))
  if (path.at(-1)?.[0] === 'A_Star') {
    if (path.length === 1) return { is: 'star', columns: scope.columns, open: scope.open }
    const table = tableNamed(names.slice(0, -1), scope)
    return table ? { is: 'star', columns: table.columns, open: table.open } : { is: 'unknown' }
  }
  if (names.includes(undefined)) return { is: 'unknown' }
  if (names.length === 1) return bare(names[0]!, scope)
  const table = tableNamed(names.slice(0, -1), scope)
  if (!table) return { is: 'unknown' }
  const name = names.at(-1)!
  const found = table.columns.filter((column) => column.name === name)
  if (found.length > 0) return { is: 'columns', columns: found }
  if (SYSTEM_COLUMNS.has(name)) return { is: 'plain' }
  // `t.f` calls f with the row when t has no such column.
  return table.columns.some((column) => column.hides) ? { is: 'row', columns: table.columns, open: table.open } : { is: 'plain' }
}

function bare(name: string, innermost: Scope): Meaning {
  // Where not every column is known the name may mean one of those, or go on outwards.
  let unsure = false
  for (let scope: Scope | undefined = innermost; scope; scope = scope.outer) {
    const { named, isAnyNameless, nameless } = gist(scope)
    const found = named.get(name)
    if (found) return { is: 'columns', columns: found }
    // The server made up a name for it, which may be this one.
    if (nameless.length > 0) return { is: 'row', columns: nameless, open: scope.open }
    if (SYSTEM_COLUMNS.has(name) && scope.tables.length > 0) return { is: 'plain' }
    unsure ||= scope.open || isAnyNameless
  }
  for (let scope: Scope | undefined = innermost; scope; scope = scope.outer) {
    const table = scope.tables.find((one) => one.alias === name)
    if (table) return { is: 'row', columns: table.columns, open: table.open }
  }
  return unsure ? { is: 'plain' } : { is: 'unknown' }
}

/** A hidden column of which it is not known what the server calls it: any name may mean it. */
export const isNameless = ({ name, hides }: Col): boolean => name === undefined && hides !== undefined

/** `t`, `schema.t` or `database.schema.t`. */
function tableNamed(path: readonly (string | undefined)[], innermost: Scope): Table | undefined {
  const [name, schema] = [path.at(-1), path.at(-2)]
  for (let scope: Scope | undefined = innermost; scope; scope = scope.outer) {
    const table = scope.tables.find((one) => one.alias === name && (schema === undefined || one.schema === schema))
    if (table) return table
  }
  return undefined
}

/** Whether anything hidden could be meant by a name that is not understood here. */
export function isAnythingHidden(innermost: Scope): boolean {
  for (let scope: Scope | undefined = innermost; scope; scope = scope.outer) {
    if (gist(scope).isAnyHidden) return true
  }
  return false
}

interface Gist {
  readonly named: ReadonlyMap<string, readonly Col[]>
  readonly isAnyNameless: boolean
  /** see {@link isNameless} */
  readonly nameless: readonly Col[]
  readonly isAnyHidden: boolean
}

const gists = new WeakMap<Scope, Gist>()

/**
 * What is asked of a scope for every name in it, worked out once: a text of 64 KiB may name 20,000 columns beside each other
 * (measured, without it: 5 s with tables of 60 columns, and the time grows with their width).
 */
function gist(scope: Scope): Gist {
  const known = gists.get(scope)
  if (known) return known
  const named = new Map<string, Col[]>()
  for (const column of scope.columns) {
    if (column.name === undefined) continue
    const before = named.get(column.name)
    if (before) before.push(column)
    else named.set(column.name, [column])
  }
  const isAnyHidden = scope.columns.some(({ hides }) => hides) || scope.tables.some(({ columns }) => columns.some(({ hides }) => hides))
  const made = {
    named,
    isAnyNameless: scope.columns.some(({ name }) => name === undefined),
    nameless: scope.columns.filter(isNameless),
    isAnyHidden,
  }
  gists.set(scope, made)
  return made
}

/** The columns under other names: `AS t (a, b)`. Those beyond the list keep theirs. */
export function renamed({ columns, open }: Output, names: readonly string[]): Output {
  if (names.length === 0) return { columns, open }
  const extra = open ? names.slice(columns.length).map((name): Col => ({ name, hides: undefined, type: 0 })) : []
  return { columns: [...columns.map((column, i) => (names[i] === undefined ? column : { ...column, name: names[i] })), ...extra], open }
}

export const aliasOf = (alias: unknown): { readonly name: string | undefined; readonly columns: readonly string[] } => {
  const tree = alias as Tree | undefined
  return {
    name: tree?.aliasname as string | undefined,
    columns: listOf(tree?.colnames).map((item) => String((unwrap(item)[1] as { sval?: string }).sval ?? '')),
  }
}
