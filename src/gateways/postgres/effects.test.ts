import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { UNKNOWN_MS } from './mirror/mirrors.ts'
import { bind, execute, message, sync } from './raw.fixture.ts'
import { type Rig, startRig } from './rig.fixture.ts'

/**
 * B18 whole: code that a statement runs without naming it. The role may read everything and insert into one table, so the
 * session is not read-only, and only what is known of the database stands in between.
 */
const ALMOST_READER = {
  allow: [
    { postgres: 'any', databases: ['shop'], as: ['writer'], can: 'read' },
    { postgres: 'any', databases: ['shop'], as: ['writer'], statements: ['insert'], tables: ['public.touched'] },
  ],
}

const FIXTURE = `
  create schema app;
  create table app.log (what text); create sequence app.counter;
  create function app.boom() returns int language sql as $$ insert into app.log values ('boom'); select 1 $$;
  create function app.test(int) returns bool language sql as $$ insert into app.log values ('test'); select true $$;
  create function app.keep(int) returns int language sql stable as $$ select $1 $$;
  create table items (id int primary key, name text);
  insert into items values (1, 'one'), (2, 'two');
  create function public.of_item(items) returns int language sql as $$ insert into app.log values ('row'); select 1 $$;
  create function public.of_any(anyelement) returns int language sql as $$ insert into app.log values ('any'); select 1 $$;
  create view v_boom as select app.boom() as n;
  create view v_deep as select * from (select n from v_boom) q;
  create view v_lock as select * from items for update;
  create view v_next as select nextval('app.counter') as n;
  create view v_union as select 1 as n union all select n from v_boom;
  create view v_fine as select id, upper(name) as name from items where id > 0;
  create view v_keep as select app.keep(id) as id from items;
  create view v_busy as select query from pg_stat_activity;
  create domain app.checked as int check (app.test(value));
  create table checked_items (id app.checked);
  create type app.color as enum ('red', 'blue');
  create type app.pair as (a int, b app.checked);
  create function app.text_of(app.color) returns text language sql as $$ insert into app.log values ('cast'); select 'x' $$;
  create cast (app.color as text) with function app.text_of(app.color) as implicit;
  create table colored (id int, color app.color); insert into colored values (1, 'red');
  create function app.near(app.color, app.color) returns bool language sql as $$ insert into app.log values ('near'); select true $$;
  create operator public.= (leftarg = app.color, rightarg = app.color, function = app.near);
  create operator app.~~~ (rightarg = int, function = app.test);
  create operator app.!!! (rightarg = regclass, function = pg_catalog.nextval);
  create operator public.||| (rightarg = int, function = app.test);
  create type app.shade as enum ('light', 'dark');
  create table shaded (shade app.shade); insert into shaded values ('light');
  create function app.alike(app.shade, app.shade) returns bool language sql as $$ insert into app.log values ('alike'); select true $$;
  create operator public.= (leftarg = app.shade, rightarg = app.shade, function = app.alike);
  create function app.below(int, int) returns bool language sql as $$ insert into app.log values ('below'); select true $$;
  create function app.compare(int, int) returns int language sql as $$ insert into app.log values ('compare'); select 0 $$;
  create operator app.<<< (leftarg = int, rightarg = int, function = app.below);
  create operator class app.odd for type int using btree as operator 1 app.<<<, operator 3 =, function 1 app.compare(int, int);
  create table told_twice (told int); insert into told_twice values (1);
  create function public.told(told_twice) returns int language sql as $$ insert into app.log values ('told'); select 1 $$;
  create function public.lower(app.color) returns text language sql as $$ insert into app.log values ('lower'); select 'x' $$;
  create table guarded (id int); insert into guarded values (1); alter table guarded enable row level security;
  create policy guard on guarded using (app.test(id)); alter table guarded force row level security;
  create view v_guarded with (security_barrier) as select * from guarded; alter view v_guarded owner to writer;
  create function app.step(regclass, int) returns regclass language sql immutable as 'select $1';
  create aggregate app.sum_of(int) (sfunc = app.step, stype = regclass, finalfunc = pg_catalog.nextval, initcond = 'app.counter');
  create function app.logging(int, int) returns int language sql as $$ insert into app.log values ('agg'); select 1 $$;
  create aggregate app.total(int) (sfunc = app.logging, stype = int, initcond = '0');
  create function app.last(int) returns int language sql as $$ insert into app.log values ('last'); select 1 $$;
  create aggregate app.ended(int) (sfunc = int4pl, stype = int, finalfunc = app.last, initcond = '0');
  create table parted (id int) partition by list (id); create table parted_1 partition of parted for values in (1);
  create materialized view stored as select app.boom() as n, id from items;
  create function app.lower(text) returns text language sql as $$ insert into app.log values ('path'); select 'x' $$;
  create table app.items (id int);
  create table "Items" (id int); create table "select" (id int); create table "a.b" (id int);
  grant usage on schema app to writer, reader; grant all on all tables in schema app to writer; grant all on all tables in schema public to writer;
  grant all on all sequences in schema app to writer; grant select on all tables in schema public to reader;
`

