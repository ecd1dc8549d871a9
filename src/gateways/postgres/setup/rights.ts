import type { Questions } from '../database/open.ts'
import { advice, type Finding, missing, ok } from './findings.ts'
import { identifier, schemaName } from './names.ts'
import { LARGE_OBJECTS } from './steps.ts'
import type { DatabaseUser } from './users.ts'

/** What is named of many: enough to see what it is about. */
const NAMED = 5
const OLDEST = 13
/** From this version on a read-only transaction stops them. */
const LARGE_OBJECTS_SAFE = 160_000
const NEWEST = 18

const yes = (value: string | null | undefined) => value === 't' || value === 'true'

/**
 * What a database user may do beyond what it is for, asked as that user (threats.md 7.6). The statement check stands in front
 * of all of it; these are the second fence, for the day on which the first has a hole.
 */
export async function rightsOf(user: DatabaseUser, database: string, questions: Questions): Promise<readonly Finding[]> {
  return [
    ...(await version(questions)),
    ...(await attributes(user, questions)),
    ...(await memberships(user, questions)),
    ...(await inDatabase(user, database, questions)),
    ...(await inSchemas(user, questions)),
    ...(await onTables(user, database, questions)),
    ...(await onFunctions(user, questions)),
  ]
}

async function version({ ask }: Questions): Promise<Finding[]> {
  const [row] = await ask("SELECT current_setting('server_version_num'), current_setting('server_version')")
  const major = Math.floor(Number(row?.[0]) / 10_000)
  if (major < OLDEST) return [missing(`PostgreSQL ${row?.[1]} is too old: ${OLDEST} to ${NEWEST} are known here`)]
  if (major > NEWEST)
    return [advice(`PostgreSQL ${row?.[1]} is newer than what is known here (${OLDEST} to ${NEWEST}): statements that are new in it are refused`)]
  return [ok(`PostgreSQL ${row?.[1]}`)]
}

async function attributes({ name, reads }: DatabaseUser, { ask }: Questions): Promise<Finding[]> {
  const [row = []] = await ask(
    `SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, session_user = current_user,
      current_setting('transaction_read_only') = 'on', array_to_string(rolconfig, E'\\n') FROM pg_roles WHERE rolname = session_user`,
  )
  const words = ['SUPERUSER', 'BYPASSRLS', 'CREATEROLE', 'CREATEDB', 'REPLICATION'].filter((_, i) => yes(row[i]))
  const found: Finding[] = []
  if (words.length > 0)
    found.push(
      missing(`it is more than a plain user: ${words.join(', ')}`, `ALTER ROLE ${identifier(name)} ${words.map((word) => `NO${word}`).join(' ')};`),
    )
  if (!yes(row[5])) found.push(missing('it becomes another user as soon as it comes in', `ALTER ROLE ${identifier(name)} RESET role;`))
  if (!yes(row[6])) found.push(missing('a connection that asks to be read-only is not: something on the way drops the setting'))
  if (reads && !/^default_transaction_read_only=(on|true|yes|1)$/m.test(row[7] ?? ''))
    found.push(advice('it is not read-only by itself', `ALTER ROLE ${identifier(name)} SET default_transaction_read_only = on;`))
  return found.length > 0 ? found : [ok('it is a plain user, and its connections can be read-only')]
}

async function memberships({ name }: DatabaseUser, { ask }: Questions): Promise<Finding[]> {
  const rows = await ask(
    `SELECT above.rolname FROM pg_auth_members m JOIN pg_roles above ON above.oid = m.roleid JOIN pg_roles me ON me.oid = m.member
      WHERE me.rolname = session_user AND above.rolname <> 'rds_iam' ORDER BY 1 LIMIT 50`,
  )
  if (rows.length === 0) return [ok('it is a member of no other role')]
  const roles = rows.map(([role]) => identifier(role ?? ''))
  return [missing(`it can become another role (SET ROLE): ${roles.join(', ')}`, `REVOKE ${roles.join(', ')} FROM ${identifier(name)};`)]
}

