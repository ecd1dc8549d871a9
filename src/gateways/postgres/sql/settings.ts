import type { Effect } from '../../../policy/types.ts'

/** What `SET name = value` does to the fences that the other statements of the connection rely on. */
export interface SettingEffect {
  readonly effects: readonly Effect[]
  /** Never, under any rule: the parser and the server would read the next statement differently (threats.md B28). */
  readonly unclear?: string
}

/** What drivers, ORMs and psql set at their start and between statements; none of it widens what a later statement may do. */
const HARMLESS = new Set(
  `application_name bytea_output client_min_messages datestyle deadlock_timeout default_transaction_deferrable
   default_transaction_isolation escape_string_warning extra_float_digits geqo intervalstyle jit lc_monetary lc_numeric lc_time
   plan_cache_mode quote_all_identifiers timezone transaction_deferrable transaction_isolation xmlbinary xmloption
   random_page_cost seq_page_cost cpu_tuple_cost cpu_index_tuple_cost cpu_operator_cost effective_cache_size join_collapse_limit
   from_collapse_limit geqo_threshold cursor_tuple_fraction constraint_exclusion parallel_setup_cost parallel_tuple_cost`.split(/\s+/),
)

/** A client may make these shorter than what the database gave the user, never longer (B21: `statement_timeout = 0`). */
export const CEILINGS = [
  'statement_timeout',
  'lock_timeout',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'transaction_timeout',
] as const
export type Ceiling = (typeof CEILINGS)[number]
/** ms; 0 or absent: there is no limit. */
export type Ceilings = Readonly<Partial<Record<Ceiling, number>>> & {
  /** Those that the document of the database gives. No rule lifts them, and RESET would: they are set after the login. */
  readonly pinned?: readonly Ceiling[]
  /** Columns may be hidden that indexes are sorted by: what steers the planner could bring rows in their order. */
  readonly order?: true
}

/** With these somebody chooses the plan. */
const STEERS = /^(enable_[a-z_]+|[a-z_]+_cost)$/
export const steersPlanner = (setting: string) => STEERS.test(setting.toLowerCase())

const READ_ONLY = new Set(['default_transaction_read_only', 'transaction_read_only'])

const read: SettingEffect = { effects: ['read'] }
const write: SettingEffect = { effects: ['write'] }
const admin: SettingEffect = { effects: ['admin'] }

/** `value` is undefined for RESET and SET ... TO DEFAULT, which go back to what the connection started with; null when it is not one plain constant. */
export function effectOfSetting(name: string, value: string | null | undefined, ceilings: Ceilings): SettingEffect {
  const setting = name.toLowerCase()
  if (setting.startsWith('chaperone.')) return { effects: ['admin'], unclear: `${setting} says who acts; row policies of the database may go by it` }
  // Sent by the gateway at startup, so "back to the start" is back to the pin.
  if (setting === 'standard_conforming_strings') return value === undefined || isOn(value) ? read : fenced(setting)
  if (setting === 'client_encoding') return value === undefined || (value !== null && /^(utf-?8|unicode)$/i.test(value)) ? read : fenced(setting)
  if (READ_ONLY.has(setting)) return value !== undefined && value !== null && isOn(value) ? read : write
  // Where it leads is asked from the server again before names are resolved.
  // With pg_temp first the server makes the schema of the session's temporary tables as soon as anybody asks for the current one.
  if (setting === 'search_path') return value === null ? admin : /\bpg_temp/i.test(value ?? '') ? write : read
  if (ceilings.order && value !== undefined && steersPlanner(setting))
    return { ...admin, unclear: `${setting} steers by which index rows are read, and their order could tell of columns that a rule hides` }
  if (HARMLESS.has(setting) || /^enable_[a-z_]+$/.test(setting)) return read
  if ((CEILINGS as readonly string[]).includes(setting)) {
    const pinned = ceilings.pinned?.includes(setting as Ceiling) === true
    const lifts = pinned ? { ...admin, unclear: `the document of the database holds ${setting} to ${ceilings[setting as Ceiling]} ms` } : admin
    if (value === undefined) return pinned ? lifts : read
    const limit = ceilings[setting as Ceiling] ?? 0
    const wanted = value === null ? undefined : milliseconds(value)
    return wanted !== undefined && (limit === 0 || (wanted > 0 && wanted <= limit)) ? read : lifts
  }
  return admin
}

const fenced = (setting: string): SettingEffect => ({
  effects: ['admin'],
  unclear: `${setting} cannot be changed: the statements after it would be read differently here and in the database`,
})

const isOn = (value: string | null) => value !== null && /^(on|true|yes|1|t|y)$/i.test(value)

const UNITS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** A time as PostgreSQL writes it: `250`, `30s`, `5 min`. Undefined when it is anything else. */
export function milliseconds(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)?\s*$/.exec(text)
  return match ? Number(match[1]) * UNITS[match[2] ?? 'ms']! : undefined
}
