import type { Shown } from '../../../access/types.ts'
import { seenWhole } from '../../../encoding/unseen.ts'
import { typeName } from '../tools/values.ts'
import type { Exactly } from './bound.ts'
import { areSame, tokensOf } from './tokens.ts'
import { readableValue } from './values.ts'

/** Rows that it would touch, as the planner thinks; or why nobody has asked it. Undefined: it changes no rows of a table. */
export type Estimate = { readonly rows: number } | { readonly none: string } | undefined

/** The text, with what cannot be seen written out. */
export const visibly = (text: string) => seenWhole(text, '\t\n')

/** Lines that end as on Windows, where nothing but space between tokens ends so: nobody needs to read that as an escape. */
function withPlainEnds(text: string): string {
  if (!text.includes('\r\n')) return text
  const plain = text.replaceAll('\r\n', '\n')
  return areSame(tokensOf(text), tokensOf(plain)) ? plain : text
}

/** What the approver reads: the statement as it was sent, and what it does, as far as the text and the database say. */
export function shownStatement(exactly: Exactly, types: readonly number[], estimate: Estimate): readonly Shown[] {
  const { place, described, context, given, state, unseen } = exactly
  const { text, effects, read, written, behind, covered, columns, functions, opaque, everyRow, stands } = described
  const said: Shown[] = []
  const say = (title: string, what: string, form: Shown['form'] = 'text') => what !== '' && said.push({ title, text: visibly(what), form })
  const list = (names: readonly string[]) => names.join(', ')
  const lines = withPlainEnds(text)
  say('statement', lines, 'sql')
  if (visibly(lines) !== lines) say('note', 'The statement holds characters that cannot be seen; they are written out as \\u{...} above.')
  for (const one of stands ?? []) say('it runs', withPlainEnds(one.text), 'sql')
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
  say('instead, if one before it on the search path goes', list(Object.values(covered ?? {}).flat()))
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
