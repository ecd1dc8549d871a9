import type { DatabaseConnection, Dialect, Driver } from 'kysely'
import { ChaperoneError } from '../errors.ts'

/** What a driver's error says: SQLite's extended code as a number, or PostgreSQL's SQLSTATE or the system's code as text. */
export function codeOf(error: unknown): number | string | undefined {
  if (error instanceof AggregateError) return codeOf(error.errors[0]) // localhost, tried as ::1 and as 127.0.0.1
  const { errcode, code } = (error ?? {}) as { errcode?: number; code?: string }
  return errcode ?? code
}

const UNIQUE_VIOLATIONS: readonly unknown[] = [
  1555, // SQLITE_CONSTRAINT_PRIMARYKEY
  2067, // SQLITE_CONSTRAINT_UNIQUE
  '23505', // unique_violation
]

/** Whether the store refused a row because one with the same key is there; callers that can tell what it means answer `conflict`. */
export function isUniqueViolation(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (UNIQUE_VIOLATIONS.includes(codeOf(at))) return true
  return false
}

const SAYINGS: readonly { readonly codes: readonly (number | string)[]; readonly message: string; readonly fix: string }[] = [
  { codes: [13, 'ENOSPC', '53100'], message: 'The disk of the store is full.', fix: 'Make room, then try again.' },
  { codes: [8, 'EROFS', '25006'], message: 'The store cannot be written.', fix: 'Make it writable: it may be mounted read-only, or be a standby.' },
  {
    codes: [14, 'EACCES', 'EPERM'],
    message: 'The file of the store cannot be opened.',
    fix: 'Check that the data directory belongs to the user Chaperone runs as.',
  },
  { codes: [11, 26], message: 'The file of the store is damaged, or not one.', fix: 'Restore a backup.' },
  { codes: [5, 6], message: 'Another process keeps the file of the store locked.', fix: 'End what else has it open.' },
  { codes: ['28P01', '28000'], message: 'PostgreSQL does not accept the login in the store URL.', fix: 'Check user and password of --store.' },
  { codes: ['3D000'], message: 'The database named in the store URL does not exist.', fix: 'Create it, then start again.' },
  { codes: ['42501'], message: 'The database user of the store lacks a right.', fix: 'Make it the owner of the database.' },
  { codes: ['53300'], message: 'PostgreSQL has no connection left for the store.', fix: 'Raise max_connections.' },
]

/** Any error of a driver as a ChaperoneError, its own text kept for the log. Ours pass through. */
export function storeError(error: unknown): ChaperoneError {
  if (error instanceof ChaperoneError) return error
  const code = codeOf(error)
  const base = typeof code === 'number' ? code & 0xff : code // SQLite's extended codes keep the plain one in the low byte
  const said = SAYINGS.find(({ codes }) => base !== undefined && codes.includes(base))
  const text = error instanceof AggregateError ? error.errors.map(String).join('; ') : error instanceof Error ? error.message : String(error)
  const detail = code === undefined ? text : `${text} (${code})`
  return new ChaperoneError('store_unavailable', said?.message ?? 'The store does not answer.', {
    detail,
    cause: error,
    ...(said && { fix: said.fix }),
  })
}

async function named<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw storeError(error)
  }
}

/** The same dialect, with every error of its driver named by {@link storeError}. */
export function namingErrors(dialect: Dialect): Dialect {
  return { ...bound(dialect), createDriver: () => namedDriver(dialect.createDriver()) }
}

function bound(dialect: Dialect): Dialect {
  return {
    createDriver: () => dialect.createDriver(),
    createQueryCompiler: () => dialect.createQueryCompiler(),
    createAdapter: () => dialect.createAdapter(),
    createIntrospector: (db) => dialect.createIntrospector(db),
  }
}

/** Drivers know their connections by identity, so each call goes to the connection inside. */
interface NamedConnection extends DatabaseConnection {
  readonly inside: DatabaseConnection
}

function namedDriver(driver: Driver): Driver {
  const inside = (connection: DatabaseConnection) => (connection as NamedConnection).inside
  return {
    init: () => named(() => driver.init()),
    acquireConnection: () => named(async () => namedConnection(await driver.acquireConnection())),
    beginTransaction: (connection, settings) => named(() => driver.beginTransaction(inside(connection), settings)),
    commitTransaction: (connection) => named(() => driver.commitTransaction(inside(connection))),
    rollbackTransaction: (connection) => named(() => driver.rollbackTransaction(inside(connection))),
    releaseConnection: (connection) => named(() => driver.releaseConnection(inside(connection))),
    destroy: () => named(() => driver.destroy()),
  }
}

function namedConnection(connection: DatabaseConnection): NamedConnection {
  return {
    inside: connection,
    executeQuery: (query) => named(() => connection.executeQuery(query)),
    async *streamQuery(query, chunkSize) {
      try {
        yield* connection.streamQuery(query, chunkSize) as AsyncIterableIterator<never>
      } catch (error) {
        throw storeError(error)
      }
    },
  }
}
