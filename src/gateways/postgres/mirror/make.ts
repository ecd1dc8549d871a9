import type { Column, Mirror, Relation, Routine, UserCast, UserOperator, UserType } from './types.ts'

/** A relation whose columns are read when they are first asked for: of 20,000 relations a statement names three. */
export type Listed = Omit<Relation, 'columns'> & { readonly columns: readonly Column[] | (() => readonly Column[]) }

/** What a mirror is made of; what is left out is not there. */
interface MirrorParts {
  readonly serverVersion?: number
  readonly takenAt?: number
  readonly relations?: readonly Listed[]
  readonly routines?: readonly Routine[]
  readonly operators?: readonly UserOperator[]
  readonly types?: readonly UserType[]
  readonly casts?: readonly UserCast[]
  /** names of functions in pg_catalog */
  readonly systemFunctions?: Iterable<string>
  /** `schema.name` of relations in pg_catalog and information_schema */
  readonly systemRelations?: Iterable<string>
}

/** Pure: the plain lists of a look, made to be asked by name. */
export function makeMirror(parts: MirrorParts): Mirror {
  const byOid = new Map<number, Relation>()
  const rowTypes = new Map<number, Relation>()
  const relations = (parts.relations ?? []).map(unfold)
  for (const relation of relations) {
    byOid.set(relation.oid, relation)
    for (const type of relation.rowType ?? []) if (type !== 0) rowTypes.set(type, relation)
  }
  const relationsByName = grouped(relations, (relation) => relation.name)
  const routines = grouped(parts.routines ?? [], (routine) => routine.name)
  const operators = grouped(parts.operators ?? [], (operator) => operator.operator)
  const types = grouped(parts.types ?? [], (type) => type.name)
  const typesByOid = new Map((parts.types ?? []).map((type) => [type.oid, type]))
  const systemFunctions = new Set(parts.systemFunctions)
  const systemRelations = new Set(parts.systemRelations)
  const relationsNamed = (name: string) => relationsByName.get(name) ?? []
  return {
    serverVersion: parts.serverVersion ?? 0,
    takenAt: parts.takenAt ?? 0,
    relationsNamed,
    relation: (schema, name) => relationsNamed(name).find((relation) => relation.schema === schema),
    relationByOid: (oid) => byOid.get(oid),
    all: () => relations,
    routinesNamed: (name) => routines.get(name) ?? [],
    operatorsNamed: (name) => operators.get(name) ?? [],
    typesNamed: (name) => [
      ...(types.get(name) ?? []),
      ...relationsNamed(name)
        .filter((relation) => relation.rowType)
        .map(rowTypeOf),
    ],
    typeByOid(oid) {
      const relation = rowTypes.get(oid)
      return relation ? rowTypeOf(relation) : typesByOid.get(oid)
    },
    casts: parts.casts ?? [],
    isSystemFunction: (name) => systemFunctions.has(name),
    hasSystemRelation: (schema, name) => systemRelations.has(`${schema}.${name}`),
  }
}

/** Every table is a type as well. */
function rowTypeOf(relation: Relation): UserType {
  return {
    oid: relation.rowType![0],
    schema: relation.schema,
    name: relation.name,
    kind: 'row',
    runs: [],
    checks: [],
    parts: relation.columns.map((column) => column.domain ?? column.type),
  }
}

function unfold({ columns, ...rest }: Listed): Relation {
  if (typeof columns !== 'function') return { ...rest, columns }
  let read: readonly Column[] | undefined
  return {
    ...rest,
    get columns() {
      read ??= columns()
      return read
    },
  }
}

function grouped<T>(list: readonly T[], nameOf: (item: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>()
  for (const item of list) {
    const name = nameOf(item)
    const group = groups.get(name)
    if (group) group.push(item)
    else groups.set(name, [item])
  }
  return groups
}
