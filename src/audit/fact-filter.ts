import type { Envelope } from './record.ts'

/** What to look for in what a record says of its action and its outcome. All that is given must hold. */
export interface FactFilter {
  /** `schema.table`, or a table in whichever schema; named by the statement, or behind what it names */
  readonly table?: string
  /** `schema.table.column`, or the end of it: `table.column`, `column` */
  readonly column?: string
  readonly database?: string
  /** database user */
  readonly user?: string
  /** kind of statement, or method: `update`, `tools/call` */
  readonly operation?: string
  readonly fingerprint?: string
  readonly effect?: string
  /** SQLSTATE that the database, or Chaperone in its place, answered with */
  readonly sqlstate?: string
  /** `<connection>.<number>` */
  readonly transaction?: string
  /** What a rule in shadow mode would have made of it: `ask`, `deny`, or `any` of the two */
  readonly shadow?: string
  /** `any`: it was allowed and not sent, because what its rule demands of it (a mask, a condition) could not be kept */
  readonly unsent?: string
}

export const FACT_FILTERS = [
  'table',
  'column',
  'database',
  'user',
  'operation',
  'fingerprint',
  'effect',
  'sqlstate',
  'transaction',
  'shadow',
  'unsent',
] as const satisfies readonly (keyof FactFilter)[]

/** Texts that must stand in the leaf of an action that fits: they tell cheaply which leaves need no reading. */
export function leafHolds(filter: FactFilter): readonly string[] {
  const { database, user, operation, fingerprint, effect, transaction } = filter
  const found = Object.entries({ database, user, operation, fingerprint }).flatMap(([key, value]) =>
    value === undefined ? [] : [`"${key}":${JSON.stringify(value)}`],
  )
  if (effect !== undefined) found.push(JSON.stringify(effect))
  if (transaction !== undefined) found.push(JSON.stringify(connectionOf(transaction)))
  if (filter.shadow !== undefined) found.push('"shadow":')
  return found
}

/** What must be known of the outcome before it can be said whether a record fits. */
export const needsOutcome = ({ sqlstate, transaction, unsent }: FactFilter) =>
  sqlstate !== undefined || transaction !== undefined || unsent !== undefined

/** Whether an intent or a refusal fits. `whole` is the body `facts`, when the lists in the leaf are not. */
export function factsMatch(
  filter: FactFilter,
  { action, connection, decision }: Envelope,
  outcome: Envelope['outcome'],
  whole: string | undefined,
): boolean {
  const facts = factsIn(action?.facts, whole)
  const { tables, columns } = facts
  const is = (wanted: string | undefined, value: unknown) => wanted === undefined || wanted === value
  return (
    action !== undefined &&
    (filter.shadow === undefined || (filter.shadow === 'any' ? decision?.shadow !== undefined : decision?.shadow?.verdict === filter.shadow)) &&
    (filter.unsent === undefined || (outcome?.sent === false && typeof outcome.reason === 'string')) &&
    is(filter.database, facts.database) &&
    is(filter.user, facts.user) &&
    is(filter.fingerprint, facts.fingerprint) &&
    is(filter.sqlstate, outcome?.sqlstate) &&
    is(filter.transaction, `${connection}.${outcome?.transaction}`) &&
    (filter.operation === undefined || action.operation === filter.operation || listOf(facts.statements).includes(filter.operation)) &&
    (filter.effect === undefined || listOf(action.effects).includes(filter.effect)) &&
    (filter.table === undefined || ends([...readAndWritten(tables), ...listOf(facts.behind)], filter.table)) &&
    (filter.column === undefined || ends(readAndWritten(columns), filter.column))
  )
}

const connectionOf = (transaction: string) => transaction.slice(0, Math.max(0, transaction.lastIndexOf('.')))

type Facts = Readonly<Record<string, unknown>>

function factsIn(facts: Facts | undefined, whole: string | undefined): Facts {
  if (whole === undefined) return facts ?? {}
  try {
    return JSON.parse(whole) as Facts
  } catch {
    // Cut where it was too large even for a body: what the leaf has is what can be found.
    return facts ?? {}
  }
}

/** The record may have been cut or masked: nothing is taken for granted in it. */
const listOf = (value: unknown): readonly string[] => (Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [])

function readAndWritten(value: unknown): readonly string[] {
  const { read, written } = (typeof value === 'object' && value !== null ? value : {}) as Facts
  return [...listOf(read), ...listOf(written)]
}

const ends = (names: readonly string[], wanted: string) => names.some((name) => name === wanted || name.endsWith(`.${wanted}`))