async function inDatabase({ name }: DatabaseUser, database: string, { ask }: Questions): Promise<Finding[]> {
  const [row = []] = await ask(
    `SELECT has_database_privilege(current_database(), 'TEMPORARY'), has_database_privilege('public', current_database(), 'TEMPORARY'),
      has_database_privilege(current_database(), 'CREATE'), (SELECT datdba = (SELECT oid FROM pg_roles WHERE rolname = session_user) FROM pg_database WHERE datname = current_database())`,
  )
  const at = `ON DATABASE ${identifier(database)}`
  const found: Finding[] = []
  if (yes(row[3])) found.push(missing('it owns the database', `ALTER DATABASE ${identifier(database)} OWNER TO another_role;`))
  if (yes(row[0])) found.push(missing('it may make temporary tables', `REVOKE TEMPORARY ${at} FROM ${yes(row[1]) ? 'PUBLIC' : identifier(name)};`))
  if (yes(row[2]) && !yes(row[3])) found.push(missing('it may make schemas', `REVOKE CREATE ${at} FROM ${identifier(name)};`))
  return found.length > 0 ? found : [ok('it may make no temporary tables and no schemas')]
}

const OURS = "nspname !~ '^pg_' AND nspname <> 'information_schema'"

async function inSchemas({ name }: DatabaseUser, { ask }: Questions): Promise<Finding[]> {
  const rows = await ask(
    `SELECT nspname, has_schema_privilege('public', oid, 'CREATE') FROM pg_namespace WHERE ${OURS} AND has_schema_privilege(oid, 'CREATE') ORDER BY 1 LIMIT 50`,
  )
  if (rows.length === 0) return [ok('it may make nothing in any schema')]
  return rows.map(([schema, everybody]) =>
    missing(
      `it may make tables and functions in the schema ${schemaName(schema ?? '')}`,
      `REVOKE CREATE ON SCHEMA ${schemaName(schema ?? '')} FROM ${yes(everybody) ? 'PUBLIC' : identifier(name)};`,
    ),
  )
}

const WRITES = ['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES'] as const

async function onTables({ name, reads }: DatabaseUser, database: string, { ask }: Questions): Promise<Finding[]> {
  const rows = await ask(
    `SELECT n.nspname, count(*), count(*) FILTER (WHERE has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT')),
      ${WRITES.map((word) => `count(*) FILTER (WHERE has_table_privilege(c.oid, '${word}')), count(*) FILTER (WHERE has_table_privilege('public', c.oid, '${word}'))`).join(', ')},
      array_to_string((array_agg(c.relname::text ORDER BY c.relname) FILTER (WHERE c.relowner = (SELECT oid FROM pg_roles WHERE rolname = session_user)))[1:${NAMED}], ', '),
      has_schema_privilege(n.oid, 'USAGE')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ${OURS} GROUP BY n.oid, n.nspname ORDER BY 1 LIMIT 200`,
  )
  const found: Finding[] = []
  let readable = 0
  for (const row of rows) {
    const schema = schemaName(row[0] ?? '')
    const usable = yes(row.at(-1))
    if (usable) readable += Number(row[2])
    if (row.at(-2))
      found.push(
        missing(
          `it owns ${row.at(-2)} in ${schema}: an owner can do anything with them, past row policies`,
          `ALTER TABLE ... OWNER TO another_role;`,
        ),
      )
    const extra = WRITES.map((word, i) => ({ word, mine: Number(row[3 + 2 * i]), everybody: Number(row[4 + 2 * i]) })).filter(
      ({ word, mine }) => mine > 0 && (reads || word === 'TRUNCATE' || word === 'TRIGGER' || word === 'REFERENCES'),
    )
    if (extra.length === 0 || row.at(-2)) continue
    found.push(
      missing(
        `in ${schema} it may do more than it is for: ${extra.map(({ word, mine }) => `${word} on ${mine} tables`).join(', ')}`,
        `REVOKE ${extra.map(({ word }) => word).join(', ')} ON ALL TABLES IN SCHEMA ${schema} FROM ${extra.some(({ everybody }) => everybody > 0) ? `PUBLIC, ${identifier(name)}` : identifier(name)};`,
      ),
    )
  }
  if (found.length === 0) found.push(ok(reads ? 'it may change no table' : 'it owns no table, and may truncate none'))
  const all = rows.reduce((sum, row) => sum + Number(row[1]), 0)
  if (all > 0 && readable === 0) {
    const schema = schemaName(rows[0]?.[0] ?? 'public')
    found.push(
      missing(
        `it can read none of the ${all} tables in ${database}`,
        `GRANT USAGE ON SCHEMA ${schema} TO ${identifier(name)}; GRANT SELECT ON ALL TABLES IN SCHEMA ${schema} TO ${identifier(name)};`,
      ),
    )
  } else found.push(ok(`it can read ${readable} of ${all} tables`))
  return found
}

