import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type Rig, startRig } from '../rig.fixture.ts'
import { sit, structured, textOf, toolsOf } from './tools.fixture.ts'

const MASKED = {
  allow: [
    { postgres: 'any', databases: ['shop'], as: 'reader', can: 'read', mask: { 'public.customers.email': 'last4', 'public.orders.total': 'null' } },
  ],
}

let rig: Rig
before(async () => {
  rig = await startRig({ roles: [MASKED] })
})
after(() => rig.stop())

test('what a rule hides is hidden here too, whatever its type', async () => {
  const { call } = sit(toolsOf(rig, { users: ['reader'] }))
  const { rows } = structured(await call('query', { sql: 'select id, email from customers where id = $1', params: [7] }))
  assert.deepEqual(Object.keys(rows[0]).length, 2)
  assert.notEqual(rows[0][1], 'c7@example.org')
  assert.match(rows[0][1], /\.org$/)
  assert.deepEqual(structured(await call('query', { sql: 'select total, id from orders order by id limit 1' })).rows, [[null, 1]])
})

test('tables are listed and described where something is hidden as well', async () => {
  const { call } = sit(toolsOf(rig, { users: ['reader'] }))
  assert.ok(structured(await call('list_tables')).tables.length > 2)
  assert.equal(structured(await call('describe_table', { table: 'customers' })).columns.length, 3)
})

test('a plan, an error or a filter tells nothing of what is hidden', async () => {
  const { call } = sit(toolsOf(rig, { users: ['reader'] }))
  for (const sql of [
    `select 1 from customers where email = 'c7@example.org'`,
    'select length(email) from customers',
    'select email::int from customers',
  ]) {
    for (const tool of ['query', 'explain']) {
      const result = await call(tool, { sql })
      assert.equal(result.isError, true, `${tool} ${sql}`)
      assert.doesNotMatch(textOf(result), /c\d+@example/)
    }
  }
})
