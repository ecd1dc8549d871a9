import type { Mirror, Relation, Routine } from '../mirror/types.ts'
import type { Col, Ctes, Output, Scope } from './scope.ts'

/** What is hidden in one relation. */
export interface Hiding {
  /** all of its columns, in order */
  readonly columns: readonly Col[]
  /** Why it may not be read at all. */
  readonly closed: string | undefined
  /** Something hidden is in it, or behind it. */
  readonly guarded: boolean
  /** Of a view: whether it hides what is not hidden in the tables that it stands on; absent: not known. */
  readonly hidesMore?: boolean
}

/** What the analysis of one query goes by. */
export interface Look {
  readonly mirror: Mirror
  /** Schemas in the order in which they are searched; undefined: not known. */
  readonly path: readonly string[] | undefined
  hidingOf(relation: Relation): Hiding
  /** The columns of a query inside this one; `outer`: what it may name besides its own. */
  output(query: unknown, outer: Scope | undefined, ctes?: Ctes): Output
  /** Whether the owner of the database says that it only reads, and shows nothing hidden. */
  isReviewed(routine: Routine): boolean
  /**
   * Something hidden stands where the result, or the rows in it, would tell of it. A statement is refused for it (this
   * throws); a view is remembered as one whose rows may not be read.
   */
  misuse(why: string): void
  /** In a view a column may be computed from what is hidden: only who reads that column is refused. */
  readonly isView: boolean
  /** A relation with something hidden in it, or behind it, was met. */
  guard(): void
  /** Something hidden goes through a select list, of this query or of one inside it. */
  carry(): void
  readonly carries: boolean
}

/** Why a statement cannot be run under a mask. */
export class Misuse extends Error {}

/** A column, or what else was touched, for messages. */
export const named = (what: string | undefined) => (what === undefined ? 'a hidden column' : `the hidden column ${JSON.stringify(what.slice(0, 63))}`)