async function onFunctions({ name }: DatabaseUser, { ask }: Questions): Promise<Finding[]> {
  const found: Finding[] = []
  const definers = await ask(
    `SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), has_function_privilege('public', p.oid, 'EXECUTE')
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE p.prosecdef AND ${OURS} AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1 LIMIT 50`,
  )
  for (const [routine, everybody] of definers)
    found.push(
      missing(
        `it may call ${routine}, which runs with the rights of its owner (SECURITY DEFINER)`,
        `REVOKE EXECUTE ON ROUTINE ${routine} FROM ${yes(everybody) ? 'PUBLIC' : identifier(name)};`,
      ),
    )
  const elsewhere = await ask(
    `SELECT DISTINCT n.nspname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE p.proname ~ '^dblink' AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE') AND ${OURS} ORDER BY 1 LIMIT 50`,
  )
  for (const [schema] of elsewhere)
    found.push(
      advice(
        `it may call dblink in ${schemaName(schema ?? '')}, which runs statements on another connection`,
        `REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ${schemaName(schema ?? '')} FROM PUBLIC;`,
      ),
    )
  const servers = await ask("SELECT srvname FROM pg_foreign_server WHERE has_server_privilege(oid, 'USAGE') ORDER BY 1 LIMIT 50")
  for (const [server] of servers)
    found.push(
      advice(
        `it may use the foreign server ${server}`,
        `REVOKE USAGE ON FOREIGN SERVER ${identifier(server ?? '')} FROM PUBLIC, ${identifier(name)};`,
      ),
    )
  const files = await ask(
    `SELECT format('pg_catalog.%I(%s)', proname, pg_get_function_identity_arguments(oid)) FROM pg_proc
      WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^(pg_read_|pg_ls_dir|pg_stat_file|lo_import|lo_export|pg_file_)' AND proname !~ '_all_|_old$'
        AND has_function_privilege(oid, 'EXECUTE') ORDER BY 1 LIMIT 50`,
  )
  if (files.length > 0)
    found.push(
      missing(
        'it may read or write files of the server',
        `REVOKE EXECUTE ON FUNCTION ${files.map(([f]) => f).join(', ')} FROM ${identifier(name)}, PUBLIC;`,
      ),
    )
  const objects = await ask(
    `SELECT f FROM unnest(ARRAY[${LARGE_OBJECTS.map((f) => `'${f}'`).join(', ')}]) f WHERE current_setting('server_version_num')::int < ${LARGE_OBJECTS_SAFE} AND has_function_privilege(f, 'EXECUTE')`,
  )
  if (objects.length > 0)
    found.push(
      advice(
        'it may make large objects, and before PostgreSQL 16 no read-only transaction stops that; as a superuser, where nothing uses them:',
        `REVOKE EXECUTE ON FUNCTION ${objects.map(([f]) => f).join(', ')} FROM PUBLIC;`,
      ),
    )
  return found.length > 0 ? found : [ok('it may call nothing that reaches past its own rights')]
}
