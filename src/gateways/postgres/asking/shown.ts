import type { Shown } from '../../../access/types.ts'
import { typeName } from '../tools/values.ts'
import type { Exactly } from './bound.ts'
import { readableValue } from './values.ts'

/** Rows that it would touch, as the planner thinks; or why nobody has asked it. Undefined: it changes no rows of a table. */
export type Estimate = { readonly rows: number } | { readonly none: string } | undefined

/** Control characters, what turns the direction of writing, and what has no width: with them a text can look like another one. */
const UNSEEN = /(?![\t\n])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu

/** The text, with what cannot be seen written out. */
export const visibly = (text: string) => text.replace(UNSEEN, (letter) => `\\u{${letter.codePointAt(0)!.toString(16)}}`)

/** What the approver reads: the statement as it was sent, and what it does, as far as the text and the database say. */
export function shownStatement(exactly: Exactly, types: readonly number[], estimate: Estimate): readonly Shown[] {
  const { place, described, context, given, state, unseen } = exactly
  const { text, effects, read, written, behind, columns, functions, opaque, everyRow, stands } = described
  const said: Shown[] = []
  const say = (title: string, what: string, form: Shown['form'] = 'text') => what !== '' && said.push({ title, text: visibly(what), form })
  const list = (names: readonly string[]) => names.join(', ')
  say('statement', text, 'sql')
  if (visibly(text) !== text) say('note', 'The statement holds characters that cannot be seen; they are written out as \\u{...} above.')
  for (const one of stands ?? []) say('it runs', one.text, 'sql')
  const many = given.values.map((value, i) => {
    const type = types[i] ?? given.declared[i] ?? 0
    return `$${i + 1} = ${readableValue(value, given.formats[i] ?? 0, type)}${type === 0 ? '' : ` (${typeName(type)})`}`
  })
  say('parameters', many.join('\n'))
  const acting = state.currentUser === place.user ? '' : `, acting as ${state.currentUser}`
  say('database', `${place.resource.name}/${place.database} as ${place.user}${acting}`)
  say('effects', [list(effects), everyRow ? 'no condition chooses rows: every row is meant' : ''].filter(Boolean).join('; '))
  if (estimate) say('rows', 'rows' in estimate ? `about ${estimate.rows}, as the planner of the database thinks` : `no estimate: ${estimate.none}`)
  say('writes', list(written))
  say('reads', list(read))
  say('behind these', list(behind))
  say('columns written', list(columns.written))
  say('columns read', list(columns.read))
  say('functions', list(functions))
  if (opaque) say('not seen', 'It runs code that its text does not show, or touches tables that it does not name.')
  say('search path', (context.path ?? []).join(', '))
  say(
    'settings of the session',
    Object.entries(state.settings)
      .map(([name, value]) => `${name} = ${value ?? '(not set)'}`)
      .join('\n'),
  )
  if (unseen !== undefined) say('before', 'Code that nobody could look into has run on this connection, and may have changed its settings.')
  return said
}
