import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import fc from 'fast-check'
import { type Described, DescriptionCache, describeSql, ORDINARY, type SqlContext } from './describe.ts'
import { describeStatement } from './explain.ts'
import { loadParser } from './sql/parse.ts'

before(() => loadParser())

const one = (sql: string, context: SqlContext = ORDINARY): Described => {
  const all = describeSql(sql, context)
  assert.equal(all.length, 1)
  return all[0]!
}

/** statement -> effects, kinds, tables read, tables written */
const CASES: readonly (readonly [sql: string, effects: string, kinds: string, read: string, written: string])[] = [
  ['select 1', 'read', 'select', '', ''],
  ['values (1), (2)', 'read', 'select', '', ''],
  ['table public.customers', 'read', 'select', 'public.customers', ''],
  ['select * from "Weird.Name"."a ""b"""', 'read', 'select', '"Weird.Name"."a ""b"""', ''],
  ['select * from a join b using (id), lateral (select * from c where c.x = a.x) d', 'read', 'select', 'a b c', ''],
  ['select (select max(x) from a), array(select y from b), exists (select from c)', 'read', 'select', 'a b c', ''],
  ['select * from a union select * from b except select * from c order by 1', 'read', 'select', 'a b c', ''],
  ['insert into t values (1)', 'write', 'insert', '', 't'],
  ['insert into t select * from s returning id', 'read write', 'insert', 's', 't'],
  ['insert into t values (1) on conflict (id) do update set x = excluded.x', 'write', 'insert update', '', 't'],
  ['update t set x = 1 where id = 2', 'read write', 'update', '', 't'],
  ['update t set x = 1', 'write', 'update', '', 't'],
  ['delete from t using s where s.id = t.id', 'read write', 'delete', 's', 't'],
  ['delete from t', 'write destroy', 'delete', '', 't'],
  [
    'merge into t using s on t.id = s.id when matched then delete when not matched then insert values (1)',
    'read write destroy',
    'delete insert merge',
    's t',
    't',
  ],
  ['with d as (delete from t where id = 1 returning *) select * from d', 'read write', 'delete select', '', 't'],
  ['with a as (with b as (insert into t values (1) returning 1) select * from b) select * from a', 'read write', 'insert select', '', 't'],
  ['select * into t from s', 'read write admin', 'create table as select', 's', 't'],
  ['create temp table t as select * from s', 'read write', 'create table as select', 's', 't'],
  ['select * from t for update', 'read write', 'select', 't', ''],
  ['explain delete from t', 'read', 'explain', 't', ''],
  ['explain (analyze) delete from t where id = 1', 'read write', 'delete explain', '', 't'],
  ['explain (analyze false) delete from t', 'read', 'explain', 't', ''],
  ['copy t to stdout', 'read', 'copy', 't', ''],
  ['copy t from stdin', 'write', 'copy', '', 't'],
  ["copy t to '/tmp/x'", 'read admin egress', 'copy', 't', ''],
  ["copy t from program 'x'", 'write admin egress', 'copy', '', 't'],
  ['copy (select * from s) to stdout', 'read', 'copy select', 's', ''],
  ['declare c cursor for select * from s', 'read', 'cursor select', 's', ''],
  ['declare c cursor with hold for select 1', 'read write', 'cursor select', '', ''],
  ['set search_path = pg_temp, public', 'write', 'set', '', ''],
  ['select * from t tablesample evil(1)', 'read write destroy admin egress', 'select', 't', ''],
  ['explain select 1 limit txid_current()', 'read write', 'explain', '', ''],
  ['drop table a, b.c', 'destroy admin', 'drop', '', 'a b.c'],
  ['truncate a, b', 'write destroy', 'truncate', '', 'a b'],
  ['create index on t (lower(name))', 'read admin', 'create index', '', 't'],
  ['begin', 'read', 'transaction', '', ''],
  ['start transaction isolation level serializable, read only', 'read', 'transaction', '', ''],
  ['begin read write', 'read write', 'transaction', '', ''],
  ["prepare transaction 'x'", 'read write', 'transaction', '', ''],
  ["set datestyle = 'ISO'", 'read', 'set', '', ''],
  ["set time zone 'UTC'", 'read', 'set', '', ''],
  ["set client_encoding = 'utf-8'", 'read', 'set', '', ''],
  ['set standard_conforming_strings = on', 'read', 'set', '', ''],
  ["select set_config('bytea_output', 'hex', false)", 'read', 'select', '', ''],
  ['set work_mem = 1', 'admin', 'set', '', ''],
  ['show all', 'read', 'show', '', ''],
  ['listen a', 'write', 'listen', '', ''],
  ['call p()', 'read write destroy admin egress', 'call', '', ''],
  ['select nextval($1)', 'read write', 'select', '', ''],
  ['select pg_sleep(1)', 'read admin', 'select', '', ''],
  ['select my_function(1)', 'read write destroy admin egress', 'select', '', ''],
  ['select evil.lower(x) from t', 'read write destroy admin egress', 'select', 't', ''],
  ['select 1 operator(evil.+) 1', 'read write destroy admin egress', 'select', '', ''],
  ['select x from t order by y using operator(evil.<)', 'read write destroy admin egress', 'select', 't', ''],
  ['select pg_catalog.lower(x) from pg_catalog.pg_class', 'read', 'select', 'pg_catalog.pg_class', ''],
  ['select * from pg_stat_activity', 'read admin', 'select', 'pg_stat_activity', ''],
  ['select * from pg_toast.pg_toast_1', 'read admin', 'select', 'pg_toast.pg_toast_1', ''],
]

