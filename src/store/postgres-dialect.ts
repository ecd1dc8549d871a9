import { type Dialect, PostgresDialect } from 'kysely'
import pg from 'pg'

/** One node's share of the server's connections. */
const CONNECTIONS = 10
const CONNECT_MS = 5000
/** No query of ours takes long; one that does waits for a lock that nobody gives back. */
const STATEMENT_MS = 15_000

/** Kysely over a pool of `pg`, set up so that values and guarantees are the same as over SQLite. */
export function postgresDialect(url: string): Dialect {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'chaperone',
    max: CONNECTIONS,
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: STATEMENT_MS,
    keepAlive: true,
    types: { getTypeParser },
    // Waited for, and when it fails the pool drops the connection.
    onConnect: (client) => client.query(SESSION, [String(STATEMENT_MS)]),
  })
  // A connection that breaks while nobody waits for an answer says so by an event, which without a listener ends the
  // process. Nothing is lost: whoever uses it next gets the error, and the pool replaces it.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return new PostgresDialect({ pool })
}

/**
 * A database may be set up with synchronous_commit = off, which forgets the last commits in a crash; stricter settings
 * (remote_apply) stay. Timeouts end what waits for a lock that a dead node holds.
 */
const SESSION = `select
  case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on', false) end,
  set_config('statement_timeout', $1, false),
  set_config('idle_in_transaction_session_timeout', $1, false)`

const { INT8, NUMERIC, BYTEA } = pg.types.builtins

/** bigint and numeric (the type of `sum`) as numbers, bytea as a plain Uint8Array, as SQLite gives them. */
function getTypeParser(oid: number, format?: 'text' | 'binary') {
  const standard = pg.types.getTypeParser(oid, format as 'text')
  if (format === 'binary') return standard
  if (oid === BYTEA) return (text: string) => Uint8Array.from(standard(text) as Buffer)
  if (oid === INT8 || oid === NUMERIC) return exactNumber
  return standard
}

function exactNumber(text: string): number {
  const number = Number(text)
  if (Number.isInteger(number) && !Number.isSafeInteger(number)) throw new Error(`${text} does not fit a number`)
  return number
}
