/** What a rule says of one column: `schema.table.column: last4`. */
export const MASK_FORMS = ['null', 'hash', 'last4', 'fixed'] as const
export type MaskForm = (typeof MASK_FORMS)[number]

/** `schema.table.column` to form, as an obligation carries it. */
export type Mask = Readonly<Record<string, MaskForm>>

/** How the results of one statement are hidden: what the text says, and what the server will say of it, must agree. */
export interface MaskPlan {
  /** By position in the result. A column that is not here shows nothing that is hidden. */
  readonly outputs: ReadonlyMap<number, { readonly form: MaskForm; readonly type: number }>
  /** How many columns the result has; undefined: no rows come back. */
  readonly width: number | undefined
  /** `<table oid>.<attnum>` of every column that holds what is hidden, views and partitions included: RowDescription names them. */
  readonly identities: ReadonlyMap<string, MaskForm>
}
