import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { READER, type Rig, startRig } from './rig.test.ts'
import { effectsOfFunction, READ_FUNCTIONS, VOLATILE_READS } from './sql/functions.ts'

/** R81: parsers of others refuse ordinary analytics. What people and tools really send passes under `can: read`, and gives what it gives without a gateway. */
let rig: Rig
before(async () => {
  rig = await startRig({ roles: [READER] })
})
after(() => rig.stop())

const META =
  `\\d|\\d+ customers|\\d+ busy|\\d orders_id_seq|\\dt+|\\di+|\\dv+|\\dm|\\ds+|\\df+|\\dfa|\\dn+|\\du+|\\l+|\\dp|\\z|\\dT+|\\dx|\\dx+ plpgsql|\\dD|\\dC|\\da|\\db+|\\dc|\\dd|\\ddp|\\dE|\\des|\\det|\\dew
  |\\dF|\\dF+|\\dFd|\\dFp|\\dFt|\\dL|\\do|\\dO|\\dP|\\drds|\\dRp|\\dy|\\dA|\\dAc|\\dAf|\\dAo|\\dAp|\\dX|\\conninfo|\\dconfig|\\dconfig work_mem|\\sf touch|\\sv busy|\\encoding|\\dt public.*|\\d customers_pkey|\\dS pg_class`
    .split('|')
    .map((command) => command.trim())

test('every \\d of psql passes', async () => {
  // An older psql asks a newer server for columns that are gone: those errors are the server's, and no refusals.
  const { out } = await rig.psql('reader', META)
  assert.match(out, /customers_pkey/)
  assert.ok(rig.records.length > META.length)
  assert.deepEqual(
    rig.records.filter((record) => record.kind === 'refused').map((record) => record.bodies.statement),
    [],
  )
})

const QUERIES: readonly string[] = [
  // analytics
  'select percentile_cont(0.5) within group (order by total), mode() within group (order by customer) from orders',
  'select customer, sum(total) over w, rank() over (partition by customer order by total desc), lag(total, 1, 0) over w from orders window w as (partition by customer order by id rows between 2 preceding and current row exclude ties)',
  'with a as (with b as (select * from orders) select * from b) select count(*) filter (where total > 10) from a',
  'with recursive t(n) as (select 1 union all select n + 1 from t where n < 10) search depth first by n set o select sum(n) from t',
  "select customer, date_trunc('month', at), sum(total) from orders group by grouping sets ((customer), (date_trunc('month', at)), ()) having sum(total) > 0",
  'select customer, grouping(customer), count(distinct id) from orders group by rollup (customer) order by 1 nulls last limit 5 offset 1',
  "select c.*, o.* from customers c left join lateral (select * from orders o where o.customer = c.id order by total desc fetch first 2 rows with ties) o on true where c.email ilike 'c1%' or c.name similar to 'x%'",
  'select name, name ~ \'^c\', name collate "C", (select array_agg(id order by id) from orders where customer = c.id)[1:2] from customers c',
  "select * from generate_series(now() - interval '3 days', now(), '1 day') with ordinality as g(day, n)",
  "select jsonb_path_query('[1,2]', '$[*]'), json_build_object('a', 1) ->> 'a', to_jsonb(c) - 'email' from customers c limit 1",
  'select x.* from jsonb_to_recordset(\'[{"a":1}]\') as x(a int), json_each_text(\'{"k":"v"}\') e',
  "select * from xmltable('/r/i' passing ('<r><i>1</i></r>'::xml) columns v int path '.')",
  "select * from json_table('[1,2]', '$[*]' columns (n for ordinality, v int path '$')) jt",
  "select case when total > 5 then 1 else coalesce(nullif(total, 0), 1) end, greatest(1, 2), total::text, cast(total as int), at at time zone 'utc', extract(epoch from at) from orders limit 1",
  'select distinct on (customer) * from orders tablesample bernoulli (50) repeatable (1) order by customer, id',
  "select to_tsvector('english', name) @@ plainto_tsquery('customer'), ts_headline(name, 'customer'::tsquery), md5(name), sha256(name::bytea), regexp_replace(name, 'c', 'd', 'g'), format('%s', name) from customers limit 1",
  'select row(1, 2) = row(1, 2), (1, 2) in (values (1, 2)), 1 between 0 and 2, array[1] && array[2], 5 = any (array[1, 5])',
  "values (1, 'a'), (2, 'b')",
  'table customers limit 1',
  'select * from busy',
  'select count(*) from (select 1 union all select 2 intersect select 3) q',
  'explain select * from customers where id = 1',
  'explain (analyze, buffers, format json) select count(*) from orders',
  'copy (select * from customers) to stdout with (format csv, header)',
  // JDBC, node-postgres, psycopg, npgsql, Rails, Django, SQLAlchemy, Prisma, pgAdmin, DBeaver
  'SET extra_float_digits = 3',
  "SET application_name = 'PostgreSQL JDBC Driver'",
  'SELECT 1',
  '-- ping',
  "SET client_min_messages TO 'warning'",
  'SET standard_conforming_strings = on',
  "SET SESSION timezone TO 'UTC'",
  'SET intervalstyle = iso_8601',
  'SHOW TIME ZONE',
  'SHOW max_identifier_length',
  'show transaction isolation level',
  'show standard_conforming_strings',
  'SELECT pg_catalog.version()',
  'select current_schema(), current_database(), current_user, session_user, pg_backend_pid(), inet_server_addr()',
  "SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4') OR t.typtype IN ('r', 'e', 'd') OR t.typinput = 'array_in(cstring,oid,integer)'::regprocedure OR t.typelem != 0",
  'SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity AS identity FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = \'"customers"\'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum',
  "SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), pg_catalog.obj_description(i.oid, 'pg_class') AS comment, d.indisvalid FROM pg_class t INNER JOIN pg_index d ON t.oid = d.indrelid INNER JOIN pg_class i ON d.indexrelid = i.oid LEFT JOIN pg_namespace n ON n.oid = t.relnamespace WHERE i.relkind IN ('i', 'I') AND d.indisprimary = 'f' AND t.relname = 'customers' AND n.nspname = ANY (current_schemas(false)) ORDER BY i.relname",
  "SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)",
  "select relname from pg_class where pg_catalog.has_table_privilege(oid, 'SELECT') limit 1",
  "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'public' ORDER BY ordinal_position",
  'SELECT tc.constraint_name, kcu.column_name, ccu.table_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu USING (constraint_name) JOIN information_schema.constraint_column_usage ccu USING (constraint_name)',
  "SELECT set_config('bytea_output', 'hex', false) FROM pg_show_all_settings() WHERE name = 'bytea_output'",
  "SELECT db.oid as did, db.datname, db.datallowconn, pg_encoding_to_char(db.encoding) AS serverencoding, has_database_privilege(db.oid, 'CREATE') as cancreate FROM pg_catalog.pg_database db WHERE db.datname = current_database()",
  'SELECT roles.oid as id, roles.rolname as name, roles.rolsuper as is_superuser FROM pg_catalog.pg_roles as roles WHERE rolname = current_user',
  "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname",
  "SELECT conname, pg_get_constraintdef(oid, true), conrelid::regclass FROM pg_constraint WHERE contype IN ('f', 'p')",
  'select s.relname, s.n_live_tup, pg_size_pretty(pg_total_relation_size(s.relid)) from pg_stat_user_tables s',
  "select * from pg_settings where name like 'max_%'",
  'BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT count(*) FROM customers; COMMIT',
  'begin; savepoint a; rollback to a; release a; end',
  'begin; declare c cursor for select * from customers order by id; fetch 2 from c; move 1 in c; close c; rollback',
  'deallocate all',
  "set statement_timeout = '30s'",
  'reset statement_timeout',
]

