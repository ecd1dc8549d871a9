import { type ColumnDefinitionBuilder, type Kysely, sql } from 'kysely'
import type { Migration } from '../migrate.ts'

const required = (column: ColumnDefinitionBuilder) => column.notNull()
const key = (column: ColumnDefinitionBuilder) => column.notNull().primaryKey()

/** Requests with all that they can be about, who signs in with a browser, what is told outside; locks and sessions say more. */
export const requests: Migration = {
  async up(db, { integer, bytes, table }) {
    const add = async (to: string, columns: Readonly<Record<string, 'text' | typeof integer>>) => {
      for (const [name, type] of Object.entries(columns)) await db.schema.alterTable(to).addColumn(name, type).execute()
    }
    await db.schema
      .alterTable('requests')
      .addColumn('updated_at', integer, (column) => column.notNull().defaultTo(0))
      .execute()
    await db.schema
      .alterTable('requests')
      .addColumn('below', integer, (column) => column.notNull().defaultTo(0))
      .execute()
    await add('requests', { session_id: 'text', purpose: 'text', needs: 'text', role: 'text', resource_id: 'text', digest: 'text' })
    await add('requests', { permit: 'text', node_id: 'text', outcome: 'text', reviewed_by: 'text' })
    await add('requests', {
      expires_at: integer,
      starts_at: integer,
      ends_at: integer,
      escalated_at: integer,
      review_due: integer,
      reviewed_at: integer,
      erase_at: integer,
    })
    await (db as Kysely<{ requests: { updated_at: number; decided_at: number; created_at: number } }>)
      .updateTable('requests')
      .set({ updated_at: sql<number>`coalesce(decided_at, created_at)` })
      .execute()
    await db.schema.createIndex('requests_digest').on('requests').columns(['identity_id', 'digest']).execute()
    // Two nodes that are asked the same in one moment make one question of it.
    await db.schema
      .createIndex('requests_open')
      .unique()
      .on('requests')
      .columns(['identity_id', 'digest'])
      .where(sql.ref('state'), '=', sql.lit('pending'))
      .execute()
    await db.schema.createIndex('requests_expiry').on('requests').columns(['state', 'expires_at']).execute()
    // What is looked for every few seconds must not be looked for among all that ever was.
    await db.schema
      .createIndex('requests_running')
      .on('requests')
      .column('node_id')
      .where(sql.ref('state'), '=', sql.lit('used'))
      .where(sql.ref('outcome'), 'is', sql.lit(null))
      .execute()
    await db.schema
      .createIndex('requests_review')
      .on('requests')
      .column('review_due')
      .where(sql.ref('review_due'), 'is not', sql.lit(null))
      .where(sql.ref('reviewed_by'), 'is', sql.lit(null))
      .execute()
    await db.schema.createIndex('requests_erase').on('requests').column('erase_at').where(sql.ref('erase_at'), 'is not', sql.lit(null)).execute()
    await db.schema.createIndex('requests_updated').on('requests').column('updated_at').execute()
    await table('request_votes')
      .addColumn('request_id', 'text', required)
      .addColumn('identity_id', 'text', required)
      .addColumn('verdict', 'text', required)
      .addColumn('reason', 'text')
      .addColumn('how', 'text', required)
      .addColumn('factor', 'text')
      .addColumn('seen', 'text')
      .addColumn('session_id', 'text', required)
      .addColumn('at', integer, required)
      .addPrimaryKeyConstraint('request_votes_key', ['request_id', 'identity_id'])
      .execute()
    await table('browsers')
      .addColumn('id', 'text', key)
      .addColumn('identity_id', 'text', required)
      .addColumn('secret_sha256', 'text', (column) => column.notNull().unique())
      .addColumn('name', 'text', required)
      .addColumn('created_at', integer, required)
      .addColumn('last_used_at', integer, required)
      .addColumn('expires_at', integer, required)
      .addColumn('revoked_at', integer)
      .execute()
    await table('web_sessions')
      .addColumn('secret_sha256', 'text', key)
      .addColumn('session_id', 'text', required)
      .addColumn('identity_id', 'text', required)
      .addColumn('browser_id', 'text')
      .addColumn('created_at', integer, required)
      .addColumn('last_used_at', integer, required)
      .addColumn('expires_at', integer, required)
      .execute()
    await table('passkeys')
      .addColumn('id', 'text', key)
      .addColumn('identity_id', 'text', required)
      .addColumn('public_key', bytes, required)
      .addColumn('counter', integer, required)
      .addColumn('transports', 'text', required)
      .addColumn('name', 'text', required)
      .addColumn('created_at', integer, required)
      .addColumn('last_used_at', integer)
      .addColumn('revoked_at', integer)
      .execute()
    await table('challenges')
      .addColumn('id', 'text', key)
      .addColumn('identity_id', 'text')
      .addColumn('data', 'text', required)
      .addColumn('expires_at', integer, required)
      .execute()
    await table('deliveries')
      .addColumn('id', 'text', key)
      .addColumn('notifier', 'text', required)
      .addColumn('way', 'text', required)
      .addColumn('event', 'text', required)
      .addColumn('source', 'text')
      .addColumn('payload', 'text', required)
      .addColumn('state', 'text', required)
      .addColumn('attempts', integer, required)
      .addColumn('next_at', integer, required)
      .addColumn('claimed_until', integer)
      .addColumn('last_error', 'text')
      .addColumn('created_at', integer, required)
      .execute()
    await db.schema.createIndex('deliveries_queue').on('deliveries').columns(['notifier', 'state', 'next_at']).execute()
    await db.schema.createIndex('deliveries_source').on('deliveries').columns(['notifier', 'source', 'created_at']).execute()
    // Whoever polls a task follows the call that a human allowed.
    await add('mcp_tasks', { permit: 'text' })
    await add('locks', { made_by: 'text' })
    await add('sessions', { newest_credential: 'text', previous_credential: 'text', last_used_at: integer, factor_by: 'text' })
  },
}
