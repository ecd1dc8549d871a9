import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import pg from 'pg'
import { manualClock } from '../../../clock.ts'
import type { Connection } from '../../../identity/types.ts'
import { postgresGateway } from '../gateway.ts'
import { type Rig, startRig } from '../rig.fixture.ts'
import type { Mask } from './types.ts'

/** Rows that nobody sorted come as the plan reads them: no plan may read them by a hidden column. */
let rig: Rig
const rule = (more: object) => ({ postgres: 'any', databases: ['shop'], as: ['reader', 'writer'], can: 'any', ...more })
const roleOf = (mask: Mask, ...more: object[]) => ({ allow: [rule({ mask }), ...more] })
const EMAIL = { 'public.staff.email': 'null' } as const

before(async () => {
  rig = await startRig()
  await rig.admin.query(`
    create table staff (id int primary key, tenant int, email text not null, code text, name text);
    insert into staff select i, i % 2000, md5((i * 7)::text), md5((i * 11)::text), 'n' || i % 50 from generate_series(1, 30000) i;
    create unique index on staff (tenant, email);
    create index on staff (email) where id > 29900;
    create index on staff (email, name);
    create table pairs (id int, secret text, shown text, upper text generated always as (upper(secret)) stored);
    insert into pairs select i, md5(i::text), i from generate_series(1, 20000) i;
    create index on pairs (secret) include (id); create index on pairs (id) include (secret);
    create materialized view kept as select id, secret from pairs;
    create table parent (id int, email text, k int) partition by range (id);
    create table child partition of parent for values from (0) to (100);
    create table bare (id int, email text); create index bare_ids on bare (id);
    create table pure (id int, email text); create index on pure using gin (to_tsvector('simple', email)); create index on pure using brin (id, email);
    create view staff_view as select id, email as address from staff;
    alter table staff owner to writer; alter table pairs owner to writer; alter table bare owner to writer;
    grant select on all tables in schema public to reader
  `)
  await rig.admin.query('vacuum analyze')
})
after(() => rig.stop())
beforeEach(() => {
  rig.state.roles = [roleOf(EMAIL)]
})

const column = async (client: pg.Client, sql: string) => (await client.query({ text: sql, rowMode: 'array' })).rows.map((row) => row[0])
const state = async (client: pg.Client) =>
  (await column(client, "select current_setting('enable_indexonlyscan') || '/' || current_setting('enable_indexscan')"))[0]

async function held(mask: Mask): Promise<string> {
  rig.state.roles = [roleOf(mask)]
  const client = await rig.connect('reader')
  try {
    return await state(client)
  } finally {
    await client.end()
  }
}

test('no statement gives rows in the order of a hidden column that an index holds beside another key or a condition', async () => {
  const statements = [
    ['select id from staff where tenant < 40 order by tenant limit 400', 'tenant, email'],
    ['select id from staff where tenant between 3 and 4', 'tenant, email'],
    ['select distinct on (tenant) id from staff order by tenant', 'tenant, email'],
    ['select id from staff where id > 29900', 'email'],
    ["select id from staff where name = 'n1'", 'email'],
  ] as const
  const client = await rig.connect('reader')
  for (const [sql, by] of statements) {
    const told = await column(client, sql)
    const inOrder = (
      await rig.admin.query({
        text: `select id from (${sql.replace(/ (order by|limit) .*/, '')}) x join staff using (id) order by ${by}`,
        rowMode: 'array',
      })
    ).rows
    assert.notDeepEqual(told, inOrder.map((row) => row[0]).slice(0, told.length), sql)
    const plan = (await column(client, `explain (costs off) ${sql}`)).join('\n')
    assert.doesNotMatch(plan, /Index (Only )?Scan using/, sql)
  }
  await client.end()
})

test('an index that is sorted by a hidden column alone is not read instead of the table, and other indexes are used as ever', async () => {
  rig.state.roles = [roleOf({ 'public.pairs.secret': 'hash' })]
  const client = await rig.connect('reader')
  assert.equal(await state(client), 'off/on')
  for (const sql of [
    'select id from pairs',
    'select secret from pairs',
    'select id, secret from pairs limit 9',
    'select tableoid, secret from pairs',
  ])
    assert.match((await column(client, `explain (costs off) ${sql}`)).join('\n'), /Seq Scan/, sql)
  assert.match((await column(client, 'explain (costs off) select * from pairs where id = 7')).join('\n'), /Index Scan using pairs_id/)
  await client.end()
})

test('how far a session is held goes by what its masks hide, through what is derived from it too', async () => {
  assert.equal(await held({ 'public.staff.code': 'null' }), 'on/on')
  assert.equal(await held({ 'public.bare.email': 'null' }), 'on/on')
  assert.equal(await held({ 'public.pure.email': 'null' }), 'on/on')
  assert.equal(await held({ 'public.pairs.shown': 'null' }), 'on/on')
  assert.equal(await held({ 'public.*.secret': 'null' }), 'off/on')
  assert.equal(await held({ 'public.staff.name': 'null' }), 'off/off')
  assert.equal(await held({ 'public.staff_view.address': 'null' }), 'off/off')
  const steps = [
    ['create index made on kept (secret)', 'public.pairs.secret', 'off/on'],
    ['create index made on kept (id, secret)', 'public.pairs.secret', 'off/off'],
    ['create index made on pairs (id, upper)', 'public.pairs.secret', 'off/off'],
    ['create index made on child (k, email)', 'public.parent.email', 'off/off'],
    ['create index made on parent (email)', 'public.child.email', 'off/on'],
    ['create index made on bare (lower(email))', 'public.bare.email', 'off/on'],
    ['create index made on bare (id, lower(email))', 'public.bare.email', 'off/off'],
    ['create index made on bare (id, (bare is null))', 'public.bare.email', 'off/off'],
    ['create index made on bare using gist (box(point(id, length(email)), point(0, 0)))', 'public.bare.email', 'off/on'],
    ['create index made on bare using hash (email)', 'public.bare.email', 'off/on'],
  ] as const
  for (const [made, key, expected] of steps) {
    await rig.admin.query(made)
    // A new gateway: it looks at once.
    const gateway = postgresGateway(rig.parts)
    rig.state.roles = [roleOf({ [key]: 'null' })]
    const client = inside(gateway, 'reader')
    await client.connect()
    assert.equal(await state(client), expected, made)
    await client.end()
    await gateway.close()
    await rig.admin.query('drop index made')
  }
})

