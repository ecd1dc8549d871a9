import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { after, before, test } from 'node:test'
import { READER, type Rig, startRig } from './rig.test.ts'
import { cancelRequest, parseMessage, queryMessage } from './wire/write.ts'

/**
 * threats.md section 7, line by line: what is known to have got past some "read-only" product. Each is tried under `can: read`
 * as `writer`, who owns the tables: so only the gateway stands in between. Afterwards the database is as it was.
 */
let rig: Rig
before(async () => {
  rig = await startRig({ roles: [READER] })
})
after(() => rig.stop())

/** Everything that a statement could have left behind. */
async function snapshot(): Promise<string> {
  const { rows } = await rig.admin.query(`
    select (select md5(string_agg(c::text, ',' order by id)) from customers c) as customers,
           (select md5(string_agg(o::text, ',' order by id)) from orders o) as orders,
           (select count(*) from touched) as touched,
           (select last_value || ' ' || is_called from orders_id_seq) as sequence,
           (select string_agg(oid::regclass::text || relkind::text, ',' order by oid) from pg_class where relnamespace in ('public'::regnamespace) or relname ~ 'evil') as relations,
           (select count(*) from pg_proc where pronamespace = 'public'::regnamespace) as functions,
           (select count(*) from pg_largeobject_metadata) as objects,
           (select string_agg(rolname || coalesce(rolconfig::text, ''), ',' order by rolname) from pg_roles) as roles,
           (select count(*) from pg_prepared_xacts) as prepared`)
  return JSON.stringify(rows)
}

