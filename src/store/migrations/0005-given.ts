import type { Migration } from '../migrate.ts'

/** In which session somebody agreed to something, and which session the newest join of a key begins. */
export const given: Migration = {
  async up(db) {
    await db.schema.alterTable('sessions').addColumn('given_in', 'text').execute()
    await db.schema.alterTable('join_keys').addColumn('newest_session', 'text').execute()
  },
}
