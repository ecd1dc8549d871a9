import type { Relation } from '../mirror/types.ts'
import type { Meant } from './from.ts'
import type { Hiding, Look } from './look.ts'
import type { Col, Output } from './scope.ts'
import type { Hidden } from './types.ts'

/**
 * The columns of a relation, hidden as they are in it and in every relation that it covers: by the time at which the statement runs
 * the name may lead to one of those. With other columns there, names and places would mean something else.
 */
export function covering(meant: Meant, look: Look): Output {
  const hidings = meant.map((relation, i) => {
    const hiding = look.hidingOf(relation)
    if (hiding.guarded) look.guard()
    if (hiding.closed !== undefined) look.misuse(`${fullName(relation)} may not be read${i > 0 ? afterAll(meant) : ''}: ${hiding.closed}`)
    return hiding
  })
  const [first] = hidings as [Hiding, ...Hiding[]]
  if (hidings.length === 1) return { columns: first.columns, open: false }
  if (hidings.every((hiding) => areAlike(hiding.columns, first.columns)))
    return {
      columns: first.columns.map((column, i) =>
        merged(
          column,
          hidings.map(({ columns }) => columns[i]!),
        ),
      ),
      open: false,
    }
  const hides = hidings.findIndex(({ columns }) => columns.some((column) => column.hides))
  if (hides >= 0)
    look.misuse(`columns of ${fullName(meant[hides]!)} are hidden, and it has not the same ones as others of that name${afterAll(meant)}`)
  return { columns: [], open: true }
}

const fullName = ({ schema, name }: Relation) => `${schema}.${name}`

/** The way out, in one line. */
const afterAll = ([first]: Meant) => ` (without a schema the name may come to mean each of them; write ${fullName(first)})`

const areAlike = (some: readonly Col[], more: readonly Col[]) => some.length === more.length && some.every(({ name }, i) => name === more[i]!.name)

function merged(column: Col, all: readonly Col[]): Col {
  return { ...column, hides: hidesOf(all), type: all.every(({ type }) => type === column.type) ? column.type : 0 }
}

/** Whoever may fill the one table could try through a hash what the other holds. */
function hidesOf(all: readonly Col[]): Hidden | undefined {
  const forms = [...new Set(all.map(({ hides }) => hides))]
  const [form, another] = forms.filter((hides) => hides !== undefined)
  if (forms.includes('unshowable')) return 'unshowable'
  return another !== undefined || (form === 'hash' && forms.length > 1) ? 'null' : form
}
