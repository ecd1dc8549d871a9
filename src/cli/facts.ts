type Facts = Readonly<Record<string, unknown>>

/** What rules read of an action, a line for each thing that is known: of a record, or of an action that is explained. */
export function factRows(about: {
  readonly effects: readonly string[]
  readonly facts: Facts
  readonly unclear?: string
}): readonly (readonly [string, string])[] {
  const { facts } = about
  const tables = isFacts(facts.tables) ? facts.tables : {}
  const rows: readonly (readonly [string, string])[] = [
    ['effects', about.effects.join(', ')],
    ['kinds', names(facts.statements)],
    ['reads', names(tables.read)],
    ['writes', names(tables.written)],
    ['behind', names(facts.behind)],
    ['covered', isFacts(facts.covered) ? names(Object.values(facts.covered).flat()) : ''],
    ['columns', columns(facts.columns)],
    ['functions', names(facts.functions)],
    ['settings', names(facts.settings)],
    ['opaque', facts.opaque === true ? 'it runs code or touches tables that its text does not show' : ''],
    ['every row', facts.every_row === true ? 'it has no condition on rows' : ''],
    ['values', facts.parameters === undefined ? '' : `${String(facts.parameters)}, as the document of the database says`],
    ['fingerprint', typeof facts.fingerprint === 'string' ? facts.fingerprint : ''],
    ['more', facts.more === undefined ? '' : `${String(facts.more)} names; all of them stand in the body \`facts\``],
    ['unclear', about.unclear ?? ''],
  ]
  return rows.filter(([, value]) => value !== '')
}

/** A record may have been cut or masked: nothing is taken for granted in it. */
const isFacts = (value: unknown): value is Facts => typeof value === 'object' && value !== null
const names = (value: unknown) => (Array.isArray(value) ? value.join(', ') : '')

function columns(value: unknown): string {
  if (!isFacts(value)) return ''
  const [read, written] = [names(value.read), names(value.written)]
  return [read, written === '' ? '' : `written: ${written}`].filter((part) => part !== '').join('; ')
}
