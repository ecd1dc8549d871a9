import type { ColumnDefinitionBuilder } from 'kysely'
import type { Migration } from '../migrate.ts'

const required = (column: ColumnDefinitionBuilder) => column.notNull()
const key = (column: ColumnDefinitionBuilder) => column.notNull().primaryKey()

/** How agents join, what a delegation narrows and who agreed to it, directories, OAuth clients, reviews of agents. */
export const identity: Migration = {
  async up(db, { integer, bytes, table }) {
    const add = async (to: string, columns: Readonly<Record<string, 'text' | typeof integer>>) => {
      for (const [name, type] of Object.entries(columns)) await db.schema.alterTable(to).addColumn(name, type).execute()
    }
    await add('sessions', { joined: 'text', came_from: 'text' })
    await add('identities', {
      reviewed_at: integer,
      reviewed_by: 'text',
      last_used_at: integer,
      stopped: 'text',
      stops_at: integer,
      told_at: integer,
      given: 'text',
    })
    await add('delegations', {
      how: 'text',
      session_id: 'text',
      parent_id: 'text',
      made_by: 'text',
      client: 'text',
      words: 'text',
      end_reason: 'text',
    })
    await db.schema.createIndex('delegations_session').on('delegations').column('session_id').execute()
    await table('join_keys')
      .addColumn('id', 'text', key)
      .addColumn('document', 'text', required)
      .addColumn('identity_id', 'text', required)
      .addColumn('public_key', bytes, required)
      .addColumn('joins', integer, required)
      .addColumn('recoveries_left', integer)
      .addColumn('made_by', 'text')
      .addColumn('created_at', integer, required)
      .addColumn('last_used_at', integer)
      .addColumn('revoked_at', integer)
      .execute()
    await db.schema.createIndex('join_keys_document').on('join_keys').column('document').execute()
    await table('used_proofs').addColumn('key', 'text', key).addColumn('expires_at', integer, required).execute()
    await db.schema.createIndex('used_proofs_expiry').on('used_proofs').column('expires_at').execute()
    await table('accounts')
      .addColumn('id', 'text', key)
      .addColumn('directory', 'text', required)
      .addColumn('subject', 'text')
      .addColumn('identity_id', 'text', required)
      .addColumn('external_id', 'text')
      .addColumn('user_name', 'text', required)
      .addColumn('email', 'text')
      .addColumn('data', 'text', required)
      .addColumn('groups', 'text', required)
      .addColumn('active', integer, required)
      .addColumn('created_at', integer, required)
      .addColumn('updated_at', integer, required)
      .addColumn('last_login_at', integer)
      .addColumn('deleted_at', integer)
      .execute()
    await db.schema.createIndex('accounts_subject').unique().on('accounts').columns(['directory', 'subject']).execute()
    await db.schema.createIndex('accounts_external').unique().on('accounts').columns(['directory', 'external_id']).execute()
    await db.schema.createIndex('accounts_identity').on('accounts').column('identity_id').execute()
    await table('device_logins')
      .addColumn('id', 'text', key)
      .addColumn('device_sha256', 'text', required)
      .addColumn('code_sha256', 'text', required)
      .addColumn('public_key', bytes, required)
      .addColumn('came_from', 'text', required)
      .addColumn('host', 'text', required)
      .addColumn('state', 'text', required)
      .addColumn('identity_id', 'text')
      .addColumn('session_id', 'text')
      .addColumn('factor', 'text')
      .addColumn('last_asked_at', integer)
      .addColumn('created_at', integer, required)
      .addColumn('expires_at', integer, required)
      .execute()
    await db.schema.createIndex('device_logins_device').unique().on('device_logins').column('device_sha256').execute()
    await db.schema.createIndex('device_logins_code').unique().on('device_logins').column('code_sha256').execute()
    await table('directory_groups')
      .addColumn('id', 'text', key)
      .addColumn('directory', 'text', required)
      .addColumn('external_id', 'text')
      .addColumn('display_name', 'text', required)
      .addColumn('created_at', integer, required)
      .addColumn('updated_at', integer, required)
      .execute()
    await db.schema.createIndex('directory_groups_name').unique().on('directory_groups').columns(['directory', 'display_name']).execute()
    await table('directory_members')
      .addColumn('group_id', 'text', required)
      .addColumn('account_id', 'text', required)
      .addPrimaryKeyConstraint('directory_members_key', ['group_id', 'account_id'])
      .execute()
    await table('credential_notes')
      .addColumn('about', 'text', key)
      .addColumn('set_by', 'text')
      .addColumn('set_at', integer)
      .addColumn('used_at', integer)
      .execute()
    await table('oauth_records')
      .addColumn('model', 'text', required)
      .addColumn('id', 'text', required)
      .addColumn('payload', 'text', required)
      .addColumn('grant_id', 'text')
      .addColumn('user_code', 'text')
      .addColumn('uid', 'text')
      .addColumn('consumed_at', integer)
      .addColumn('expires_at', integer)
      .addPrimaryKeyConstraint('oauth_records_key', ['model', 'id'])
      .execute()
    await db.schema.createIndex('oauth_records_grant').on('oauth_records').column('grant_id').execute()
    await db.schema.createIndex('oauth_records_expiry').on('oauth_records').column('expires_at').execute()
    await table('oauth_clients')
      .addColumn('client_id', 'text', key)
      .addColumn('source', 'text', required)
      .addColumn('metadata', 'text', required)
      .addColumn('created_at', integer, required)
      .addColumn('updated_at', integer, required)
      .addColumn('fresh_until', integer)
      .execute()
  },
}
