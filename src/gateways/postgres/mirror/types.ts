import type { Effect } from '../../../policy/types.ts'

/**
 * What a database says of itself at one moment, as plain data: enough to resolve the names of a statement as the server
 * will, to see what stands behind them, and to know what calling them does. Made by `look.ts`, kept by `mirrors.ts`.
 * The system's own objects (pg_catalog, information_schema) are not in it: `sql/functions.ts` and `sql/relations.ts` know them.
 */
export interface Mirror {
  /** `server_version_num` */
  readonly serverVersion: number
  /** ms since 1970; by the gateway's clock */
  readonly takenAt: number
  /** In every schema of the user's, by name (as the catalog holds it, unquoted). */
  relationsNamed(name: string): readonly Relation[]
  relation(schema: string, name: string): Relation | undefined
  relationByOid(oid: number): Relation | undefined
  /** Functions and procedures outside pg_catalog, whatever their arguments. */
  routinesNamed(name: string): readonly Routine[]
  /** Functions behind operators outside pg_catalog, whatever their operands. */
  operatorsNamed(name: string): readonly Routine[]
  /** Code that runs when a value is cast to, or from, a type outside pg_catalog: casts, domain checks, input functions. */
  typesNamed(name: string): readonly UserType[]
  hasSchema(name: string): boolean
}

export type RelationKind = 'table' | 'partitioned table' | 'view' | 'materialized view' | 'foreign table' | 'sequence' | 'composite' | 'other'

export interface Relation {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: RelationKind
  /** Without dropped ones, in order. */
  readonly columns: readonly Column[]
  /** The query of a view or materialized view, every name written in full. */
  readonly definition?: string
  /** Expressions that run when it is read or written: row policies, with every name in full. */
  readonly policies: readonly string[]
  /** Partitions and inheriting tables, direct ones; and those that it is one of. */
  readonly children: readonly number[]
  readonly parents: readonly number[]
  /** Triggers and rewrite rules run code that the statement does not show. */
  readonly hasTriggers: boolean
  readonly hasRules: boolean
  /** attnums of each unique index or constraint */
  readonly uniques: readonly (readonly number[])[]
  /** columns that must exist elsewhere: writing them asks the other table whether a value is there */
  readonly references: readonly { readonly columns: readonly number[]; readonly relation: number; readonly theirs: readonly number[] }[]
}

export interface Column {
  /** as RowDescription counts */
  readonly attnum: number
  readonly name: string
  /** oid of its type; of the type below, for a domain */
  readonly type: number
  /** what it is computed from, when it is generated */
  readonly generated?: string
}

export interface Routine {
  readonly schema: string
  readonly name: string
  readonly kind: 'function' | 'procedure' | 'aggregate' | 'window'
  readonly volatility: 'immutable' | 'stable' | 'volatile'
  readonly securityDefiner: boolean
  /** `sql`, `plpgsql`, `c`, `internal` ... */
  readonly language: string
  /** oids of argument types: a function of one row type can be written like a column of it */
  readonly takes: readonly number[]
}

export interface UserType {
  readonly schema: string
  readonly name: string
  /** What runs with it; empty for what runs nothing of the user's. */
  readonly runs: readonly Routine[]
}

/** What calling something of the user's does, and why. */
export interface Verdict {
  readonly effects: readonly Effect[]
  readonly opaque: boolean
}
