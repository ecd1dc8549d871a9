import { type CreateTableBuilder, type Kysely, sql, type Transaction } from 'kysely'
import { ChaperoneError } from '../errors.ts'
import { first } from './migrations/0001-first.ts'
import { mcp } from './migrations/0002-mcp.ts'
import { requests } from './migrations/0003-requests.ts'
import { identity } from './migrations/0004-identity.ts'
import { given } from './migrations/0005-given.ts'
import { networks } from './migrations/0006-networks.ts'
import { directorySignins } from './migrations/0007-directory-signins.ts'
import type { Tables } from './tables.ts'

/** What differs between the two dialects when tables are made. */
export interface Types {
  /** 64 bits */
  readonly integer: 'integer' | 'bigint'
  readonly bytes: 'blob' | 'bytea'
  table<T extends string>(name: T): CreateTableBuilder<T>
}

export interface Migration {
  up(db: Kysely<unknown>, types: Types): Promise<void>
}

/** In order, never changed once released. Their number is the version of the schema. */
const MIGRATIONS: readonly Migration[] = [first, mcp, requests, identity, given, networks, directorySignins]

/** Any number that nothing else uses: two nodes that start at once on PostgreSQL take turns here. */
const ADVISORY_LOCK = 4_710_201_122

/**
 * Brings the schema up to date inside `trx`: all of it or nothing. Throws ChaperoneError('schema_newer') for a store
 * that a newer Chaperone has written, because old code would read new rows wrongly.
 */
export async function migrate(trx: Transaction<Tables>, dialect: 'sqlite' | 'postgres', migrations = MIGRATIONS): Promise<void> {
  if (dialect === 'postgres') await sql`select pg_advisory_xact_lock(${sql.lit(ADVISORY_LOCK)})`.execute(trx)
  const types = typesOf(trx, dialect)
  await types
    .table('meta')
    .ifNotExists()
    .addColumn('key', 'text', (column) => column.notNull().primaryKey())
    .addColumn('value', 'text', (column) => column.notNull())
    .execute()
  const row = await trx.selectFrom('meta').select('value').where('key', '=', 'schema').executeTakeFirst()
  const version = Number(row?.value ?? 0)
  if (version > migrations.length) {
    throw new ChaperoneError('schema_newer', `The store has schema ${version}; this Chaperone knows up to ${migrations.length}.`, {
      fix: 'Start the newer Chaperone that wrote it, or restore a backup from before the upgrade.',
    })
  }
  for (const migration of migrations.slice(version)) await migration.up(trx as unknown as Kysely<unknown>, types)
  const value = String(migrations.length)
  await trx
    .insertInto('meta')
    .values({ key: 'schema', value })
    .onConflict((is) => is.column('key').doUpdateSet({ value }))
    .execute()
}

function typesOf(trx: Transaction<Tables>, dialect: 'sqlite' | 'postgres'): Types {
  if (dialect === 'postgres') return { integer: 'bigint', bytes: 'bytea', table: (name) => trx.schema.createTable(name) }
  // STRICT: without it SQLite stores text in an integer column, which PostgreSQL would have refused.
  return { integer: 'integer', bytes: 'blob', table: (name) => trx.schema.createTable(name).modifyEnd(sql`strict`) }
}