for (const [sql, effects, kinds, read, written] of CASES) {
  test(`${JSON.stringify(sql)} has the effects ${effects}`, () => {
    const described = one(sql)
    const list = (text: string) => (text === '' ? [] : text.split(/ (?=(?:[^"]*"[^"]*")*[^"]*$)/))
    assert.equal(described.unclear, undefined)
    assert.equal(described.effects.join(' '), effects)
    // Kinds hold spaces themselves, so they are compared as one text.
    assert.equal(described.kinds.join(' '), kinds)
    assert.deepEqual(described.read, list(read))
    assert.deepEqual(described.written, list(written))
  })
}

test('a WITH hides a table only where the server lets it', () => {
  assert.deepEqual(one('with s as (select 1) select * from s').read, [])
  assert.deepEqual(one('with s as (select * from s) select * from s').read, ['s'])
  assert.deepEqual(one('with recursive s as (select 1 union select * from s) select * from s').read, [])
  assert.deepEqual(one('with a as (select * from b), b as (select 1) select * from a, b').read, ['b'])
  assert.deepEqual(one('select * from s where exists (with s as (select 1) select * from s)').read, ['s'])
  assert.deepEqual(one('with s as (select 1) select * from public.s').read, ['public.s'])
  assert.deepEqual(one('with s as (select 1) delete from s').written, ['s'])
  assert.deepEqual(one('with s as (select 1) insert into t select * from s').read, [])
})

test('rule 1: what cannot be read or followed is unclear, so that no rule can allow it', () => {
  for (const sql of [
    'selec 1',
    "select 'a",
    'select 1\0; drop table x',
    'set standard_conforming_strings = off',
    `select ${'1+'.repeat(20_000)}1`,
    `select ${'('.repeat(20_000)}1${')'.repeat(20_000)}`,
  ]) {
    assert.notEqual(one(sql).unclear, undefined, sql.slice(0, 60))
  }
})

test('rule 11: an assignment of many columns from one source, which the parser copies once a column, is refused before it is parsed', () => {
  const columns = Array(1000).fill('a').join(',')
  const wide = `update t set (${columns}) = (select ${Array(2000).fill('1').join(',')})`
  let nested = 'row(1,2,3,4)'
  for (let i = 0; i < 20; i++) nested = `(with x as (update t set (a,b,c,d) = ${nested} returning 1) select 1)`
  const before = process.memoryUsage().rss
  for (const sql of [wide, `update t set (a,b,c,d) = ${nested}`, `insert into t values (1) on conflict do update set (a,b,c,d) = ${nested}`]) {
    assert.match(one(sql).unclear ?? '', /memory/)
  }
  // A parse of the first takes a gigabyte. What the tests before this one left to V8 moves by a hundred megabytes.
  assert.ok(process.memoryUsage().rss - before < 400_000_000)
  assert.equal(one('update t set (a, b) = (select x, y from s where s.id = t.id) where t.id = 1').unclear, undefined)
})

test('a search path that is not known, or does not begin with pg_catalog, makes unqualified functions unknown', () => {
  for (const path of [undefined, ['evil', 'pg_catalog']]) {
    const context = { path, ceilings: {} }
    assert.ok(one('select lower(x) from t', context).opaque)
    assert.ok(!one('select pg_catalog.lower(x) from t', context).opaque)
  }
})

test('a client may shorten its timeouts, never lengthen what the database set', () => {
  const context: SqlContext = { path: ['pg_catalog'], ceilings: { statement_timeout: 30_000 } }
  assert.deepEqual(one("set statement_timeout = '5s'", context).effects, ['read'])
  assert.deepEqual(one('set statement_timeout = 30000', context).effects, ['read'])
  for (const value of ['0', "'1min'", "'never'", '-1']) assert.deepEqual(one(`set statement_timeout = ${value}`, context).effects, ['admin'], value)
  assert.deepEqual(one('set statement_timeout = 0').effects, ['read'])
})

test('WHERE counts as a condition only when it speaks of the rows', () => {
  for (const sql of ['delete from t', 'delete from t where true', 'update t set x = 1 where 1 = 1']) assert.ok(one(sql).everyRow, sql)
  for (const sql of ['delete from t where id = 1', 'update t set x = 1 where current of c']) assert.ok(!one(sql).everyRow, sql)
})

test('statements of one text are told apart with their own text', () => {
  const all = describeSql("select 'é;'; ; /* x */ delete from t; ")
  assert.deepEqual(
    all.map((described) => described.text),
    ["select 'é;'", '/* x */ delete from t;'],
  )
  assert.deepEqual(describeSql(''), [])
  assert.deepEqual(describeSql(' -- nothing\n;;'), [])
})

test('the cache gives what parsing gives, and stays within its bounds', () => {
  const cache = new DescriptionCache({ entries: 10, characters: 1000 })
  for (let i = 0; i < 100; i++) assert.deepEqual(cache.describe(`select ${i % 20}`, ORDINARY), describeSql(`select ${i % 20}`))
  assert.deepEqual(cache.describe('select 1', ORDINARY), describeSql('select 1'))
  assert.notEqual(cache.describe('select $1', ORDINARY, [20_000]), cache.describe('select $1', ORDINARY))
  assert.notEqual(cache.describe('select $1', ORDINARY, [20_000]), cache.describe('select $1', ORDINARY, [20_001]))
  const moved = { path: undefined, ceilings: {} }
  assert.ok(!cache.describe('select now()', ORDINARY)[0]!.opaque)
  assert.ok(cache.describe('select now()', moved)[0]!.opaque)
})

test('the cache keeps a text from its second time on, and two that follow each other in turn do not push each other out', () => {
  const cache = new DescriptionCache()
  for (let i = 0; i < 100; i++) cache.describe(`select ${i}`, ORDINARY)
  assert.deepEqual([cache.hits, cache.misses], [0, 100])
  for (let turn = 0; turn < 3; turn++) for (let i = 0; i < 100; i++) cache.describe(`select ${i}`, ORDINARY)
  assert.deepEqual([cache.hits, cache.misses], [200, 200])
})

test('explain gives one action a statement', async () => {
  const resource = { kind: 'postgres', id: 'res', name: 'prod', labels: {} }
  const actions = await describeStatement({ resource, database: 'shop', user: 'reader', sql: 'select * from a; drop table b' })
  assert.deepEqual(
    actions.map((action) => [action.operation, action.summary, action.effects]),
    [
      ['select', 'SELECT a', ['read']],
      ['drop', 'DROP b', ['destroy', 'admin']],
    ],
  )
})

test('whatever is put around a write, it stays one', () => {
  const wrap = fc.letrec<{ select: string; write: string }>((tie) => ({
    write: fc.constantFrom(
      'delete from t where id = 1 returning 1',
      'insert into t values (1) returning 1',
      'update t set x = 1 where id = 1 returning 1',
    ),
    select: fc.oneof(
      { depthSize: 'small' },
      tie('write').map((write) => `with w as (${write}) select * from w`),
      tie('select').map((inner) => `select * from (${inner}) q`),
      tie('select').map((inner) => `select case when true then (${inner}) end`),
      tie('select').map((inner) => `(${inner}) union all select 1`),
      tie('select').map((inner) => `select json_object('a': (${inner})) from generate_series(1, 2) g where exists (${inner})`),
      tie('select').map((inner) => `with x as materialized (${inner}) select count(*) over (order by (select 1)) from x`),
    ),
  })).select
  const around = fc.constantFrom(
    (sql: string) => sql,
    (sql: string) => `explain analyze ${sql}`,
    (sql: string) => `copy (${sql}) to stdout`,
    (sql: string) => `declare c cursor for ${sql}`,
    (sql: string) => `create temp table z as ${sql}`,
    (sql: string) => `/* ${'/* nested */'} */ ${sql}`,
  )
  fc.assert(
    fc.property(wrap, around, (select, put) => {
      for (const described of describeSql(put(select))) assert.ok(described.unclear !== undefined || described.effects.includes('write'), put(select))
    }),
    { numRuns: 300 },
  )
})
