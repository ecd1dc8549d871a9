import { closeSync, openSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import { ChaperoneError } from '../errors.ts'
import { makeTurns, type Turns } from './turns.ts'
import { turnstileOf } from './turnstile.ts'

/** SQLITE_BUSY: another connection (the audit writer's thread, a backup) is writing just now. */
const SQLITE_BUSY = 5
/** How long a write waits for another connection before it is refused. */
const BUSY_MS = 5000
/** Statements kept prepared, per connection. Lists of `IN (?, ?, ...)` make many variants of one statement. */
const STATEMENTS = 300

/**
 * Kysely over node:sqlite, with two connections to one file: selects outside a transaction go to a read-only one, and in
 * WAL mode never wait; whatever writes takes its turn on the other.
 */
export function sqliteDialect(path: string): Dialect {
  return {
    createDriver: () => new SqliteStoreDriver(path),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    createAdapter: () => new TwoConnections(),
    createIntrospector: (db) => new SqliteIntrospector(db),
  }
}

/** Kysely gives SQLite one connection at a time, and so a read inside a transaction, beside it, would wait for ever. */
class TwoConnections extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true
  }
}

/**
 * Opens the store's file for any thread: 0600, WAL, and FULL, which alone makes a commit durable on return: under NORMAL
 * the last commits are lost in a power cut.
 */
