import type { ColumnDefinitionBuilder } from 'kysely'
import type { Migration } from '../migrate.ts'

const required = (column: ColumnDefinitionBuilder) => column.notNull()

/** Sign-ins at the providers of companies: what a provider calls each, and by what it is asked whether it still holds. */
export const directorySignins: Migration = {
  async up(db, { integer, bytes, table }) {
    await table('directory_signins')
      .addColumn('id', 'text', (column) => column.notNull().primaryKey())
      .addColumn('directory', 'text', required)
      .addColumn('issuer', 'text', required)
      .addColumn('subject', 'text', required)
      .addColumn('sid', 'text')
      .addColumn('identity_id', 'text', required)
      .addColumn('refresh', bytes)
      .addColumn('checked_at', integer, required)
      .addColumn('next_at', integer)
      .addColumn('created_at', integer, required)
      .addColumn('expires_at', integer, required)
      .addColumn('ended_at', integer)
      .addColumn('end_reason', 'text')
      .execute()
    const index = (name: string, ...columns: readonly string[]) =>
      db.schema
        .createIndex(`directory_signins_${name}`)
        .on('directory_signins')
        .columns([...columns])
        .execute()
    await index('subject', 'directory', 'subject')
    await index('sid', 'directory', 'sid')
    await index('next', 'next_at')
    // What somebody agreed to in a session is looked for by that session.
    await db.schema.createIndex('sessions_given_in').on('sessions').column('given_in').execute()
  },
}