/** Each of these changes something, when nobody stands in between. */
const CHANGING: readonly string[] = [
  'select * from v_boom',
  'select * from v_deep',
  'select count(n) from v_deep',
  'table v_union',
  'select (select n from v_boom)',
  'with x as (select * from v_boom) select * from x',
  'explain analyze select * from v_boom',
  'copy v_boom to stdout',
  'copy (select * from v_boom) to stdout',
  'select * from v_next',
  'select * from guarded',
  'select * from v_guarded',
  'select 1::app.checked',
  "select cast('1' as app.checked)",
  "select app.checked '1'",
  "select '(1,2)'::app.pair",
  "select '{1}'::app.checked[]",
  `select '{"(1)"}'::_checked_items`,
  `select json_populate_record(null::checked_items, '{"id":1}')`,
  `select * from json_to_record('{"x":1}') as r(x app.checked)`,
  "select * from xmltable('/r' passing ('<r>1</r>'::xml) columns v app.checked path '.')",
  `select json_value('1', '$' returning app.checked)`,
  'select color::text from colored',
  'select upper(color) from colored',
  'select length(color) from colored',
  "select color = 'red' from colored",
  "select color in ('red', 'blue') from colored",
  'select * from colored a join colored b using (color)',
  'select * from shaded a join shaded b using (shade)',
  'select * from shaded natural join shaded b',
  'select id from items order by id using operator(app.<<<)',
  "select case color when 'red' then 1 end from colored",
  "select nullif(color, 'blue') from colored",
  'select lower(color) from colored',
  'select color.lower from (select color from colored) s, lateral unnest(array[s.color]) color',
  'select operator(app.~~~) 1',
  'select ||| 1',
  "select operator(app.!!!) 'app.counter'::regclass",
  "select ('app.counter'::regclass).nextval",
  "select s.nextval from to_regclass('app.counter') s",
  `select "s"."nextval" from to_regclass('app.counter') as "s"`,
  'select (items).of_item from items',
  'select items.of_item from items',
  'select i.of_item from items i where i.of_item = 1',
  'select public.items.of_item from public.items',
  'select of_item(items) from items',
  'select told(t) from told_twice t',
  'select of_item(row(1, $$x$$)::items)',
  'select g.of_any from generate_series(1, 1) g',
  'select (1).of_any',
  'select app.sum_of(id) from items',
  'select app.total(id) from items',
  'select app.total(id) over () from items',
  'select app.ended(id) from items',
  'select app.lower(name) from items',
  'select * from app.boom()',
  'select * from rows from (app.boom(), generate_series(1, 2))',
  'select * from items order by app.boom()',
  'select * from items, lateral app.boom()',
  'select * from items limit app.boom()',
  'select id from items group by id having app.boom() = 1',
  'select count(*) filter (where app.test(id)) from items',
  'values (app.boom())',
]

