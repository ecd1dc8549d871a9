import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'

/** What a client asks for when it connects. */
export interface Wanted {
  /** name of the resource */
  readonly resource: string
  readonly database: string
  readonly user: string
  /** Settings that go upstream as the client gave them. */
  readonly settings: Readonly<Record<string, string>>
  /** `_pq_.` options, none of which is known here. */
  readonly unknownOptions: readonly string[]
}

/** How output looks. None of them changes what a statement means. */
const PASSED = new Map(['DateStyle', 'IntervalStyle', 'TimeZone', 'extra_float_digits', 'bytea_output'].map((name) => [name.toLowerCase(), name]))

/** The server's limit for a name (NAMEDATALEN), in bytes. */
const LONGEST_NAME = 63

/**
 * The startup parameters by an allow-list (threats.md B08): what is not on it is refused and not dropped, so that nobody
 * believes a setting holds that does not. `isResource` tells whether the first part of `resource/database` is one.
 * Throws ChaperoneError.
 */
export function readStartup(parameters: ReadonlyMap<string, string>, serverName: string | undefined, isResource: (name: string) => boolean): Wanted {
  const settings: Record<string, string> = {}
  const unknownOptions: string[] = []
  for (const [name, value] of parameters) {
    const lower = name.toLowerCase()
    if (lower === 'user' || lower === 'database' || lower === 'application_name') {
      if (name !== lower) throw new ChaperoneError('ambiguous', `The startup parameter ${JSON.stringify(name)} is written in another case.`)
    } else if (lower.startsWith('_pq_.')) unknownOptions.push(name)
    else if (lower === 'client_encoding') {
      if (!/^'?(utf-?8|unicode)'?$/i.test(value)) throw refused(name, 'only UTF8 is spoken', 'Set PGCLIENTENCODING=UTF8, or leave it out.')
    } else if (PASSED.has(lower)) settings[PASSED.get(lower)!] = value
    else if (lower === 'options' && value.trim() === '') continue
    else if (lower === 'replication') throw refused(name, 'replication cannot be judged statement by statement', 'Leave it out.')
    else throw refused(name, 'it could change what the following statements mean', 'Leave it out; many settings can be given with SET.')
  }
  // Empty names are filled in by the server after a check has passed (Teleport #45178, #45556; peers R77).
  const user = named(parameters.get('user'), 'user', 'Name the database user, such as `psql -U NAME`.')
  const whole = named(parameters.get('database'), 'database', 'Name it, such as `psql -d RESOURCE/DATABASE`.')
  const slash = whole.indexOf('/')
  const label = serverName?.split('.', 1)[0] ?? ''
  const prefix = whole.slice(0, slash)
  if (slash > 0 && (isResource(prefix) || !isResource(label))) {
    return { resource: prefix, database: named(whole.slice(slash + 1), 'database', 'Write RESOURCE/DATABASE.'), user, settings, unknownOptions }
  }
  if (label === '' || slash === 0)
    throw new ChaperoneError('malformed', 'The resource is not named.', { fix: 'Name it with the database, such as `psql -d RESOURCE/DATABASE`.' })
  return { resource: label, database: whole, user, settings, unknownOptions }
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
