/** What a rule says of one column: `schema.table.column: last4`. */
export const MASK_FORMS = ['null', 'hash', 'last4', 'fixed'] as const
export type MaskForm = (typeof MASK_FORMS)[number]

/** `schema.table.column` to form, as an obligation carries it. Unquoted, YAML reads the word `null` as null. */
export type Mask = Readonly<Record<string, MaskForm | null>>

/** What a column of the database holds, where it is not simply shown. `unshowable`: it is computed from what is hidden, or nobody can say. */
export type Hidden = MaskForm | 'unshowable'

/** How the results of one statement are hidden: what the text says, and what the server will say of it, must agree. */
export interface MaskPlan {
  /** By position in the result. A column that is not here shows nothing that is hidden. */
  readonly outputs: ReadonlyMap<number, MaskForm>
  /** How many columns the result has; undefined: not known (nothing is hidden in it then), or no rows come back. */
  readonly width: number | undefined
  /** What RowDescription names by table oid and attnum, views and partitions included. */
  hiddenAt(table: number, attnum: number): Hidden | undefined
  /** A table with hidden columns stands in the statement, or behind it: what the server says besides rows may quote them. */
  readonly guarded: boolean
  /** Columns of the mask that do not exist, in tables that do not exist either: nothing is hidden by them. */
  readonly idle: readonly string[]
}

/** What a statement stands for, by which its results are hidden: itself, or for a FETCH or EXECUTE what was declared or prepared. */
export interface Source {
  readonly text: string
  readonly path: readonly string[] | undefined
  /** oids of types of the user's that the client declared for parameters */
  readonly types?: readonly number[] | undefined
}
