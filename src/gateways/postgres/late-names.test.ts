import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import type pg from 'pg'
import { bind, describe, execute, sync } from './raw.fixture.ts'
import { type Rig, startRig, until } from './rig.fixture.ts'
import { parseMessage as parse } from './wire/write.ts'

/**
 * A name without a schema is looked up by the server once it has its locks: what stood first on the search path when the statement was
 * judged may be gone by then, and the next of that name is used.
 */
const ONLY_SCRATCH = { allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'any', tables: ['scratch.*'] }] }
const MASKED = {
  allow: [
    {
      postgres: 'any',
      databases: ['shop'],
      as: ['writer'],
      can: ['read', 'write'],
      tables: ['scratch.*', 'public.*'],
      mask: { 'public.customers.name': 'fixed' },
    },
  ],
}
const FIXTURE = `
  create schema scratch authorization writer;
  set role writer;
  create table scratch.customers (id int primary key, name text not null, email text);
  insert into scratch.customers values (1, 'mine', 'mine');
  create table scratch.orders (id int, total numeric);
  create view scratch.busy as select 1 as n;
  create sequence scratch.counter;
  create function scratch.told() returns int language sql immutable as 'select 1';
  create domain scratch.small as int;
  create function scratch.plus(a point, b point) returns int language sql immutable as 'select 1';
  create operator scratch.<+> (leftarg = point, rightarg = point, function = scratch.plus);
  reset role;
  create sequence public.counter;
  create function public.told() returns int language sql as 'insert into touched values (''told''); select 2';
  create function public.holds(n int) returns boolean language plpgsql as 'begin insert into touched values (''small''); return true; end';
  create domain public.small as int check (public.holds(value));
  create function public.adds(a point, b point) returns int language sql as 'insert into touched values (''operator''); select 2';
  create operator public.<+> (leftarg = point, rightarg = point, function = public.adds);
  grant all on all sequences in schema public to writer;
`

let rig: Rig
before(async () => {
  rig = await startRig()
  await rig.admin.query(FIXTURE)
  const { spec } = rig.parts.resources.list('postgres')[0]! as { spec: Record<string, unknown> }
  spec.functions = { read: ['scratch.*'] }
})
after(() => rig.stop())

const open: { end(): unknown }[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one.end()
})

/** Through the gateway, with two schemas to look in. */
async function client(): Promise<pg.Client> {
  const it = await rig.connect('writer')
  open.push(it)
  // So that a test that fails does not wait for ever.
  await it.query("set search_path = scratch, public; set lock_timeout = '30s'")
  return it
}

async function direct(): Promise<pg.Client> {
  const it = await rig.direct('writer')
  open.push(it)
  return it
}

/** Somebody waits for a lock that this connection holds. */
async function isWaitedFor(holder: pg.Client): Promise<void> {
  const { processID } = holder as unknown as { processID: number }
  await until(async () => {
    const { rows } = await rig.admin.query('select from pg_stat_activity where $1 = any (pg_blocking_pids(pid))', [processID])
    return rows.length > 0
  })
}

const factsOfLast = () => rig.records.at(-1)!.action.facts as Record<string, unknown>

const BY_TABLE = [
  'select name from customers',
  'table customers',
  'select (select max(name) from customers)',
  'with c as (select * from customers) select * from c',
  'with d as (delete from customers returning name) select * from d',
  "insert into customers values (7, 'x')",
  "update customers set name = 'x' where id = 1",
  'delete from customers where id = 1',
  "merge into customers c using (values (1)) v (id) on c.id = v.id when matched then update set name = 'x'",
  'copy customers to stdout',
  'copy (select name from customers) to stdout',
  'lock table customers',
  'truncate customers',
  'explain select * from customers',
  'explain (analyze) select * from customers',
  'declare k cursor for select * from customers',
  'prepare p as select * from customers',
  'create table scratch.copied as select * from customers',
  'create view scratch.seen as select * from customers',
  'create index on customers (name)',
  'create rule r as on insert to customers do nothing',
  'create table scratch.like_it (like customers)',
  'alter table customers add column more int',
  'alter table customers rename to others',
  'alter table customers set schema scratch',
  'create table made (n int)',
  'create table made as select 1',
  "comment on table customers is 'x'",
  'grant select on customers to reader',
  'drop table customers',
  'drop table customers cascade',
  'analyze customers',
  'cluster customers',
  'reindex table customers',
  'select last_value from counter',
  'drop sequence counter',
  'select * from busy',
]

test('rule 2: a table that a name leads to only once another is gone is judged too, in every kind of statement', async () => {
  rig.state.roles = [ONLY_SCRATCH]
  const it = await client()
  for (const sql of BY_TABLE) {
    await assert.rejects(it.query(sql), { code: '42501', message: /^Chaperone refused this/ }, sql)
    // With its schema it leads nowhere else.
    if (/^(select|table|insert|update|lock|explain|copy)/.test(sql)) {
      await it.query('begin')
      await it.query(sql.replace(/\b(customers|counter|busy)\b/, 'scratch.$1'))
      await it.query('rollback')
    }
  }
})

test('rule 2: so it is in both protocols, while another connection drops what stands first', async () => {
  rig.state.roles = [ONLY_SCRATCH]
  const dropping = await direct()
  const it = await client()
  await dropping.query('begin; drop table scratch.customers')
  await assert.rejects(it.query('select name from customers'), { code: '42501' })
  await assert.rejects(it.query({ text: 'select name from customers where id = $1', values: [1] }), { code: '42501' })
  await dropping.query('rollback')
})