/** Each of these only reads, and nothing else in the database must get in its way. */
const READING: readonly string[] = [
  'select * from v_fine',
  'select i.id, i.name, i.* from items i',
  "select upper(name), lower(name) from items where name = 'one' and id = 1",
  'select q.of_item from (select 1 as of_item) q',
  'select t.told from told_twice t',
  'select * from parted',
  'select * from stored',
  'select id from "Items"',
  'select * from "select"',
  'select * from "a.b"',
  'select ITEMS.ID from ITEMS',
  'select last_value from app.counter',
  'with v_boom as (select 1 as n) select * from v_boom',
  'select * from app.items',
  "select 'red' as color, length('x')",
  'select id between 1 and 2, id in (1, 2), id is distinct from 3 from items',
  'select information_schema._pg_expandarray(array[1, 2])',
]

let rig: Rig
let root: pg.Client
before(async () => {
  rig = await startRig({ roles: [ALMOST_READER] })
  root = new pg.Client({ connectionString: rig.postgres.superuserUrl.replace(/\/postgres$/, '/shop') })
  await root.connect()
  await root.query(FIXTURE)
})
after(async () => {
  await root.end()
  await rig.stop()
})

async function traces(): Promise<string> {
  const { rows } = await root.query(
    "select (select count(*) from app.log) || ' ' || (select last_value || ' ' || is_called from app.counter) as said",
  )
  return rows[0].said
}

test('B18: whatever runs code that writes is refused, by whatever way it is reached', async (t) => {
  const client = await rig.connect('writer')
  const direct = await rig.direct('writer')
  for (const sql of CHANGING) {
    await t.test(sql, async () => {
      const before = await traces()
      await assert.rejects(client.query(sql), (error: { code: string; message: string }) => {
        assert.equal(error.code, '42501')
        assert.match(error.message, /^Chaperone refused this/)
        return true
      })
      assert.equal(await traces(), before)
      // Otherwise the case would prove nothing.
      if (!sql.startsWith('copy')) await direct.query(sql)
      if (!sql.startsWith('copy')) assert.notEqual(await traces(), before)
    })
  }
  await client.end()
  await direct.end()
})

test('B18: the type that a client declares for a parameter decides which code runs, so it counts too', async () => {
  const { rows } = await root.query("select 'app.color'::regtype::oid::int as oid")
  const wire = await rig.raw('writer')
  const before = await traces()
  for (const [oid, sql] of [
    [rows[0].oid, 'select $1 = $2'],
    [rows[0].oid, 'select $1::text'],
    [rows[0].oid, 'select upper($1)'],
  ] as const) {
    const types = Buffer.alloc(10)
    types.writeInt16BE(2, 0)
    types.writeInt32BE(oid, 2)
    types.writeInt32BE(sql.includes('$2') ? oid : 0, 6)
    if (!sql.includes('$2')) types.writeInt16BE(1, 0)
    const parse = message('P', Buffer.from(`\0${sql}\0`), sql.includes('$2') ? types : types.subarray(0, 6))
    wire.send(parse, bind('', '', sql.includes('$2') ? ['red', 'red'] : ['red']), execute(''), sync())
    assert.deepEqual(await wire.answers(), ['E:42501', 'ZI'], sql)
  }
  assert.equal(await traces(), before)
  wire.end()
})

test('R81: what only reads passes beside all that, by rules on tables too', async (t) => {
  const client = await rig.connect('writer')
  for (const sql of READING) await t.test(sql, async () => void (await client.query(sql)))
  const named = [...rig.records.slice(-READING.length)].flatMap(({ action }) => (action.facts.tables as { read: string[] }).read)
  assert.deepEqual(
    named.filter((name) => !/^"?[A-Za-z_]+"?\.("a\.b"|[A-Za-z_]+)$/.test(name)),
    [],
  )
  await client.end()
})

