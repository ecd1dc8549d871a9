import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { REFRESH_MS } from './mirror/mirrors.ts'
import { type Rig, startRig, until } from './rig.fixture.ts'

/** pg_get_viewdef and its like lock what a definition names: a look must not stand behind whoever holds a table for himself. */
const clock = manualClock(Date.now())
const READS = { allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'read' }] }
const BUT_CUSTOMERS = { ...READS, deny: [{ postgres: 'any', tables: ['public.customers'] }] }
const FIXTURE = `
  create view named as select name from customers;
  create view told as select name from named;
  create materialized view kept as select name from customers;
  create materialized view kept_told as select name from named;
  create table rows (id int primary key, tag text, loud text generated always as (upper(tag)) stored, check (tag <> 'never'), n int unique);
  create table guarded (id int); alter table guarded enable row level security;
  create policy guard on guarded using (exists (select from customers where customers.id = guarded.id));
  create table parted (id int, secret int) partition by range (secret); create table parted_1 partition of parted default;
  create domain whole as customers check ((value).id > 0);
  create function one() returns customers language sql stable as 'select * from customers limit 1';
  create view sly as select (one()).id as id;
  grant select on all tables in schema public to writer; grant insert, update on rows to writer;
`

let rig: Rig
before(async () => {
  rig = await startRig({ clock })
  await rig.admin.query(FIXTURE)
})
after(() => rig.stop())
beforeEach(() => {
  rig.state.roles = [READS]
})
const open: { end(): unknown }[] = []
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.end()
  // Nobody is connected: the mirror is forgotten, and the next look is a whole one. A connection is let go of after its socket has closed.
  const { resource, spec } = rig.parts.resources.find('postgres', 'prod')!
  await until(() => {
    clock.advance(10 * REFRESH_MS)
    return rig.gateway.mirrorOf(resource.id, 'shop', spec) === undefined
  })
})

async function client(user = 'writer') {
  const it = await rig.connect(user, { connectionTimeoutMillis: 20_000 })
  open.push(it)
  return it
}

/** Somebody who has these tables for himself. */
async function holderOf(tables: string) {
  const it = await rig.direct('root')
  open.push(it)
  await it.query(`begin; lock table ${tables}`)
  return it
}

async function refuses(it: Awaited<ReturnType<typeof client>>, sql: string) {
  await assert.rejects(it.query(sql), { code: '42501' }, sql)
}

test('rule 1: while somebody holds a table others connect and read others; what cannot be read may do anything', async () => {
  const holder = await holderOf('customers')
  const it = await client()
  assert.equal((await it.query('select count(*)::int as n from orders')).rows[0].n, 200)
  assert.equal((await it.query('select customer from busy limit 1')).rows.length, 1)
  for (const sql of ['select * from named', 'select * from told', 'select * from kept', 'select * from kept_told', 'select * from guarded'])
    await refuses(it, sql)
  // The lock comes by the type of a row here, which the list of locks does not tell.
  for (const sql of ['select * from sly', 'select null::whole']) await refuses(it, sql)
  await holder.query('commit')
  clock.advance(REFRESH_MS)
  assert.equal((await it.query('select * from named')).rows.length, 50)
  assert.equal((await it.query('select * from told')).rows.length, 50)
  await it.query('select * from guarded')
  await it.query('select * from kept_told')
  await it.query('select * from sly')
})

test('rule 2: a rule on a table behind a view that cannot be read is met, also before somebody has his lock', async () => {
  rig.state.roles = [BUT_CUSTOMERS]
  const reader = await rig.direct('writer')
  open.push(reader)
  await reader.query('begin; select count(*) from customers')
  const holder = await rig.direct('root')
  open.push(holder)
  await holder.query('begin')
  const locking = holder.query('lock table customers')
  await until(async () => (await rig.admin.query('select from pg_locks where not granted')).rows.length > 0)
  const it = await client()
  for (const sql of ['select * from named', 'select * from kept', 'select * from kept_told', 'explain select * from told']) await refuses(it, sql)
  await it.query('select id from orders limit 1')
  await reader.query('commit')
  await locking
})

test('rule 2: a view that is replaced while a table is locked is judged by what it has become', async () => {
  rig.state.roles = [BUT_CUSTOMERS]
  await rig.admin.query('create view moved as select name from customers; grant select on moved to writer')
  const holder = await holderOf('customers')
  const it = await client()
  await refuses(it, 'select * from moved')
  await rig.admin.query("create or replace view moved as select 'plain'::text as name")
  clock.advance(REFRESH_MS)
  assert.deepEqual((await it.query('select * from moved')).rows, [{ name: 'plain' }])
  await rig.admin.query('create or replace view moved as select tag as name from rows')
  await holder.query('commit')
  clock.advance(REFRESH_MS)
  await it.query('select * from moved')
  await refuses(it, 'select * from named')
})

test('rule 2: who was connected before goes on by what he knew, and waits for the lock as the server has it', async () => {
  const it = await client()
  await it.query('select * from named')
  const holder = await holderOf('customers')
  clock.advance(REFRESH_MS)
  const asked = it.query('select * from named')
  await until(async () => (await rig.admin.query('select from pg_locks where not granted')).rows.length > 0)
  await holder.query('commit')
  assert.equal((await asked).rows.length, 50)
})

test('rule 2: of a masked table that is locked the partitions, constraints and computed columns may speak of what is hidden', async () => {
  const holder = await holderOf('parted, rows')
  rig.state.roles = [
    {
      allow: [
        { ...READS.allow[0], can: ['read', 'write'], mask: { 'public.parted.id': 'fixed', 'public.rows.tag': 'fixed', 'public.rows.n': 'fixed' } },
      ],
    },
  ]
  const it = await client()
  for (const sql of ['select count(*) from parted', 'update rows set n = 1', 'insert into rows (id) values (1)']) await refuses(it, sql)
  await holder.query('commit')
  clock.advance(REFRESH_MS)
  await it.query('select count(*) from parted')
})
