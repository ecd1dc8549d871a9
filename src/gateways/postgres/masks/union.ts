import { leastShown } from './keys.ts'
import type { Look } from './look.ts'
import { type Col, type Output, UNKNOWN_TYPE } from './scope.ts'

/** The columns of `a UNION ALL b`: names from the left, and hidden where either side is. */
export function united(left: Output, right: Output, look: Look): Output {
  const open = left.open || right.open
  const hidden = [...left.columns, ...right.columns].find((column) => column.hides)
  if (open || left.columns.length !== right.columns.length) {
    if (hidden) look.misuse(`the hidden column ${JSON.stringify(hidden.name ?? '')} is in a UNION whose columns are not known here`)
    return { columns: left.columns, open: true }
  }
  return { columns: left.columns.map((column, i) => merged(column, right.columns[i]!, look)), open: false }
}

function merged(a: Col, b: Col, look: Look): Col {
  if (!a.hides && !b.hides) return { ...a, type: a.type === b.type ? a.type : 0, isNull: a.isNull === true && b.isNull === true }
  const [hidden, other] = a.hides ? [a, b] : [b, a]
  const { name } = a
  if (hidden.hides === 'unshowable' || other.hides === 'unshowable') return { ...a, hides: 'unshowable' }
  // Another type would be a conversion, which some values survive and others do not.
  if (!other.isNull && other.type !== UNKNOWN_TYPE && (other.type === 0 || other.type !== hidden.type))
    look.misuse(`the hidden column ${JSON.stringify(name ?? '')} is united with values of another type`)
  // Whoever may put his own values through the hash can try what the hidden ones are.
  if (!other.hides && !other.isNull && hidden.hides === 'hash')
    look.misuse(`the hashed column ${JSON.stringify(name ?? '')} is united with values that are not hidden`)
  return { name, hides: other.hides ? leastShown(hidden.hides!, other.hides) : hidden.hides, type: hidden.type }
}
