import type { Relation, Routine, UserOperator, UserType } from '../mirror/types.ts'
import type { Tree } from './nodes.ts'
import type { Naming } from './surroundings.ts'

/** Names are resolved as the server does it: by the search path, in the newest description that the database gave of itself. */

/** Relations of the user's, and of the system's by their full names. */
export interface Found {
  readonly relations: readonly Relation[]
  readonly system: readonly string[]
}

/**
 * Where a name of a relation leads. Several: it is not known which of them is meant now. `covered` stand behind the one that is
 * meant: the server looks the name up again once it has its locks, and whoever drops, renames or moves what stands first while the
 * statement waits has one of these read in its place.
 */
export type Led = (Found & { readonly covered: Found }) | 'unknown'

const NONE: Found = { relations: [], system: [] }

const SYSTEM_SCHEMAS: ReadonlySet<string> = new Set(['pg_catalog', 'information_schema', 'pg_toast'])
const isTemporary = (schema: string) => schema.startsWith('pg_temp')

/** The schema that a statement writes, as the database calls it: `pg_temp` is the session's own. */
function written(schema: string, { path }: Naming): string {
  return schema === 'pg_temp' ? (path?.find(isTemporary) ?? schema) : schema
}

/** Only with a mirror. `system` are names in pg_catalog and information_schema. */
export function relationsOf({ schemaname, relname }: Tree, around: Naming): Led {
  const mirror = around.mirror!
  const name = String(relname ?? '')
  const inSchema = (schema: string): Found | undefined => {
    const relation = mirror.relation(schema, name)
    if (relation && schema !== 'pg_catalog') return { relations: [relation], system: [] }
    if (SYSTEM_SCHEMAS.has(schema) && (relation || schema === 'pg_toast' || mirror.hasSystemRelation(schema, name)))
      return { relations: [], system: [`${schema}.${name}`] }
    return undefined
  }
  if (schemaname !== undefined) {
    const found = inSchema(written(String(schemaname), around))
    return found ? { ...found, covered: NONE } : 'unknown'
  }
  if (!around.path) {
    const relations = mirror.relationsNamed(name)
    const system = mirror.hasSystemRelation('pg_catalog', name) ? [`pg_catalog.${name}`] : []
    return relations.length + system.length === 0 ? 'unknown' : { relations, system, covered: NONE }
  }
  const meant = { relations: [] as Relation[], system: [] as string[] }
  const covered = { relations: [] as Relation[], system: [] as string[] }
  let into = meant
  for (const schema of around.path) {
    const found = inSchema(schema)
    if (!found) continue
    into.relations.push(...found.relations)
    into.system.push(...found.system)
    // Nobody drops what came with the server.
    if (mirror.hasSystemRelation(schema, name)) break
    // What was temporary may be gone already (DISCARD TEMP, ON COMMIT DROP), as what this transaction may have dropped.
    if (around.unsettled || isTemporary(schema)) continue
    if (around.asOfNow) break
    into = covered
  }
  return meant.relations.length + meant.system.length === 0 ? 'unknown' : { ...meant, covered }
}

/** All that the name leads to, or may lead to before the statement runs; undefined where one of it is the system's. */
export function anyOf(led: Led): readonly Relation[] | undefined {
  if (led === 'unknown' || led.system.length + led.covered.system.length > 0) return undefined
  return led.covered.relations.length === 0 ? led.relations : [...led.relations, ...led.covered.relations]
}

/** Functions of the user's that a call by this name may reach. Temporary ones must be written with their schema (CVE-2007-2138). */
export function routinesOf(path: readonly string[], around: Naming): readonly Routine[] {
  return around.mirror ? reachable(around.mirror.routinesNamed(path.at(-1)!), (routine) => routine.schema, path, around) : []
}

export function operatorsOf(path: readonly string[], around: Naming): readonly UserOperator[] {
  return around.mirror ? reachable(around.mirror.operatorsNamed(path.at(-1)!), (operator) => operator.from, path, around) : []
}

function reachable<T extends Routine>(all: readonly T[], schemaOf: (one: T) => string, path: readonly string[], around: Naming): readonly T[] {
  if (all.length === 0) return all
  if (path.length > 1) {
    const schema = written(path.at(-2)!, around)
    return all.filter((one) => schemaOf(one) === schema)
  }
  const searched = around.path?.filter((schema) => !isTemporary(schema))
  return all.filter(
    (one) => (!searched || searched.includes(schemaOf(one))) && !isTemporary(schemaOf(one)) && !(one.shadowed && searched?.[0] === 'pg_catalog'),
  )
}

/** Types of the user's that a name may mean. A row type counts, and an array of one under the name that the server made up for it. */
export function typesOf(path: readonly string[], around: Naming): readonly UserType[] {
  const mirror = around.mirror
  if (!mirror) return []
  const schema = path.length > 1 ? written(path.at(-2)!, around) : undefined
  const isMeant = (type: UserType) => (schema === undefined ? !around.path || around.path.includes(type.schema) : type.schema === schema)
  const types: UserType[] = []
  for (let name = path.at(-1)!; ; name = name.slice(1)) {
    // What stands first may be gone before it is looked up, so all count.
    types.push(...mirror.typesNamed(name).filter(isMeant))
    if (!name.startsWith('_')) return types
  }
}

/** Whether pg_catalog is searched before anything that somebody could have put a function or an operator into. */
const isBuiltinFirst = (path: readonly string[] | undefined) => path?.find((schema) => !isTemporary(schema)) === 'pg_catalog'

/** Whether a call by this name may reach a function of pg_catalog. */
export function reachesBuiltin(path: readonly string[], around: Naming): boolean {
  if (path.length > 1) return path.at(-2) === 'pg_catalog' && path.length === 2
  if (around.mirror) return around.mirror.isSystemFunction(path[0] ?? '')
  return isBuiltinFirst(around.path)
}