export function openSqlite(path: string, options: { readonly readOnly?: boolean; readonly busyMs?: number } = {}): DatabaseSync {
  const { readOnly = false, busyMs = BUSY_MS } = options
  // SQLite makes its file readable for everybody under the usual umask; -wal and -shm take the mode of the file.
  if (!readOnly) closeSync(openSync(path, 'a', 0o600))
  const database = new DatabaseSync(path, { readOnly, timeout: BUSY_MS, enableForeignKeyConstraints: true, enableDoubleQuotedStringLiterals: false })
  try {
    // A checkpoint every 16 MB of WAL, not every 4: the pages of the record's many indices are then written once for
    // several batches, which saves a sixth of the CPU of an append.
    database.exec(`
      ${readOnly ? '' : 'pragma journal_mode = wal; pragma synchronous = full; pragma wal_autocheckpoint = 4000;'}
      pragma trusted_schema = off;
      pragma temp_store = memory;
      pragma cache_size = -32768;
      pragma busy_timeout = ${busyMs};`)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

class SqliteStoreDriver implements Driver {
  readonly #path: string
  readonly #turns: Turns
  #reader: Prepared | undefined
  #writer: Prepared | undefined

  constructor(path: string) {
    this.#path = path
    this.#turns = makeTurns(turnstileOf(path))
  }

  async init(): Promise<void> {
    // The writer does not sleep inside SQLite, which would stop the whole process: `acquireConnection` waits instead.
    this.#writer = new Prepared(openSqlite(this.#path, { busyMs: 0 }))
    this.#reader = new Prepared(openSqlite(this.#path, { readOnly: true }))
  }

  async acquireConnection(): Promise<SqliteConnection> {
    if (!this.#reader || !this.#writer) throw new Error('the store is closed')
    return new SqliteConnection(this.#reader, this.#writer, this.#turns)
  }

  beginTransaction = (connection: DatabaseConnection) => (connection as SqliteConnection).begin()
  commitTransaction = (connection: DatabaseConnection) => (connection as SqliteConnection).commit()
  rollbackTransaction = (connection: DatabaseConnection) => (connection as SqliteConnection).rollback()
  releaseConnection = async () => {}

  async destroy(): Promise<void> {
    await this.#turns.close() // whoever is writing may finish
    this.#reader?.database.close()
    this.#writer?.database.close() // the last one to close folds the WAL into the file
    this.#reader = this.#writer = undefined
  }
}

/** One transaction, or one statement on its own. */
class SqliteConnection implements DatabaseConnection {
  readonly #reader: Prepared
  readonly #writer: Prepared
  readonly #turns: Turns
  #turn: (() => void) | undefined
  /** What doomed the transaction. PostgreSQL refuses to go on after a failed statement; code that passes here must not break there. */
  #doomedBy: unknown

  constructor(reader: Prepared, writer: Prepared, turns: Turns) {
    this.#reader = reader
    this.#writer = writer
    this.#turns = turns
  }

  async begin(): Promise<void> {
    const done = await this.#turns.take()
    try {
      await whenFree(() => this.#writer.database.exec('begin immediate'))
      this.#turn = done
    } catch (error) {
      done()
      throw error
    }
  }

  async commit(): Promise<void> {
    if (this.#doomedBy !== undefined) {
      const cause = this.#doomedBy
      await this.rollback()
      throw new ChaperoneError('store_unavailable', 'A statement of the transaction had failed, so nothing was stored.', { cause })
    }
    this.#writer.database.exec('commit')
    this.#end()
  }

  async rollback(): Promise<void> {
    try {
      // After SQLITE_FULL or SQLITE_IOERR, SQLite has rolled back by itself.
      if (this.#turn && this.#writer.database.isTransaction) this.#writer.database.exec('rollback')
    } finally {
      this.#end()
    }
  }

  #end(): void {
    this.#turn?.()
    this.#turn = undefined
    this.#doomedBy = undefined
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    if (this.#turn) {
      if (this.#doomedBy !== undefined) throw new Error('an earlier statement of this transaction failed', { cause: this.#doomedBy })
      try {
        return this.#writer.run<R>(query)
      } catch (error) {
        this.#doomedBy = error
        throw error
      }
    }
    if (query.query.kind === 'SelectQueryNode') return this.#reader.run<R>(query)
    const done = await this.#turns.take()
    try {
      return await whenFree(() => this.#writer.run<R>(query))
    } finally {
      done()
    }
  }

  async *streamQuery<R>(query: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    // A statement of its own: one from the cache may be started again while this one is half read.
    const statement = (this.#turn ? this.#writer : this.#reader).database.prepare(query.sql)
    for (const row of statement.iterate(...parametersOf(query))) yield { rows: [{ ...row } as R] }
  }
}

/** A connection with its prepared statements; the one that was not used for longest goes first. */
class Prepared {
  readonly database: DatabaseSync
  readonly #statements = new Map<string, { readonly statement: StatementSync; readonly hasRows: boolean }>()

  constructor(database: DatabaseSync) {
    this.database = database
  }

  run<R>(query: CompiledQuery): QueryResult<R> {
    const { statement, hasRows } = this.#prepare(query.sql)
    const parameters = parametersOf(query)
    // Rows of node:sqlite have no prototype; those of pg do, and deepEqual tells them apart.
    if (hasRows) return { rows: statement.all(...parameters).map((row) => ({ ...row }) as R) }
    const { changes } = statement.run(...parameters)
    return { rows: [], numAffectedRows: BigInt(changes) }
  }

  #prepare(sql: string) {
    let entry = this.#statements.get(sql)
    if (entry) {
      this.#statements.delete(sql)
    } else {
      const statement = this.database.prepare(sql)
      entry = { statement, hasRows: statement.columns().length > 0 }
      const oldest = this.#statements.keys().next()
      if (this.#statements.size >= STATEMENTS && !oldest.done) this.#statements.delete(oldest.value)
    }
    this.#statements.set(sql, entry)
    return entry
  }
}

function parametersOf(query: CompiledQuery): SQLInputValue[] {
  return query.parameters.map((value) => (typeof value === 'boolean' ? Number(value) : value)) as SQLInputValue[]
}

/** Does it as soon as no other connection is writing, without stopping this process while it waits. */
async function whenFree<T>(work: () => T): Promise<T> {
  const patience = performance.now() + BUSY_MS
  for (let attempt = 0; ; attempt++) {
    try {
      return work()
    } catch (error) {
      if ((error as { errcode?: number }).errcode !== SQLITE_BUSY || performance.now() > patience) throw error
      // The other one holds it for a commit, about an fsync (0.2 ms), so the first tries follow at once.
      await new Promise<void>((again) => (attempt < 50 ? setImmediate(again) : setTimeout(again, 1)))
    }
  }
}
