import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { openRoom, sqlitePlace } from './fixtures.ts'
import { querySuite } from './query-suite.ts'

querySuite('SQLite', sqlitePlace)

test('Every filter has an index that gives the newest first: no search walks the whole log.', async (t) => {
  const room = await openRoom(t, sqlitePlace)
  const database = new DatabaseSync(room.store.location, { readOnly: true })
  t.after(() => database.close())
  const conditions = {
    '1': 'audit_leaves_at',
    'identity_id = ?': 'audit_leaves_identity_id',
    'session_id = ?': 'audit_leaves_session_id',
    'resource_id = ?': 'audit_leaves_resource_id',
    "type = ? and type not in ('action.intent', 'action.outcome')": 'audit_leaves_type',
    "verdict = ? and verdict <> 'allow'": 'audit_leaves_verdict',
    'id = ?': 'audit_leaves_id',
    'permit = ?': 'audit_leaves_permit',
  }
  for (const [condition, index] of Object.entries(conditions)) {
    const plan = database
      .prepare(`explain query plan select * from audit_leaves where ${condition} order by at desc limit 10`)
      .all(...(condition.includes('?') ? ['x'] : []))
    assert.match(plan.map(({ detail }) => detail).join('; '), new RegExp(`using index ${index}\\b`, 'i'), condition)
  }
})