test('rule 2: a table that is made when its schema is gone comes to be in the next one, so that one counts too', async () => {
  rig.state.roles = [ONLY_SCRATCH]
  const it = await client()
  await assert.rejects(it.query('create table made (n int)'), { message: /may come to mean public\.made before it runs: write scratch\.made\.$/ })
  await it.query('create table scratch.made (n int)')
})

test('rule 2: the refusal says which table it is for, and how to write the name', async () => {
  rig.state.roles = [ONLY_SCRATCH]
  const it = await client()
  await assert.rejects(it.query('select name from customers'), {
    message:
      /^Chaperone refused this: SELECT scratch\.customers\. .* Without a schema the name may come to mean public\.customers before it runs: write scratch\.customers\.$/,
  })
  // What is refused for what it means is not to be written in another way.
  rig.state.roles = [{ allow: [{ ...ONLY_SCRATCH.allow[0], tables: ['none.*'] }] }]
  await assert.rejects(it.query('select name from customers'), (error: Error) => {
    assert.doesNotMatch(error.message, /Without a schema/)
    return true
  })
})

test('rule 6: the record tells apart what was read and what might have been', async () => {
  rig.state.roles = [MASKED]
  const it = await client()
  await it.query('select id, total from orders')
  assert.deepEqual(factsOfLast().tables, { read: ['scratch.orders'], written: [] })
  assert.deepEqual(factsOfLast().covered, { read: ['public.orders'], written: [], behind: [] })
  assert.deepEqual(factsOfLast().columns, { read: ['scratch.orders.id', 'scratch.orders.total'], written: [] })
  await it.query('select id, total from scratch.orders')
  assert.equal(factsOfLast().covered, undefined)
  await it.query('select n from busy')
  assert.deepEqual(factsOfLast().behind, [])
  assert.deepEqual(factsOfLast().covered, { read: ['public.busy'], written: [], behind: ['public.orders'] })
  // Meant by another name of the same statement, it is read.
  await it.query('select a.id from orders a, public.orders b limit 1')
  assert.deepEqual(factsOfLast().tables, { read: ['public.orders', 'scratch.orders'], written: [] })
  assert.equal(factsOfLast().covered, undefined)
})

test('an exception on a table is met by a view that another covers', async () => {
  rig.state.roles = [{ ...MASKED, deny: [{ postgres: 'any', tables: ['public.orders'] }] }]
  const it = await client()
  await assert.rejects(it.query('select n from busy'), { code: '42501' })
  await it.query('select n from scratch.busy')
})

test('rule 2: while it waits for a lock another table takes the place of its own, and what that hides stays hidden', async () => {
  rig.state.roles = [MASKED]
  const it = await client()
  const raw = await rig.raw('writer', { options: '-c search_path=scratch,public' })
  open.push(raw)
  // What only the other one hides may stand in no condition either.
  await assert.rejects(it.query("select id from customers where name = 'mine'"), { code: '42501' })
  await it.query("select id from scratch.customers where name = 'mine'")
  for (const gone of [
    'drop table scratch.customers',
    'alter table scratch.customers rename to former',
    'alter table scratch.customers set schema app',
  ]) {
    await rig.admin.query('create schema if not exists app authorization writer')
    const changing = await direct()
    await changing.query(`begin; ${gone}`)
    const asked = it.query('select name from customers where id = 1')
    await isWaitedFor(changing)
    raw.send(parse('', 'select name from customers where id = 1'), bind('', ''), describe('P', ''), execute(''), sync())
    await changing.query('commit')
    assert.deepEqual((await asked).rows, [{ name: '***' }], gone)
    assert.deepEqual(await raw.answers(), ['1', '2', 'D:***', 'C:SELECT 1', 'ZI'], gone)
    await changing.query(
      'drop table if exists scratch.former, app.customers; create table scratch.customers (id int primary key, name text not null, email text)',
    )
    await changing.query("insert into scratch.customers values (1, 'mine', 'mine')")
  }
})

test('rule 2: with other columns behind the same name a masked statement must say which it means', async () => {
  rig.state.roles = [{ allow: [{ ...MASKED.allow[0], mask: { 'public.orders.total': 'fixed' } }] }]
  const it = await client()
  await assert.rejects(it.query('select id from orders'), {
    message: /columns of public\.orders are hidden, and it has not the same ones as others of that name .*; write scratch\.orders\)/,
  })
  assert.deepEqual((await it.query('select total from scratch.orders')).rows, [])
  // Where neither hides anything, it only may not stand beside what does.
  await it.query('select n from busy')
})

test('rule 2: what is hidden by a hash in one table cannot be tried with values of another of that name', async () => {
  rig.state.roles = [{ allow: [{ ...MASKED.allow[0], mask: { 'public.customers.name': 'hash' } }] }]
  const it = await client()
  assert.deepEqual((await it.query('select name from customers')).rows, [{ name: null }])
})

test('rule 2: functions, operators and types behind the first on the path count as well', async () => {
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'read' }] }]
  const it = await client()
  for (const [bare, whole] of [
    ['select told()', 'select scratch.told()'],
    ['select 1::small', 'select 1::scratch.small'],
    ["select point '(1,1)' <+> point '(1,1)'", "select point '(1,1)' operator(scratch.<+>) point '(1,1)'"],
  ] as const) {
    await assert.rejects(it.query(bare), { code: '42501' }, bare)
    await it.query(whole)
  }
  assert.equal((await rig.admin.query('select count(*)::int as n from touched')).rows[0].n, 0)
})
