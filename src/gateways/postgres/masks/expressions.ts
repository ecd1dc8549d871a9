import type { Routine, UserType } from '../mirror/types.ts'
import { READ_FUNCTIONS } from '../sql/functions.ts'
import { namesOf, type Tree } from '../sql/nodes.ts'
import { parseSql } from '../sql/parse.ts'
import { type Look, named } from './look.ts'
import { isAnythingHidden, meaningOf, NO_CTES, type Scope } from './scope.ts'

/** They change something, and read nothing that lies in a table. */
const BLIND: ReadonlySet<string> = new Set(
  `nextval setval set_config setseed pg_notify pg_sleep pg_sleep_for pg_sleep_until txid_current pg_current_xact_id pg_advisory_lock
   pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared pg_advisory_xact_lock
   pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared pg_try_advisory_xact_lock
   pg_try_advisory_xact_lock_shared`.split(/\s+/),
)

/**
 * What hidden thing an expression touches; undefined when none. Every part of the tree is gone through, whatever its kind,
 * so there is no kind of expression in which a column could go unseen.
 */
export function touched(node: unknown, scope: Scope, look: Look): string | undefined {
  if (typeof node !== 'object' || node === null) return undefined
  if (Array.isArray(node)) return first(node, (item) => touched(item, scope, look))
  return first(Object.entries(node), ([key, value]) => {
    if (typeof value !== 'object' || value === null) return undefined
    return SPECIAL[key]?.(value as Tree, scope, look) ?? (key in SPECIAL && !GO_ON.has(key) ? undefined : touched(value, scope, look))
  })
}

/** All are looked at, so that what is forbidden by itself (a function, a relation) is met even behind something hidden. */
function first<T>(items: readonly T[], look: (item: T) => string | undefined): string | undefined {
  let found: string | undefined
  for (const item of items) {
    const here = look(item)
    found ??= here
  }
  return found
}

/** A hidden column must not be in the expression; `where` says for people what it is part of. */
export function mustNotTouch(node: unknown, scope: Scope, look: Look, where: string): void {
  const found = touched(node, scope, look)
  if (found !== undefined) look.misuse(`${found} is used in ${where}`)
}

const SPECIAL: Readonly<Record<string, (tree: Tree, scope: Scope, look: Look) => string | undefined>> = {
  ColumnRef: (tree, scope, look) => {
    routinesOfField(tree, scope, look)
    const meaning = meaningOf(tree.fields, scope)
    switch (meaning.is) {
      case 'columns':
      case 'row':
      case 'star': {
        const hidden = meaning.columns.find((column) => column.hides)
        return hidden && (meaning.is === 'columns' ? named(hidden.name) : `a whole row with ${named(hidden.name)}`)
      }
      case 'unknown':
        return unknownName(tree, scope)
      default:
        return undefined
    }
  },
  SubLink: (tree, scope, look) => {
    const output = look.output(tree.subselect, scope)
    const outside = touched(tree.testexpr, scope, look)
    operator(tree.operName, look)
    // EXISTS asks for rows alone.
    const hidden = tree.subLinkType === 'EXISTS_SUBLINK' ? undefined : output.columns.find((column) => column.hides)
    return outside ?? (hidden && `${named(hidden.name)} of a subquery`)
  },
  SelectStmt: (tree, scope, look) => {
    const hidden = look.output({ SelectStmt: tree }, scope).columns.find((column) => column.hides)
    return hidden && `${named(hidden.name)} of a subquery`
  },
  FuncCall: (tree, _, look) => called(namesOf(tree.funcname), look),
  A_Expr: (tree, _, look) => operator(tree.name, look),
  SortBy: (tree, _, look) => operator(tree.useOp, look),
  A_Indirection: (tree, _, look) => {
    for (const name of namesOf(tree.indirection)) for (const routine of look.mirror.routinesNamed(name)) runs(routine, look)
    return undefined
  },
  TypeName: typed,
  typeName: typed,
}
/** Looked into as any other node, after what their names say. */
const GO_ON: ReadonlySet<string> = new Set(['FuncCall', 'A_Expr', 'SortBy', 'A_Indirection', 'TypeName', 'typeName'])

