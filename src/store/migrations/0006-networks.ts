import type { Migration } from '../migrate.ts'

/** From which network somebody without a credential asked for what the OAuth server keeps: each has a share of the places. */
export const networks: Migration = {
  async up(db) {
    await db.schema.alterTable('oauth_records').addColumn('network', 'text').execute()
    await db.schema.createIndex('oauth_records_network').on('oauth_records').column('network').execute()
  },
}
