import type { Mirror, Relation, UserType } from '../mirror/types.ts'
import type { Findings } from './findings.ts'
import type { Ceilings } from './settings.ts'

/** What makes names mean something. */
export interface Naming {
  /** Schemas in the order in which they are searched, pg_catalog included; undefined: not known. */
  readonly path: readonly string[] | undefined
  readonly mirror?: Mirror | undefined
  /** Definitions were changed in this transaction, which no mirror shows yet: what a name leads to may be gone, and it leads further. */
  readonly unsettled?: boolean | undefined
  /** What stands behind the first on the path is left out. */
  readonly asOfNow?: true | undefined
}

/** What the walk relies on besides the text: what the connection was given, and what the database says of itself. */
export interface Surroundings extends Naming {
  readonly ceilings: Ceilings
  /** The server itself refuses writes in this session. */
  readonly pinnedReadOnly?: boolean
  readonly reviewed?: Reviewed
  /** oids of types of the user's that the client declared for parameters */
  readonly parameterTypes?: readonly number[]
  /** What runs, and is read, with a relation or type that a statement names. Absent without a mirror. */
  readonly behind?: Behind
}

/** Functions that the owner of the database has looked into. */
export interface Reviewed {
  /** `schema.function`, written out */
  isNamed(name: string): boolean
  /** or met by a glob */
  isMatched(name: string): boolean
}

export interface Behind {
  /** A view's query and a table's row policies. Undefined: they cannot be read. */
  ofRelation(relation: Relation, budget: Budget): Findings | undefined
  /** The checks of a domain. */
  ofType(type: UserType, budget: Budget): Findings | undefined
}

/** How much one statement may make us read. */
export interface Budget {
  /** definitions that were not read before */
  left: number
  /** What is being read: a definition that comes back to itself runs no more code than it shows the first time. */
  readonly open: Set<string>
  /** Those of them that were met again inside: what lies between was not seen whole, and is not remembered. */
  readonly met: Set<string>
  /** Something was left out. */
  isShort: boolean
}