test('what steers the planner cannot be set in such a session, and what gives settings back leads to the fence', async () => {
  const client = await rig.connect('reader')
  for (const sql of [
    'set enable_seqscan = off',
    'set enable_indexonlyscan to on',
    'set local enable_indexscan = on',
    "select set_config('enable_indexscan', 'on', false)",
    "select set_config('ENABLE_INDEXSCAN', 'on', false)",
    'set random_page_cost = 0',
    'set seq_page_cost = 1e300',
    "set cpu_tuple_cost to '1e300'",
    'set session parallel_tuple_cost = 0',
  ])
    await assert.rejects(client.query(sql), { code: '42501', message: /could tell of columns that a rule hides/ }, sql)
  for (const sql of [
    'reset enable_indexscan',
    'set enable_indexscan to default',
    'reset all',
    'discard all',
    "set geqo = off; set plan_cache_mode = 'auto'",
  ]) {
    await client.query(sql)
    assert.equal(await state(client), 'off/off', sql)
  }
  await client.end()
  await assert.rejects(rig.connect('reader', { options: '-c enable_seqscan=off' }), /steers by which index/)
  await assert.rejects(rig.connect('reader', { options: '-c seq_page_cost=1e300' }), /steers by which index/)
  rig.state.roles = [roleOf({ 'public.staff.code': 'null' })]
  const free = await rig.connect('reader', { options: '-c enable_seqscan=off' })
  await free.query('set enable_indexscan = off; set random_page_cost = 1.1')
  await free.end()
})

test('code that another rule allows and nobody saw cannot lift it for the next statement', async () => {
  rig.state.roles = [{ allow: [rule({ mask: EMAIL, can: 'read' }), rule({ statements: ['do', 'transaction'], can: 'any' })] }]
  const client = await rig.connect('writer')
  const lift = "do $$ begin perform set_config('enable_indexscan', 'on', false); end $$"
  await client.query(lift)
  assert.equal(await state(client), 'off/off')
  await client.query('begin')
  await client.query(lift)
  assert.equal(await state(client), 'off/off')
  await client.query('rollback')
  assert.equal(await state(client), 'off/off')
  await client.end()
})

test('rule 6: a connection ends when masks begin to hide what an index is sorted by, by rules, guardrails or a new index', async () => {
  const clock = manualClock(Date.now())
  const gateway = postgresGateway({ ...rig.parts, clock })
  const cut = async (change: () => Promise<void> | void, ends: boolean) => {
    rig.state.roles = [{ allow: [rule({})] }]
    rig.state.guardrails = []
    const client = inside(gateway, 'writer')
    await client.connect()
    await client.query('select 1')
    await change()
    clock.advance(1_000)
    if (ends) await assert.rejects(client.query('select 1'), /hide more than when you connected/)
    else assert.equal((await client.query('select 1')).rowCount, 1)
    await client.end().catch(() => {})
  }
  await cut(() => {
    rig.state.roles = [roleOf(EMAIL, rule({ can: 'read', tables: ['public.orders'] }))]
  }, true)
  await cut(() => {
    rig.state.roles = [roleOf({ 'public.bare.email': 'null' }, rule({ can: 'read', tables: ['public.orders'] }))]
  }, false)
  await cut(() => {
    rig.state.guardrails = [{ limit: [{ postgres: 'any', tables: ['public.staff'], mask: EMAIL }] }]
  }, true)

  rig.state.guardrails = []
  rig.state.roles = [roleOf({ 'public.bare.email': 'null' })]
  const client = inside(gateway, 'reader')
  await client.connect()
  await client.query('select 1')
  await rig.admin.query('create index made on bare (id, email)')
  const go = async () => {
    // The next look at the database begins; what it costs is time of this clock too, so that moves little meanwhile.
    clock.advance(10_001)
    for (let i = 0; i < 5_000; i++) {
      clock.advance(5)
      await client.query('select 1')
    }
  }
  await assert.rejects(go(), /hide more than when you connected/)
  await rig.admin.query('drop index made')
  await gateway.close()
})

const inside = (gateway: ReturnType<typeof postgresGateway>, user: string) => {
  const controller = new AbortController()
  const connection: Connection = { id: 'con_inside', protocol: 'mcp', signal: controller.signal, closed() {}, assertOpen() {} }
  const client = new pg.Client({
    stream: () => gateway.enter({ session: rig.sessionOf('inside'), connection }, 'mcp') as never,
    user,
    database: 'prod/shop',
  })
  client.on('error', () => {})
  return client
}
