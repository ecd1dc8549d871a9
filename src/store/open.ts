import { join } from 'node:path'
import { Kysely } from 'kysely'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { migrate } from './migrate.ts'
import { postgresDialect } from './postgres-dialect.ts'
import { sqliteDialect } from './sqlite-dialect.ts'
import type { Database, Store, Write } from './store.ts'
import { namingErrors, storeError } from './store-errors.ts'
import { storeTime } from './store-time.ts'
import type { Tables } from './tables.ts'
import { asOneWrite } from './turns.ts'

/** A data directory (SQLite, claimed before with `claimDataDir`), or the URL of a PostgreSQL database. */
export type StoreLocation = { readonly dataDir: string } | { readonly url: string }

/**
 * Opens the store and brings its schema up to date. Throws `schema_newer`, or `store_unavailable` with what to do. Every
 * error that a query of the store throws is a ChaperoneError too.
 */
export async function openStore(location: StoreLocation, options: { readonly clock: Clock }): Promise<Store> {
  const store = new OpenStore(location, options.clock)
  try {
    await store.write((trx) => migrate(trx, store.dialect))
    await store.now()
    return store
  } catch (error) {
    await store.close().catch(() => {}) // what went wrong first is what is told
    throw storeError(error)
  }
}

class OpenStore implements Store {
  readonly dialect: 'sqlite' | 'postgres'
  readonly db: Database
  readonly #location: string
  readonly #clock: Clock

  constructor(location: StoreLocation, clock: Clock) {
    this.#clock = clock
    if ('url' in location) {
      if (!/^postgres(ql)?:\/\//.test(location.url)) {
        throw new ChaperoneError('usage', 'The store URL is not one of PostgreSQL.', { fix: 'Write postgres://user@host/database.' })
      }
      this.dialect = 'postgres'
      this.#location = location.url
      this.db = new Kysely<Tables>({ dialect: namingErrors(postgresDialect(location.url)) })
    } else {
      this.dialect = 'sqlite'
      this.#location = join(location.dataDir, 'chaperone.db')
      this.db = new Kysely<Tables>({ dialect: namingErrors(sqliteDialect(this.#location)) })
    }
  }

  /** A getter, so that no log line shows it by accident: a URL may hold a password. */
  get location(): string {
    return this.#location
  }

  write<T>(work: (trx: Write) => Promise<T>): Promise<T> {
    return asOneWrite(() => this.db.transaction().setIsolationLevel('read committed').execute(work))
  }

  reduce<T>(work: (trx: Write) => Promise<T>): Promise<{ result: T; epoch: number }> {
    return this.write(async (trx) => {
      // First, because the row is a lock as well: changes of rights follow each other on all nodes, as they do on
      // SQLite, so none decides on what another is just changing. Readers and leases do not wait for it.
      const { value } = await trx
        .updateTable('epoch')
        .set((is) => ({ value: is('value', '+', 1) }))
        .where('id', '=', 1)
        .returning('value')
        .executeTakeFirstOrThrow()
      return { result: await work(trx), epoch: value }
    })
  }

  async epoch(): Promise<number> {
    const { value } = await this.db.selectFrom('epoch').select('value').where('id', '=', 1).executeTakeFirstOrThrow()
    return value
  }

  async now(): Promise<number> {
    const { now } = await this.db.selectNoFrom(storeTime(this.dialect, this.#clock).as('now')).executeTakeFirstOrThrow()
    return now
  }

  close(): Promise<void> {
    return this.db.destroy()
  }
}