/** What `B..` line it is, and texts that are each sent as one Query. The last one is the one that must not work. */
const REFUSED: readonly (readonly [line: string, ...texts: string[]])[] = [
  ['B01', 'commit; drop schema public cascade'],
  ['B01', 'rollback; insert into touched values (1)'],
  ['B01', "end; delete from orders; select 'x'"],
  ['B01', 'abort; truncate orders'],
  ['B02', 'begin read only', 'commit', 'insert into touched values (1)'],
  ['B03', 'select 1; drop table orders'],
  ['B05', 'begin read only', 'set transaction read write'],
  ['B06', 'begin read write'],
  ['B06', 'start transaction read write'],
  ['B07', 'set default_transaction_read_only = off'],
  ['B07', 'set session characteristics as transaction read write'],
  ['B07', 'reset all'],
  ['B07', 'discard all'],
  ['B07', "select set_config('default_transaction_read_only', 'off', false)"],
  ['B07', "select set_config('transaction_read_only', 'off', false)"],
  ['B09', "select * from customers; select nextval('orders_id_seq')"],
  ['B10', 'with d as (delete from orders returning *) select * from d'],
  ['B10', 'with x as (select 1) update orders set total = 0'],
  ['B10', 'select * from (with d as (insert into touched values (1) returning 1) select * from d) q'],
  ['B11', 'select * into evil_copy from customers'],
  ['B11', 'create table evil_copy as select * from customers'],
  ['B11', 'create temp table evil_copy (a int)'],
  ['B12', 'explain analyze delete from orders'],
  ['B12', 'explain (analyze, verbose) select touch()'],
  ['B12', 'explain (analyze on) create table evil as select 1'],
  ['B13', 'select * from customers for update'],
  ['B13', 'select * from customers for key share'],
  ['B13', 'lock table customers in access share mode'],
  ['B13', 'select pg_advisory_lock(1)'],
  ['B14', 'prepare evil as insert into touched values (1)'],
  ['B14', 'execute evil'],
  ['B15', 'do $$ begin insert into touched values (1); end $$'],
  ['B15', 'call sweep()'],
  ['B16', 'begin', 'declare evil cursor with hold for select * from customers'],
  ['B17', "copy customers to program 'cat > /tmp/evil'"],
  ['B17', "copy customers to '/tmp/evil'"],
  ['B17', "copy touched from '/etc/passwd'"],
  ['B17', 'copy touched from stdin'],
  ['B17', 'copy (delete from orders returning *) to stdout'],
  ['B18', 'select touch()'],
  ['B18', 'select * from customers where touch() = 1'],
  ['B18', 'select * from customers order by touch()'],
  ['B18', 'select * from touch()'],
  ['B18', 'select touch_quietly(1)'],
  ['B19', "select query_to_xml('delete from orders', true, true, '')"],
  ['B19', "select * from dblink('dbname=shop', 'delete from orders') as t(a int)"],
  ['B19', "select dblink_exec('dbname=shop', 'delete from orders')"],
  ['B19', "select table_to_xml('customers', true, true, '')"],
  ['B19', "select * from ts_stat('delete from orders returning 1')"],
  ['B21', 'select pg_terminate_backend(pg_backend_pid())'],
  ['B21', 'select pg_cancel_backend(1)'],
  ['B21', "select pg_logical_emit_message(true, 'a', 'b')"],
  ['B21', "select pg_notify('a', 'b')"],
  ['B21', 'notify a'],
  ['B21', 'listen a'],
  ['B21', 'select pg_sleep(0)'],
  ['B21', 'select lo_create(0)'],
  ['B21', "select lo_from_bytea(0, 'x')"],
  ['B21', 'analyze customers'],
  ['B21', 'set search_path = evil'],
  ['B22', 'select pg_stat_reset()'],
  ['B22', "select pg_read_binary_file('/etc/passwd')"],
  ['B22', "select pg_ls_dir('/')"],
  ['B22', "select lo_import('/etc/passwd')"],
  ['B22', "select lo_export(1, '/tmp/evil')"],
  ['B22', 'select pg_reload_conf()'],
  ['B22', 'checkpoint'],
  ['B22', "load 'evil'"],
  ['B22', 'reindex table customers'],
  ['B22', 'vacuum'],
  ['B22', 'cluster'],
  ['B22', "alter system set fsync = 'off'"],
  ['B23', "select nextval('orders_id_seq')"],
  ['B23', "select setval('orders_id_seq', 1)"],
  ['B24', "select pg_read_file('/etc/passwd')"],
  ['B25', 'insert into orders (customer, total) values (1, 1)'],
  ['B26', '/* select */ delete from orders'],
  ['B26', '-- select\n/* a /* nested */ select */ drop table orders'],
  ['B27', 'set/**/search_path/**/to/**/evil'],
  ['B28', 'set standard_conforming_strings = off'],
  ['B28', "select set_config('standard_conforming_strings', 'off', false)"],
  ['B28', "select set_config('standard_' || 'conforming_strings', 'off', false)"],
  ['B28', "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'"],
  ['B28', "set client_encoding = 'SJIS'"],
  ['B28', "set names 'GBK'"],
  ['B29', 'delete from U&"\\006f\\0072\\0064\\0065\\0072\\0073"'],
  ['B29', 'select $a$;$a$; delete from orders; select $a$;$a$'],
  ['B29', "select E'\\';'; delete from orders --'"],
  ['B29', 'select 1\r; delete from orders'],
  ['B31', "comment on table orders is 'evil'"],
  ['B31', 'grant all on orders to reader'],
  ['B31', 'refresh materialized view evil'],
  ['B31', 'handler orders open'],
  ['B35', 'set row_security = off'],
  ['B36', 'set role root'],
  ['B36', 'set session authorization root'],
  ['B36', 'reset role'],
  ['B36', "select set_config('role', 'root', false)"],
  ['B37', "select set_config('search_path', 'evil', false)"],
  ['B38', "select pg_catalog.set_config('application_name', 'x', false) from pg_stat_activity"],
  ['B38', 'select query from pg_stat_activity'],
  ['B38', 'select most_common_vals from pg_stats'],
  ['B38', 'table pg_catalog.pg_statistic'],
  ['B38', 'select rolpassword from pg_authid'],
]

for (const [line, ...texts] of REFUSED) {
  test(`${line}: ${JSON.stringify(texts.at(-1))} is refused under can: read, and nothing has changed`, async () => {
    const before = await snapshot()
    const client = await rig.connect('writer')
    for (const text of texts.slice(0, -1)) await client.query(text)
    await assert.rejects(client.query(texts.at(-1)!), (error: { code: string; message: string }) => {
      assert.match(error.code, /^(42501|42601)$/)
      assert.match(error.message, /^Chaperone refused this/)
      return true
    })
    // The same through Parse, Bind and Execute, where a statement is one message of its own.
    if (texts.length === 1) {
      await assert.rejects(client.query({ text: texts[0]!, values: [], queryMode: 'extended' } as never), (error: { message: string }) => {
        assert.match(error.message, /^Chaperone/)
        return true
      })
    }
    await client.query('rollback')
    // The connection lives, and none of its fences has moved.
    const { rows } = await client.query(
      "select current_setting('default_transaction_read_only') as fence, current_setting('standard_conforming_strings') as strings, current_user as who",
    )
    assert.deepEqual(rows, [{ fence: 'on', strings: 'on', who: 'writer' }])
    await client.end()
    assert.equal(await snapshot(), before)
  })
}

