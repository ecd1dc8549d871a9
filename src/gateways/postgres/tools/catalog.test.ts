import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { READER, type Rig, startRig } from '../rig.fixture.ts'
import { readTableName } from './catalog.ts'
import { type Any, sit, structured, textOf, toolsOf } from './tools.fixture.ts'

let rig: Rig
before(async () => {
  rig = await startRig({ roles: [READER] })
  await rig.admin.query(`
    create schema "Odd one";
    create table "Odd one"."a.b" (id int primary key);
    create table parts (year int not null, n int, primary key (year, n)) partition by range (year);
    create table parts_2025 partition of parts for values from (2025) to (2026);
    comment on table customers is 'who buys'; comment on column customers.email is 'never show';
    create unique index on customers (lower(email));
    alter table customers add constraint named check (name <> ''), add column loud text generated always as (upper(name)) stored;
    create table hidden (x int);
    revoke all on hidden from public;
    grant usage on schema "Odd one" to reader; grant select on "Odd one"."a.b", parts to reader;
    analyze;
  `)
})
after(() => rig.stop())

const tables = async (more: Record<string, unknown> = {}): Promise<Any> =>
  structured(await sit(toolsOf(rig)).call('list_tables', { as: 'reader', ...more }))
const names = (list: Any): string[] => list.tables.map(({ schema, name }: Any) => `${schema}.${name}`)

test('tables and views are listed as the database user sees them', async () => {
  const list = await tables()
  assert.deepEqual(names(list), ['Odd one.a.b', 'public.busy', 'public.customers', 'public.orders', 'public.parts', 'public.touched', 'public.traps'])
  assert.deepEqual(
    list.tables.find(({ name }: Any) => name === 'customers'),
    { schema: 'public', name: 'customers', kind: 'table', rows_estimate: 50, comment: 'who buys' },
  )
  assert.equal(list.tables.find(({ name }: Any) => name === 'parts').kind, 'partitioned table')
  assert.deepEqual(names(await tables({ schema: 'Odd one' })), ['Odd one.a.b'])
  assert.deepEqual([list.not_shown, list.more], [0, false])
})

test('rule 8: a table that the rules do not let one read is not listed, and is described like one that is not there', async () => {
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: 'reader', can: 'read', tables: ['public.o*'] }] }]
  try {
    const list = await tables()
    assert.deepEqual([names(list), list.not_shown], [['public.orders'], 6])
    const { call } = sit(toolsOf(rig))
    const hidden = textOf(await call('describe_table', { table: 'customers' }))
    const absent = textOf(await call('describe_table', { table: 'customerz' }))
    assert.equal(hidden.replace('customers', 'customerz'), absent)
  } finally {
    rig.state.roles = [READER]
  }
})

test('a table is described with its columns, keys, constraints and indexes', async () => {
  const { call } = sit(toolsOf(rig))
  const customers = structured(await call('describe_table', { table: 'public.customers', as: 'reader' }))
  assert.deepEqual(customers.columns, [
    { name: 'id', type: 'integer', nullable: false, default: null, generated: false, comment: null },
    { name: 'name', type: 'text', nullable: false, default: null, generated: false, comment: null },
    { name: 'email', type: 'text', nullable: true, default: null, generated: false, comment: 'never show' },
    { name: 'loud', type: 'text', nullable: true, default: null, generated: true, comment: null },
  ])
  assert.deepEqual(customers.primary_key, ['id'])
  assert.deepEqual(
    customers.constraints.map(({ name }: Any) => name),
    ['named'],
  )
  assert.equal(customers.indexes.length, 2)
  const orders = structured(await call('describe_table', { table: 'orders', as: 'reader' }))
  assert.deepEqual(orders.foreign_keys, [{ columns: ['customer'], references: 'public.customers', to: ['id'] }])
  assert.match(orders.columns[0].default, /^nextval/)
  assert.deepEqual(structured(await call('describe_table', { table: 'parts', as: 'reader' })).primary_key, ['year', 'n'])
  const odd = structured(await call('describe_table', { table: '"Odd one"."a.b"', as: 'reader' }))
  assert.deepEqual([odd.schema, odd.name], ['Odd one', 'a.b'])
  assert.deepEqual(structured(await call('describe_table', { table: 'a.b', schema: 'Odd one', as: 'reader' })), odd)
})

test('each catalog tool is one recorded read, through the same gate', async () => {
  const { call } = sit(toolsOf(rig))
  await call('list_tables', { as: 'reader' })
  const from = rig.records.length
  await call('list_tables', { as: 'reader' })
  await call('describe_table', { table: 'orders', as: 'reader' })
  const made = rig.records.slice(from)
  assert.deepEqual(
    made.map(({ action, decision }) => [action.operation, action.effects, action.via, decision.verdict]),
    [
      ['select', ['read'], 'mcp', 'allow'],
      ['select', ['read'], 'mcp', 'allow'],
    ],
  )
})

test('a plan is shown without running the statement; running it needs the right to', async () => {
  const { call } = sit(toolsOf(rig))
  const { plan, analyzed } = structured(await call('explain', { sql: 'select * from customers where id = $1', params: [1], as: 'reader' }))
  assert.equal(analyzed, false)
  assert.ok(plan[0].Plan['Node Type'])
  assert.equal(plan[0]['Execution Time'], undefined)
  const run = structured(await call('explain', { sql: 'select 1', analyze: true, as: 'reader' }))
  assert.ok(JSON.parse(JSON.stringify(run.plan))[0]['Execution Time'] >= 0)
  const refused = await call('explain', { sql: 'delete from orders', analyze: true, as: 'writer' })
  assert.match(textOf(refused), /^Chaperone refused this/)
  // What stands behind the prefix is part of one statement, whatever is written there.
  for (const sql of ['analyze delete from orders', '(analyze) delete from orders', 'select 1; delete from orders'])
    assert.equal((await call('explain', { sql, as: 'writer' })).isError, true, sql)
  assert.equal((await rig.admin.query('select count(*)::int as n from orders')).rows[0].n, 200)
})

test('names of tables are read as they are listed', () => {
  assert.deepEqual(readTableName('orders'), { schema: null, table: 'orders' })
  assert.deepEqual(readTableName('public.Orders'), { schema: 'public', table: 'Orders' })
  assert.deepEqual(readTableName('"a ""b"""."c.d"'), { schema: 'a "b"', table: 'c.d' })
  for (const bad of ['a.b.c', '"a', '.a', 'a.', '']) assert.equal(readTableName(bad), undefined, bad)
})
