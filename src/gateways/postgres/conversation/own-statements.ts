import type { Described } from '../describe.ts'

/** Statements that the gateway itself asks on a client's connection, and when. */

/** `SELECT set_config(...)`: one statement, whatever the number of settings. `local`: to the end of the transaction. */
export const setConfig = (settings: readonly (readonly [string, string])[], local = false): string =>
  `SELECT ${settings.map(([name, value]) => `pg_catalog.set_config('${name}', '${value.replaceAll("'", "''")}', ${local})`).join(', ')}`

const IS = 'OPERATOR(pg_catalog.=)'

/**
 * Ends the fence of a session that began read-only: what the administrator of the database gave its user counts again (ALTER ROLE
 * ... SET, ALTER DATABASE ... SET, the narrower first), or PostgreSQL's own `off`.
 */
export const LIFT = `SELECT pg_catalog.set_config('default_transaction_read_only', coalesce((SELECT pg_catalog.split_part(c, '=', 2)
  FROM pg_catalog.pg_db_role_setting s, LATERAL pg_catalog.unnest(s.setconfig) c
  WHERE pg_catalog.starts_with(c, 'default_transaction_read_only=')
    AND s.setrole ${IS} ANY (ARRAY[0::pg_catalog.oid, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname ${IS} session_user)])
    AND s.setdatabase ${IS} ANY (ARRAY[0::pg_catalog.oid, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname ${IS} pg_catalog.current_database())])
  ORDER BY s.setrole DESC, s.setdatabase DESC LIMIT 1), 'off'), false)`

/** A column more for the probe: which prepared statements there are, with hashes of the texts that made them. */
export const STATEMENTS_THERE =
  "(SELECT pg_catalog.json_object_agg(name, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(statement, 'UTF8')), 'hex')) FROM pg_catalog.pg_prepared_statements)"

/** Statements that name nothing that the search path leads to. */
const NAMELESS = new Set(['transaction', 'set', 'show', 'deallocate', 'listen', 'notify', 'discard', 'fetch'])

/** Whether it must be known where names lead, before the statement can be described. */
export const needsNames = ({ kinds, read, written, functions }: Described): boolean =>
  read.length + written.length + functions.length > 0 || kinds.some((kind) => !NAMELESS.has(kind))