test('a declared reader is read where the session cannot write, or where the owner of the database reviewed it', async () => {
  const almost = await rig.connect('writer')
  await assert.rejects(almost.query('select * from v_keep'), { code: '42501' })
  await assert.rejects(almost.query('select app.keep(1)'), { code: '42501' })
  await almost.end()
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'read' }] }]
  const pinned = await rig.connect('writer')
  await pinned.query('select * from v_keep')
  await pinned.query('select app.keep(1)')
  await assert.rejects(pinned.query('select app.boom()'), { code: '42501' })
  // The server calls every aggregate immutable: what counts is what it is made of.
  for (const name of ['total', 'sum_of', 'ended'])
    await assert.rejects(pinned.query(`select app.${name}(id) from items`), { code: '42501', message: /^Chaperone refused this/ }, name)
  await assert.rejects(pinned.query('select * from v_busy'), { code: '42501' })
  await assert.rejects(pinned.query('select * from v_lock'), { code: '42501' })
  await pinned.end()
  rig.state.roles = [ALMOST_READER]
})

test('an exception on a table is met through every view and partition of it', async () => {
  rig.state.roles = [
    {
      allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'read' }],
      deny: [{ postgres: 'any', tables: ['public.items', 'public.parted_1', 'public.orders'] }],
    },
  ]
  const client = await rig.connect('writer')
  for (const table of ['items', 'v_fine', 'stored', 'parted', 'parted_1', 'busy']) {
    await assert.rejects(client.query(`select * from ${table}`), { code: '42501' }, table)
  }
  await client.query('select * from app.items')
  await client.end()
  rig.state.roles = [ALMOST_READER]
})

test('a view that is changed through the gateway is seen at once, and one that somebody else made when it is first named', async () => {
  rig.state.roles = [ALMOST_READER, { allow: [{ postgres: 'any', databases: ['shop'], as: 'root', can: 'any' }] }]
  const owner = await rig.connect('root')
  const client = await rig.connect('writer')
  await owner.query('create view v_new as select 1 as n; grant select on v_new to writer')
  await client.query('select * from v_new')
  await owner.query('begin')
  await owner.query('create or replace view v_new as select app.boom() as n')
  await owner.query('commit')
  const before = await traces()
  await assert.rejects(client.query('select * from v_new'), { code: '42501' })
  assert.equal(await traces(), before)
  await root.query('create view v_other as select app.boom() as n; create view v_plain as select 2 as n; grant select on v_other, v_plain to writer')
  // Names that are not known make the gateway look once a second at most.
  await new Promise((done) => setTimeout(done, UNKNOWN_MS + 50))
  await assert.rejects(client.query('select * from v_other'), { code: '42501' })
  assert.deepEqual((await client.query('select * from v_plain')).rows, [{ n: 2 }])
  // What does not exist is the server's to say.
  await assert.rejects(client.query('select * from v_nowhere'), { code: '42P01' })
  await owner.end()
  await client.end()
  rig.state.roles = [ALMOST_READER]
})

test('a schema of the search path that comes to be is searched from the next statement on, and one that goes no more', async () => {
  rig.state.roles = [ALMOST_READER, { allow: [{ postgres: 'any', databases: ['shop'], as: 'root', can: 'any' }] }]
  const owner = await rig.connect('root')
  const client = await rig.connect('writer')
  const meant = async () => {
    const { rows } = await client.query('select id from items')
    return [(rig.records.at(-1)!.action.facts.tables as { read: string[] }).read, rows.length]
  }
  assert.deepEqual(await meant(), [['public.items'], 2])
  // The path begins with "$user", which leads nowhere until somebody makes it.
  await owner.query('create schema writer authorization writer; create table writer.items (id int); grant select on writer.items to writer')
  assert.deepEqual(await meant(), [['writer.items'], 0])
  await owner.query('drop schema writer cascade')
  assert.deepEqual(await meant(), [['public.items'], 2])
  await owner.end()
  await client.end()
  rig.state.roles = [ALMOST_READER]
})