/** A name that nothing here has: an error in the database, or a column that came after the last look at it. */
function unknownName(tree: Tree, scope: Scope): string | undefined {
  if (!isAnythingHidden(scope)) return undefined
  return `a name that is not known here, ${JSON.stringify(namesOf(tree.fields).join('.').slice(0, 130))},`
}

function typed(tree: Tree, _: Scope, look: Look): undefined {
  const name = namesOf(tree.names).at(-1) ?? ''
  // `_d` is the array of d, where the server has no type for it by itself.
  for (const type of [...look.mirror.typesNamed(name), ...look.mirror.typesNamed(name.replace(/^_+/, ''))]) made(type, look)
  for (const { runs: routine } of look.mirror.casts) if (routine) runs(routine, look)
}

/** A value becomes one of this type: the checks of a domain could hold it against what is hidden. */
export function made(type: UserType | undefined, look: Look, seen: Set<number> = new Set()): void {
  if (!type || seen.has(type.oid)) return
  seen.add(type.oid)
  for (const routine of type.runs) runs(routine, look, seen)
  for (const check of type.checks) {
    const parsed = parseSql(`SELECT ${check}`)
    if ('failure' in parsed) look.misuse(`a check of the type ${type.schema}.${type.name} cannot be read`)
    else touched(parsed.statements[0]?.tree.SelectStmt, NOWHERE, look)
  }
  for (const oid of type.parts) made(look.mirror.typeByOid(oid), look, seen)
}

const NOWHERE: Scope = { tables: [], columns: [], open: false, outer: undefined, ctes: NO_CTES }

/** `t.f` calls f with the row of t, when t has no such column. */
export function routinesOfField(tree: Tree, scope: Scope, look: Look): void {
  const names = namesOf(tree.fields)
  const meaning = names.length > 1 ? meaningOf(tree.fields, scope) : undefined
  if (meaning === undefined || meaning.is === 'columns' || meaning.is === 'star') return
  for (const routine of look.mirror.routinesNamed(names.at(-1)!)) runs(routine, look)
}

/** Functions could read what is hidden by themselves, and hand it out. */
export function called(path: readonly string[], look: Look): undefined {
  const name = path.at(-1) ?? ''
  const schema = path.length > 1 ? path.at(-2) : undefined
  const systemFirst = schema === 'pg_catalog' || (schema === undefined && look.path?.[0] === 'pg_catalog')
  const meant = look.mirror
    .routinesNamed(name)
    .filter((routine) => (schema === undefined || routine.schema === schema) && !(systemFirst && routine.shadowed))
  for (const routine of meant) runs(routine, look)
  const known = (schema === undefined || schema === 'pg_catalog') && (READ_FUNCTIONS.has(name) || BLIND.has(name))
  // What makes JSON of a value goes through the cast that its type has.
  if (name.includes('json')) for (const { runs: routine } of look.mirror.casts) if (routine) runs(routine, look)
  if (meant.length === 0 && !known) look.misuse(`the function ${path.join('.').slice(0, 130)} is called, which might read what is hidden`)
}

function operator(name: unknown, look: Look): undefined {
  const symbol = namesOf(name).at(-1)
  if (symbol === undefined) return
  for (const routine of look.mirror.operatorsNamed(symbol)) if (!routine.shadowed) runs(routine, look)
}

/** An immutable function says of itself that it reads no table; a reviewed one was looked at by the owner of the database. */
function runs(routine: Routine, look: Look, inside: Set<number> = new Set()): void {
  for (const oid of routine.takes) made(look.mirror.typeByOid(oid), look, inside)
  if (isPure(routine) || look.isReviewed(routine)) return
  look.misuse(`the function ${routine.schema}.${routine.name} is called, which might read what is hidden`)
}

const isPure = (routine: Routine): boolean =>
  routine.volatility === 'immutable' &&
  !routine.securityDefiner &&
  (routine.parts ?? []).every((part) => isPure(part) || part.schema === 'pg_catalog')
