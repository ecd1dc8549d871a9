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
  operatorsNamed(name: string): readonly UserOperator[]
  /** Code that runs when a value is cast to, or from, a type outside pg_catalog: casts, domain checks, input functions. */
  typesNamed(name: string): readonly UserType[]
  typeByOid(oid: number): UserType | undefined
  /** Casts that run something of the user's, or lead to or from a type of the user's without being asked for. */
  readonly casts: readonly UserCast[]
  /** Whether pg_catalog has a function of this name: what is neither here nor a routine does not exist. */
  isSystemFunction(name: string): boolean
  /** Whether pg_catalog, or information_schema, holds a relation of this name. */
  hasSystemRelation(schema: string, name: string): boolean
  /** Every relation of the user's: masks may be written with globs, and foreign keys are followed backwards. */
  all(): Iterable<Relation>
}

/**
 * Stands for a definition that could not be read, because somebody holds a lock on what it names. It is no SQL, so whoever parses
 * it comes to the closed answer: it may do anything, and may speak of every column.
 */
export const UNREAD = '('

export type RelationKind = 'table' | 'partitioned table' | 'view' | 'materialized view' | 'foreign table' | 'sequence' | 'composite' | 'other'

export interface Relation {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: RelationKind
  /** Oid of the type of its rows, and of arrays of them; 0 where it has none. */
  readonly rowType?: readonly [row: number, array: number]
  /** Without dropped ones, in order. */
  readonly columns: readonly Column[]
  /** The query of a view or materialized view, every name written in full. */
  readonly definition?: string
  /** Expressions that run when it is read or written: row policies, with every name in full; none while they are switched off. */
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
  /**
   * What else can refuse a row for what other columns hold: pg_get_constraintdef of check and exclusion constraints,
   * pg_get_indexdef of unique indexes on expressions or with a condition. Undefined: not looked at, so anything may be there.
   */
  readonly checks?: readonly string[]
  /** What its indexes are sorted by: rows that are read through one come in that order. Undefined: not looked at, so by anything. */
  readonly sorted?: readonly SortedBy[]
  /** pg_get_partkeydef of a partitioned table: which partition a row lies in tells what these columns hold. */
  readonly partitionKey?: string
}

export interface SortedBy {
  /** attnums, of columns inside expressions too; 0: of a whole row */
  readonly columns: readonly number[]
  /** One key, and every row is in it: a condition leads to such an index only by that key. */
  readonly plain: boolean
}

export interface Column {
  /** as RowDescription counts */
  readonly attnum: number
  readonly name: string
  /** oid of its type; of the type below, for a domain */
  readonly type: number
  /** oid of the domain, where it has one */
  readonly domain?: number
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
  /** It can be called with so few arguments: the others have defaults, or are VARIADIC. Absent: all are needed. */
  readonly least?: number
  /** and with any number more than it takes */
  readonly variadic?: boolean
  /** oid of the type of its result; absent: of no user's type */
  readonly returns?: number
  /** pg_catalog has one of the same name and arguments, which is taken where pg_catalog is searched first. */
  readonly shadowed?: boolean
  /** What an aggregate is made of. The server calls every aggregate immutable, whatever these are. */
  readonly parts?: readonly Routine[]
}

/** The function behind an operator. `takes` are the operands as the operator declares them. */
export interface UserOperator extends Routine {
  /** The schema of the operator, which may be another than that of its function. */
  readonly from: string
  /** Its own name, such as `<->`. */
  readonly operator: string
}

export interface UserCast {
  readonly source: number
  readonly target: number
  /** Whether it happens unasked: anywhere, where a column is written, or never. */
  readonly unasked: 'anywhere' | 'assignment' | 'never'
  /** Absent: the bytes stay as they are, or go through the text form. */
  readonly runs?: Routine
}

export interface UserType {
  readonly schema: string
  readonly name: string
  readonly oid: number
  readonly kind: 'base' | 'domain' | 'enum' | 'range' | 'row' | 'array'
  /** What runs when a value is made of text, or shown as text; empty for what runs nothing of the user's. */
  readonly runs: readonly Routine[]
  /** Checks of a domain, with every name in full; `VALUE` stands for the value. They run wherever a value becomes one of it. */
  readonly checks: readonly string[]
  /** oids of the types it is made of: elements, what a domain or range lies over, columns of a row */
  readonly parts: readonly number[]
}
