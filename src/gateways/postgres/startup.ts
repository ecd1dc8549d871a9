import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import { readOptions } from './options.ts'
import { CEILINGS, type Ceiling, effectOfSetting } from './sql/settings.ts'

/** What a client asks for when it connects. */
export interface Wanted {
  /** name of the resource */
  readonly resource: string
  readonly database: string
  readonly user: string
  /** Settings that go upstream as the client gave them. */
  readonly settings: Readonly<Record<string, string>>
  /** Times that may only be shorter than what the database and the document give: known after the login, and set then. */
  readonly times: readonly (readonly [Ceiling, string])[]
  /** What the client must be told before anything else: the minor version that is spoken, and `_pq_.` options that are not known. */
  readonly negotiate: { readonly minor: number; readonly unknownOptions: readonly string[] } | undefined
  /** Since 3.2 keys for cancelling may be longer than four bytes. */
  readonly longKeys: boolean
}

/** 3.2, of PostgreSQL 18. 3.1 was never spoken by anybody, and means 3.0. */
const NEWEST_MINOR = 2

/** The server's limit for a name (NAMEDATALEN), in bytes. */
const LONGEST_NAME = 63

/**
 * The startup parameters by an allow-list (threats.md B08): what is not on it is refused and not dropped, so that nobody
 * believes a setting holds that does not. What stands in `options` is judged like a parameter of its own. Throws ChaperoneError.
 */
export function readStartup(parameters: ReadonlyMap<string, string>, minor: number, serverName: string | undefined): Wanted {
  const settings: Record<string, string> = {}
  const times: (readonly [Ceiling, string])[] = []
  const unknownOptions: string[] = []
  const set = (name: string, value: string) => {
    if (name === 'application_name') return
    if (isCeiling(name)) times.push([name, value])
    else if (name === 'client_encoding') {
      if (!/^'?(utf-?8|unicode)'?$/i.test(value)) throw refused(name, 'only UTF8 is spoken', 'Set PGCLIENTENCODING=UTF8, or leave it out.')
    } else if (mayStartWith(name, value)) settings[name] = value
    else if (name === 'replication') throw refused(name, 'replication cannot be judged statement by statement', 'Leave it out.')
    else throw refused(name, 'it could change what the following statements mean or may do', 'Leave it out; some settings can be given with SET.')
  }
  const given = new Set<string>()
  for (const [name, value] of parameters) {
    const lower = name.toLowerCase()
    // The server folds the case of settings, so two spellings are one parameter given twice.
    if (given.has(lower))
      throw new ChaperoneError('ambiguous', `The startup parameter ${JSON.stringify(name.slice(0, LONGEST_NAME))} is given twice.`)
    given.add(lower)
    if (lower === 'user' || lower === 'database' || lower === 'options') {
      if (name !== lower) throw new ChaperoneError('ambiguous', `The startup parameter ${JSON.stringify(name)} is written in another case.`)
    } else if (lower.startsWith('_pq_.')) unknownOptions.push(name)
    else set(lower, value)
  }
  for (const [name, value] of readOptions(parameters.get('options') ?? '')) {
    // A parameter of its own wins over the same one in `options`, whichever stands first (process_startup_options).
    if (!given.has(name)) set(name, value)
  }
  // Empty names are filled in by the server after a check has passed (Teleport #45178, #45556; peers R77).
  const user = named(parameters.get('user'), 'user', 'Name the database user, such as `psql -U NAME`.')
  const whole = named(parameters.get('database'), 'database', 'Name it, such as `psql -d RESOURCE/DATABASE`.')
  const slash = whole.indexOf('/')
  const spoken = minor === 1 ? 0 : Math.min(minor, NEWEST_MINOR)
  const rest = {
    settings,
    times,
    negotiate: minor > NEWEST_MINOR || minor === 1 || unknownOptions.length > 0 ? { minor: spoken, unknownOptions } : undefined,
    longKeys: spoken >= 2,
  }
  const label = serverName?.split('.', 1)[0] ?? ''
  const prefix = whole.slice(0, slash)
  // Whatever there is: if it mattered which of the two names is a resource, the answers would tell who asks (rule 8).
  if (slash > 0) {
    return { resource: prefix, database: named(whole.slice(slash + 1), 'database', 'Write RESOURCE/DATABASE.'), user, ...rest }
  }
  if (label === '' || slash === 0)
    throw new ChaperoneError('malformed', 'The resource is not named.', { fix: 'Name it with the database, such as `psql -d RESOURCE/DATABASE`.' })
  return { resource: label, database: whole, user, ...rest }
}

const isCeiling = (name: string): name is Ceiling => (CEILINGS as readonly string[]).includes(name)

/** What SET may do in any session, with a constant. `search_path` moves names, and where it leads is asked after the login. */
function mayStartWith(name: string, value: string): boolean {
  const { effects, unclear } = effectOfSetting(name, value, {})
  return unclear === undefined && effects.every((effect) => effect === 'read') && !name.startsWith('transaction_')
}

function named(value: string | undefined, what: string, fix: string): string {
  if (value === undefined || value === '') throw new ChaperoneError('malformed', `The ${what} is not named.`, { fix })
  if (Buffer.byteLength(value) > LONGEST_NAME * 2 + 1) throw new ChaperoneError('too_large', `The name of the ${what} is too long.`)
  return value
}

const refused = (name: string, why: string, fix: string) =>
  new ChaperoneError('unsupported', `The startup parameter ${JSON.stringify(name.slice(0, LONGEST_NAME))} is not accepted: ${why}.`, { fix })

/**
 * Who it is and on whose behalf, as the database's own log and pg_stat_activity show it: `chaperone:boris>boris-ai
 * ses_...`. The server keeps 63 bytes of printable ASCII; the session id is kept whole, because by it the record is found.
 */
export function applicationName(session: LiveSession, nameOf: (identityId: string) => string | undefined = () => undefined): string {
  const { principal } = session
  const last = principal.chain.length - 1
  const names = principal.chain.map((link, i) => (i === last ? principal.name : (nameOf(link.identity) ?? link.identity)))
  const room = LONGEST_NAME - 'chaperone: '.length - session.id.length
  let chain = (names.length > 0 ? names : [principal.name]).join('>').replace(/[^\x21-\x7e]/g, '?')
  // The one who acts stands last, so what does not fit is cut from the front.
  if (chain.length > room) chain = `~${chain.slice(chain.length - room + 1)}`
  return `chaperone:${chain} ${session.id}`
}
