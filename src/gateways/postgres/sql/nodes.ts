/** Reading the JSON that libpg-query gives for a parse tree. */
export type Tree = Readonly<Record<string, unknown>>

/** `{ "FuncCall": {...} }` -> ["FuncCall", {...}]; anything else has no type. */
export function unwrap(wrapped: unknown): readonly [string | undefined, Tree] {
  if (typeof wrapped !== 'object' || wrapped === null) return [undefined, { wrapped }]
  const keys = Object.keys(wrapped)
  const type = keys.length === 1 ? keys[0]! : ''
  // Types begin with a capital.
  const inner = type >= 'A' && type < '[' ? (wrapped as Tree)[type] : undefined
  return typeof inner === 'object' && inner !== null ? [type, inner as Tree] : [undefined, wrapped as Tree]
}

export const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])

/** A list of String nodes: a qualified name. */
export const namesOf = (list: unknown): readonly string[] => listOf(list).map((item) => String((unwrap(item)[1] as { sval?: unknown }).sval ?? ''))

/** The text of one plain constant; undefined for anything that is computed. */
export function textOf(wrapped: unknown): string | undefined {
  const [type, tree] = unwrap(wrapped)
  if (type === 'String') return String(tree.sval ?? '')
  if (type === 'Integer') return String(tree.ival ?? 0)
  if (type !== 'A_Const') return undefined
  // libpg-query leaves out what is zero, empty or false.
  const { sval, ival, fval, boolval } = tree as Readonly<Record<string, Tree | undefined>>
  if (sval) return String(sval.sval ?? '')
  if (ival) return String(ival.ival ?? 0)
  if (fval) return String(fval.fval ?? '')
  if (boolval) return boolval.boolval ? 'on' : 'off'
  return undefined
}