test('ordinary queries of people, ORMs and tools pass, and give what the database gives', async () => {
  const client = await rig.connect('reader')
  const direct = await rig.direct('reader')
  const differs = /now\(\)|pg_backend_pid|inet_server|explain \(analyze|pg_stat_|pg_settings|^copy/i
  for (const sql of QUERIES) {
    const through = await client
      .query({ text: sql, rowMode: 'array' })
      .catch((error) => assert.fail(`${sql}: ${error.message} ${error.detail ?? ''}`))
    if (differs.test(sql)) continue
    const rows = (result: unknown) => (Array.isArray(result) ? result : [result]).map((each) => [each.command, each.rows, each.fields])
    assert.deepEqual(rows(through), rows(await direct.query({ text: sql, rowMode: 'array' })), sql)
  }
  await client.end()
  await direct.end()
  assert.deepEqual(
    rig.records.filter((record) => record.kind === 'refused').map((record) => record.bodies.statement),
    [],
  )
  assert.ok(rig.records.every((record) => record.action.effects.every((effect) => effect === 'read')))
})

test('every function of the list is a builtin that only reads, says a real server', async () => {
  const { rows } = await rig.admin.query(
    "select proname as name, bool_or(provolatile = 'v') as volatile from pg_proc where pronamespace = 'pg_catalog'::regnamespace group by 1",
  )
  const known = new Map(rows.map((row: { name: string; volatile: boolean }) => [row.name, row.volatile]))
  assert.deepEqual(
    [...READ_FUNCTIONS].filter((name) => !known.has(name)),
    [],
  )
  const excused = new Set(VOLATILE_READS)
  // TABLESAMPLE methods are listed as volatile functions of their own.
  assert.deepEqual(
    [...READ_FUNCTIONS].filter((name) => known.get(name) && !excused.has(name)),
    ['bernoulli', 'system'],
  )
})

test('what runs SQL from a text, touches files or other sessions is on no list of reads', () => {
  for (const name of 'query_to_xml cursor_to_xml table_to_xml schema_to_xml database_to_xml ts_stat ts_rewrite dblink pg_read_file lo_get lo_export pg_sleep nextval setval set_config pg_notify pg_terminate_backend pg_mcv_list_items pg_stat_get_activity'.split(
    ' ',
  )) {
    assert.ok(!READ_FUNCTIONS.has(name), name)
    assert.ok(
      effectsOfFunction(name, true).effects.some((effect) => effect !== 'read'),
      name,
    )
  }
})