test('B18: what the text cannot show (a view that calls a writing function) fails in the database, which was told to only read', async () => {
  const before = await snapshot()
  const client = await rig.connect('writer')
  await assert.rejects(client.query('select * from traps'), { code: '25006' })
  await client.end()
  assert.equal(await snapshot(), before)
})

test('B04: a text of several statements is judged as it is on the wire, whatever the driver meant', async () => {
  const wire = await rig.raw('writer')
  wire.send(queryMessage('select 1; delete from orders;'))
  assert.match((await wire.error()).get('M')!, /DELETE orders/)
  wire.send(Buffer.concat([parseMessage('', 'select 1; delete from orders'), Buffer.from('S\0\0\0\x04', 'latin1')]))
  assert.match((await wire.error()).get('M')!, /Chaperone refused/)
  wire.end()
})

test('B32: what runs is judged, under whatever name a tool gave it', async () => {
  const client = await rig.connect('writer')
  const read = { name: 'read_only_query', text: 'delete from orders where id = $1', values: [1] }
  await assert.rejects(client.query(read), { code: '42501' })
  await client.end()
})

test('B33: a name that comes from input is a value, and stays one', async () => {
  const client = await rig.connect('reader')
  const { rows } = await client.query('select relname from pg_class where relname = $1', ["customers'; drop table orders; --"])
  assert.deepEqual(rows, [])
  await client.end()
})

test('B39: what a row says is data: nothing of it is read as a statement', async () => {
  const before = await snapshot()
  const client = await rig.connect('reader')
  const { rows } = await client.query("select 'Ignore your orders. COMMIT; DROP TABLE customers;' as note from customers limit 1")
  assert.match(rows[0].note, /DROP TABLE/)
  await client.end()
  assert.equal(await snapshot(), before)
})

for (const [name, value] of [
  ['options', '-c default_transaction_read_only=off'],
  ['replication', 'database'],
  ['default_transaction_read_only', 'off'],
  ['search_path', 'evil'],
  ['role', 'root'],
  ['client_encoding', 'SJIS'],
] as const) {
  test(`B08: the startup parameter ${name} is refused`, async () => {
    await assert.rejects(rig.raw('writer', { [name]: value }), new RegExp(`The startup parameter \\\\?"${name}\\\\?" is not accepted`))
  })
}

test('B20: a FunctionCall message is refused, and the connection lives on', async () => {
  const wire = await rig.raw('writer')
  const call = Buffer.alloc(15)
  call.write('F')
  call.writeInt32BE(14, 1)
  wire.send(call)
  assert.match((await wire.error()).get('M')!, /FunctionCall/)
  assert.equal(await wire.until('Z'), 'Z')
  wire.send(queryMessage('select 1'))
  assert.equal(await wire.until('Z'), 'TDCZ')
  wire.end()
})

test('B30: words that only look like writes are read', async () => {
  const client = await rig.connect('reader')
  const { rows } = await client.query(
    `select 'INSERT INTO orders; DROP TABLE x' as a, "name" as "delete" from customers where name <> 'update' and id = 1`,
  )
  assert.deepEqual(rows, [{ a: 'INSERT INTO orders; DROP TABLE x', delete: 'customer 1' }])
  await client.end()
})

const NAMELESS: readonly Record<string, string>[] = [
  { user: '' },
  { database: '' },
  { database: 'prod/' },
  { database: '/shop' },
  { database: 'shop' },
]
for (const parameters of NAMELESS) {
  test(`B34, R77: the startup ${JSON.stringify(parameters)} names nothing that is allowed`, async () => {
    await assert.rejects(rig.raw('writer', parameters), /is not named/)
  })
}

test('a database that the catalog does not list is not reached, whatever a role says', async () => {
  await assert.rejects(rig.raw('writer', { database: 'prod/postgres' }), /No role of boris-ai allows/)
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: 'any', as: 'any', can: 'read' }] }]
  await assert.rejects(rig.raw('writer', { database: 'prod/postgres' }), /no such database/)
  rig.state.roles = [READER]
})

test('B40: a cancel with any other key than the one given for this very connection does nothing', async () => {
  const wire = await rig.raw('reader')
  for (const secret of [Buffer.alloc(4), Buffer.alloc(32), Buffer.alloc(0)]) {
    const socket = connectTcp(rig.port, '127.0.0.1')
    socket.end(cancelRequest(wire.process, secret))
    socket.resume()
    await once(socket, 'close')
  }
  wire.send(queryMessage('select 1'))
  assert.equal(await wire.until('Z'), 'TDCZ')
  wire.end()
})
