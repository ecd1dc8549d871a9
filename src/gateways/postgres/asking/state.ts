import { ChaperoneError } from '../../../errors.ts'

/**
 * Questions about the session of a client, on its own connection: under whatever search path it has set. So every function, type
 * and operator is written with its schema, and nothing that somebody put in front of pg_catalog can answer in its place.
 */

/** Where settings come from that belong to this session, user or database, and not to the whole server. */
const SOURCES = `'{database,user,"database user",client,session}'::pg_catalog.text[]`
const IS = 'OPERATOR(pg_catalog.=)'

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`

/** Settings of the user and the database that have a name of their own: they begin with the login, and stand in no list. */
const GIVEN = `SELECT pg_catalog.split_part(c, '=', 1) AS name FROM pg_catalog.pg_db_role_setting s, LATERAL pg_catalog.unnest(s.setconfig) c
  WHERE s.setrole ${IS} ANY (ARRAY[0::pg_catalog.oid, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname ${IS} session_user)])
    AND s.setdatabase ${IS} ANY (ARRAY[0::pg_catalog.oid, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname ${IS} pg_catalog.current_database())])`

/** `names`: settings with a name of their own that the client has moved. */
export const sessionState = (names: readonly string[]) => `SELECT current_user::pg_catalog.text, session_user::pg_catalog.text,
  (SELECT pg_catalog.json_object_agg(s.name, s.setting) FROM pg_catalog.pg_settings s WHERE s.source ${IS} ANY (${SOURCES})
    AND (s.name OPERATOR(pg_catalog.<>) 'application_name' OR s.source ${IS} 'session'))::pg_catalog.text,
  (SELECT pg_catalog.json_object_agg(n.name, pg_catalog.current_setting(n.name, true)) FROM (
    SELECT g.name FROM (${GIVEN}) g WHERE pg_catalog.strpos(g.name, '.') OPERATOR(pg_catalog.>) 0
    UNION SELECT w.name FROM pg_catalog.unnest(ARRAY[${names.map(literal).join(', ')}]::pg_catalog.text[]) AS w (name)) n)::pg_catalog.text`

/** What holds in a session besides the text of a statement. */
export interface SessionState {
  readonly currentUser: string
  readonly sessionUser: string
  /** by name; values as the server shows them */
  readonly settings: Readonly<Record<string, string | null>>
}

/**
 * Not part of what a statement means, or fences of the gateway's own, which may differ from one connection to the next. Nor is
 * `application_name` as the gateway gives it, with the id of the session; one that the client has set itself is, for triggers
 * and row policies may read it.
 */
const LEFT_OUT = /^(client_encoding|client_min_messages|(default_)?transaction_read_only|[a-z_]+_timeout|chaperone\..*)$/

/** Throws ChaperoneError when the server did not say: then nothing can be bound to it. */
export function readSessionState([row]: readonly (readonly (string | null)[])[]): SessionState {
  const [currentUser, sessionUser, settings, own] = row ?? []
  if (typeof currentUser !== 'string' || typeof sessionUser !== 'string')
    throw new ChaperoneError('upstream_unavailable', 'The database does not say what holds in this session.')
  const all = { ...JSON.parse(settings ?? '{}'), ...JSON.parse(own ?? '{}') } as Record<string, string | null>
  const kept = Object.entries(all).filter(([name]) => !LEFT_OUT.test(name.toLowerCase()))
  return { currentUser, sessionUser, settings: Object.fromEntries(kept.sort(([a], [b]) => (a < b ? -1 : 1))) }
}
