import type { Action, RecordedAction, RecordedText } from '../../../policy/types.ts'
import type { PostgresFacts } from '../describe.ts'
import { candidates } from '../sql/relations.ts'

/** Characters of names in one leaf; a statement over more of them has the whole in the body `facts`. */
const MOST_CHARACTERS = 4096
/** Then so many of each list stay to be read. */
const HEAD = 8

/** The facts as a leaf has them: the same names, and what is empty or is told elsewhere is left out. Every byte here is written once a statement. */
export interface RecordedFacts {
  readonly database: string
  readonly user: string
  /** left out when it is the operation alone */
  readonly statements?: readonly string[]
  readonly tables?: { readonly read?: readonly string[]; readonly written?: readonly string[] }
  readonly behind?: readonly string[]
  readonly covered?: { readonly read?: readonly string[]; readonly written?: readonly string[]; readonly behind?: readonly string[] }
  readonly columns?: { readonly read?: readonly string[]; readonly written?: readonly string[] }
  readonly fingerprint?: string
  readonly functions?: readonly string[]
  readonly settings?: readonly string[]
  readonly opaque?: true
  readonly every_row?: true
  /** only when a name is without a schema */
  readonly path?: readonly string[]
  readonly parameters?: 'hashed' | 'none'
  /** names that the lists above leave out; the body `facts` has them all */
  readonly more?: number
}

interface Recorded {
  readonly facts: Readonly<Record<string, unknown>>
  readonly bodies?: readonly RecordedText[]
  readonly unclear?: string
}

/** The reason may quote what stands in the statement. */
const UNCLEAR = 'it cannot be known for sure what it does; values, which the reason might quote, are not recorded here'

/** Where such a name leads, the path says. */
const isBare = (table: string) => candidates(table, undefined) === undefined
const some = <T>(list: readonly T[] | undefined) => (list !== undefined && list.length > 0 ? list : undefined)

/** What goes into the record about a statement, beside its text. */
export function recordedFacts({ operation, facts, unclear }: Action): Recorded {
  const lean = leanOf(operation, facts as unknown as PostgresFacts)
  const why = unclear === undefined || lean.parameters === undefined ? {} : { unclear: UNCLEAR }
  if (charactersIn(lean) <= MOST_CHARACTERS) return { facts: lean, ...why }
  let more = 0
  const shorten = (value: unknown): unknown => {
    if (Array.isArray(value)) {
      more += Math.max(0, value.length - HEAD)
      return value.slice(0, HEAD)
    }
    return typeof value === 'object' && value !== null ? mapped(value, shorten) : value
  }
  const short = mapped(lean, shorten)
  return { facts: { ...short, more }, ...why, bodies: [{ name: 'facts', bytes: JSON.stringify(lean) }] }
}

function leanOf(operation: string, facts: PostgresFacts): Record<string, unknown> {
  const { database, user, statements, tables, behind, covered, columns, fingerprint, functions, settings, opaque, every_row, path, parameters } =
    facts
  const lean: Record<string, unknown> = { database, user }
  if (statements.length !== 1 || statements[0] !== operation) lean.statements = statements
  const [read, written] = [some(tables.read), some(tables.written)]
  if (read || written) lean.tables = { ...(read && { read }), ...(written && { written }) }
  if (some(behind)) lean.behind = behind
  if (covered) lean.covered = Object.fromEntries(Object.entries(covered).filter(([, names]) => names.length > 0))
  const [columnsRead, columnsWritten] = [some(columns?.read), some(columns?.written)]
  if (columnsRead || columnsWritten) lean.columns = { ...(columnsRead && { read: columnsRead }), ...(columnsWritten && { written: columnsWritten }) }
  if (fingerprint !== undefined) lean.fingerprint = fingerprint
  if (some(functions)) lean.functions = functions
  if (some(settings)) lean.settings = parameters === undefined ? settings : namesOfSettings(settings, functions)
  if (opaque) lean.opaque = true
  if (every_row) lean.every_row = true
  if (path && [tables.read, tables.written, behind ?? []].some((names) => names.some(isBare))) lean.path = path
  if (parameters !== undefined) lean.parameters = parameters
  return lean
}

/** `set_config` takes the name as a value, and whoever writes one may write anything. The search path is what rules ask about. */
const namesOfSettings = (settings: readonly string[], functions: readonly string[]) =>
  functions.some((name) => /(^|\.)set_config$/.test(name)) ? settings.map((name) => (name === 'search_path' ? name : '?')) : settings

function charactersIn(value: unknown): number {
  if (typeof value === 'string') return value.length + 3
  if (typeof value !== 'object' || value === null) return 0
  let sum = 0
  for (const item of Object.values(value)) sum += charactersIn(item)
  return sum
}

const mapped = (value: object, change: (item: unknown) => unknown) =>
  Object.fromEntries(Object.entries(value).map(([key, item]) => [key, change(item)]))

/** The facts of a recorded action, whole, so that it can be judged again; undefined when the record does not hold them. */
export function recalledFacts({ operation, facts, texts }: RecordedAction): Readonly<Record<string, unknown>> | undefined {
  let recorded: Partial<RecordedFacts> = facts
  if (recorded.more !== undefined) {
    const whole = texts.get('facts')
    if (whole === undefined) return undefined
    recorded = JSON.parse(whole) as Partial<RecordedFacts>
  }
  const { database, user, statements, tables, covered, columns, more, ...rest } = recorded
  // A record of before facts were recorded, or one that the envelope had to cut.
  if (typeof database !== 'string' || typeof user !== 'string') return undefined
  const { read = [], written = [] } = tables ?? {}
  return {
    functions: [],
    settings: [],
    opaque: false,
    every_row: false,
    ...rest,
    database,
    user,
    statements: statements ?? [operation],
    tables: { read, written },
    ...(covered ? { covered: { read: covered.read ?? [], written: covered.written ?? [], behind: covered.behind ?? [] } } : {}),
    ...(columns ? { columns: { read: columns.read ?? [], written: columns.written ?? [] } } : {}),
  } satisfies PostgresFacts as unknown as Readonly<Record<string, unknown>>
}
