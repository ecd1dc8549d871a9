import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import type pg from 'pg'
import { Refusal } from '../../access/types.ts'
import { bind, execute, flush, sync } from './raw.fixture.ts'
import { type Rig, startRig, until } from './rig.fixture.ts'
import { sit, structured, toolsOf } from './tools/tools.fixture.ts'
import { describeMessage, parseMessage as parse } from './wire/write.ts'

/** Reads alone; changes of rows only after a human has said yes. */
const ASKS = {
  allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'read' }],
  ask: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: ['write', 'destroy', 'admin'] }],
}

let rig: Rig
before(async () => {
  rig = await startRig({ roles: [ASKS] })
})
after(() => rig.stop())
beforeEach(async () => {
  rig.state.roles = [ASKS]
  rig.records.length = 0
  rig.approvals.rows.length = 0
  await rig.admin.query("update customers set name = 'customer ' || id")
})

const nameOf = async (id: number) => (await rig.admin.query('select name from customers where id = $1', [id])).rows[0].name as string
const lastRow = () => rig.approvals.rows.at(-1)!
const asked = async (count = 1) => {
  await until(() => rig.approvals.rows.length === count && rig.approvals.waiting > 0)
  return lastRow()
}
const bound = (row = lastRow()) => JSON.parse(row.call.bound)
const shown = (title: string, row = lastRow()) => row.call.shown.find((one) => one.title === title)?.text

const UPDATE = "update customers set name = 'new' where id = 3"

test('rule 12: a statement waits for a human, runs once after the yes, and the second one is asked about anew', async () => {
  const client = await rig.connect('writer')
  const notices: pg.Client[] = []
  client.on('notice', (notice) => notices.push(notice as never))
  const first = client.query(UPDATE)
  const row = await asked()
  await until(() => notices.length === 1)
  assert.match(String((notices[0] as never as Error).message), /^Chaperone asks a human about this: UPDATE public\.customers\. Request req_1: https:/)
  assert.equal(await nameOf(3), 'customer 3')
  assert.equal(shown('statement'), UPDATE)
  assert.equal(shown('effects'), 'read, write')
  assert.equal(shown('writes'), 'public.customers')
  assert.match(shown('rows') ?? '', /^about 1, /)
  rig.approvals.approve(row)
  assert.equal((await first).rowCount, 1)
  assert.equal(await nameOf(3), 'new')
  assert.equal(row.state, 'used')
  const second = client.query(UPDATE)
  await asked(2)
  rig.approvals.deny(lastRow(), 'not again')
  await assert.rejects(second, (error: { code: string; message: string }) => error.code === '42501' && /not again/.test(error.message))
  assert.equal((await client.query('select 1 as one')).rows[0].one, 1)
  await client.end()
})

test('lines that end as on Windows are shown as lines; a carriage return that means something is written out', async () => {
  const client = await rig.connect('writer')
  const shownOf = async (text: string, count: number) => {
    const waits = client.query(text)
    const row = await asked(count)
    assert.equal(bound().text, text)
    rig.approvals.deny(row, 'no')
    await assert.rejects(waits)
    return shown('statement')
  }
  assert.equal(await shownOf(UPDATE.replace(' where', '\r\nwhere'), 1), UPDATE.replace(' where', '\nwhere'))
  assert.equal(await shownOf(UPDATE.replace("'new'", "'n\r\new'"), 2), UPDATE.replace("'new'", "'n\\u{d}\new'"))
  assert.equal(await shownOf(`${UPDATE} -- all\r or true`, 3), `${UPDATE} -- all\\u{d} or true`)
  await client.end()
})

test('the extended protocol waits too: with parameters, with a Parse that was flushed before, and prepared by name', async () => {
  const client = await rig.connect('writer')
  const query = { text: 'update customers set name = $1 where id = $2', values: ['by parameter', 4] }
  const first = client.query(query)
  const row = await asked()
  assert.equal(shown('parameters'), '$1 = "by parameter" (text)\n$2 = "4" (int4)')
  assert.deepEqual(
    bound().parameters.map(({ value }: { value: string }) => Buffer.from(value, 'base64').toString()),
    ['by parameter', '4'],
  )
  rig.approvals.approve(row)
  assert.equal((await first).rowCount, 1)
  assert.equal(await nameOf(4), 'by parameter')
  await client.end()

  const raw = await rig.raw('writer')
  raw.send(parse('', query.text), describeMessage('S', ''), flush())
  assert.equal(await raw.until('n'), '1tn')
  raw.send(bind('', '', ['after a flush', '5']), execute(''), sync())
  const second = await asked(2)
  assert.equal(await raw.until('N'), 'N')
  const { rows } = await rig.admin.query(
    "select count(*)::int as n from pg_locks l join pg_class c on c.oid = l.relation where c.relname = 'customers'",
  )
  assert.equal(rows[0].n, 0, 'no lock is held while a human thinks')
  rig.approvals.approve(second)
  assert.deepEqual(await raw.answers(), ['2', 'C:UPDATE 1', 'ZI'])
  assert.equal(await nameOf(5), 'after a flush')

  // In pieces: what was only prepared is at the server before it is known that the rest must wait.
  raw.send(parse('', "update customers set name = 'in pieces' where id = 7"))
  await until(async () => (await rig.admin.query("select 1 from pg_stat_activity where query like 'update customers%in pieces%'")).rowCount === 1)
  raw.send(bind('', ''), execute(''), sync())
  const pieces = await asked(3)
  rig.approvals.approve(pieces)
  assert.deepEqual(await raw.answers(), ['1', 'N:01000', '2', 'C:UPDATE 1', 'ZI'])
  raw.send(parse('s', query.text), sync())
  await raw.answers()
  // A Parse that fails leaves its name to another text.
  raw.send(parse('s', "update customers set name = 'never' where id = 3"))
  assert.equal((await raw.error()).get('C'), '42P05')
  raw.send(bind('', 's'), execute(''), sync())
  assert.deepEqual(await raw.answers(), ['ZI'])
  raw.send(bind('', 's', ['by name', '6']), execute(''), sync())
  const third = await asked(4)
  rig.approvals.approve(third)
  assert.deepEqual(await raw.answers(), ['N:01000', '2', 'C:UPDATE 1', 'ZI'])
  assert.equal(await nameOf(6), 'by name')
  raw.end()
})

test('what cannot wait is refused at once, says why, and asks nobody', async () => {
  const client = await rig.connect('writer')
  const refused = async (sql: string, why: RegExp) => {
    await assert.rejects(client.query(sql), (error: { code: string; message: string }) => {
      assert.equal(error.code, '42501', sql)
      assert.match(error.message, why, sql)
      return true
    })
  }
  await client.query('begin')
  await refused(UPDATE, /A transaction is open/)
  await client.query('rollback')
  await refused(`select 1; ${UPDATE}`, /It stands in one text with others/)
  await refused('copy customers from stdin', /COPY carries data/)
  await refused(`prepare p as ${UPDATE}`, /PREPARE runs nothing/)
  await refused('declare c cursor with hold for select 1', /A cursor is read in parts/)
  await refused('execute nothing_known', /What the name stands for cannot be seen/)
  for (const last of ['lastval()', "currval('orders_id_seq')"])
    await refused(`delete from orders where id = ${last}`, /stand for what this connection did last/)
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'any' }] }]
  await client.query('create temp table chosen as select 3 as id')
  // The mirror is not taken twice within a second; until it knows the table, it is a name that might be anything.
  const isKnown = async () => {
    await client.query('select id from chosen')
    return (rig.records.at(-1)!.action.facts.tables as { read: string[] }).read.some((name) => name.startsWith('pg_temp'))
  }
  while (!(await isKnown())) await new Promise((again) => setTimeout(again, 100))
  rig.state.roles = [ASKS]
  await refused('delete from orders where id in (select id from chosen)', /It goes by rows of a temporary table/)
  await client.end()

  const raw = await rig.raw('writer')
  const error = async (...messages: Buffer[]) => {
    raw.send(...messages)
    const said = await raw.error()
    assert.equal(said.get('C'), '42501')
    assert.match(await raw.until('Z'), /Z$/)
    return said.get('M') ?? ''
  }
  const whole = (sql: string) => [parse('', sql), bind('', ''), execute('')]
  assert.match(await error(...whole('select 1'), ...whole(UPDATE), sync()), /without a Sync between them/)
  assert.match(await error(...whole(UPDATE), ...whole('select 1'), sync()), /without a Sync between them/)
  assert.match(await error(...whole(UPDATE), flush(), sync()), /without a Sync between them/)
  assert.match(await error(parse('', UPDATE), bind('', ''), sync()), /bound and not run/)
  assert.match(await error(parse('', UPDATE), bind('', ''), execute(''), execute(''), sync()), /without a Sync between them/)
  raw.end()
  assert.equal(rig.approvals.rows.length, 0)
  assert.equal(await nameOf(3), 'customer 3')
})

test('a prepared statement of SQL shows what it runs', async () => {
  rig.state.roles = [
    {
      ...ASKS,
      ask: [{ postgres: 'any', databases: ['shop'], as: ['writer'], statements: ['execute'] }],
      allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'any' }],
    },
  ]
  const client = await rig.connect('writer')
  await client.query('prepare p as update customers set name = $1 where id = 9')
  const run = client.query("execute p('nine')")
  const row = await asked()
  assert.equal(shown('it runs'), 'prepare p as update customers set name = $1 where id = 9')
  assert.equal(shown('writes'), 'public.customers')
  rig.approvals.approve(row)
  await run
  assert.equal(await nameOf(9), 'nine')
  await client.end()
})

test('rule 12: what is bound: the same words under anything else are another question', async () => {
  await rig.admin.query(
    'create schema if not exists other; create table if not exists other.customers (id int, name text); grant all on schema other to writer; grant all on other.customers to writer',
  )
  const questions: Record<string, unknown>[] = []
  const ask = async (prepare: readonly string[], text: string | { text: string; values: unknown[] } = UPDATE) => {
    const before = rig.approvals.rows.length
    rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'any' }] }]
    const client = await rig.connect('writer')
    for (const sql of prepare) await client.query(sql)
    rig.state.roles = [ASKS]
    const waits = client.query(text as string).catch(() => {})
    await until(() => rig.approvals.waiting === 1)
    const isNew = rig.approvals.rows.length > before
    if (isNew) questions.push(bound())
    await client.end()
    await waits
    await until(() => rig.approvals.waiting === 0)
    return isNew
  }
  assert.equal(await ask([]), true)
  assert.equal(await ask([]), false, 'another connection is no other question')
  assert.equal(await ask([], `${UPDATE} `), true, 'a byte of the text')
  assert.equal(await ask(['set search_path = other, public']), true)
  assert.equal(await ask(["set app.tenant = '7'"]), true)
  assert.equal(await ask(["set app.tenant = '8'"]), true)
  assert.equal(await ask(["select set_config('app.tenant', '8', false)"]), false, 'however it was set')
  assert.equal(await ask(["set timezone = 'Asia/Tokyo'"]), true)
  assert.equal(await ask(["set timezone = 'Asia/Tokyo'", 'reset timezone']), false)
  assert.equal(await ask(["set application_name = 'nightly'"]), true, 'a trigger may read it')
  assert.equal(await ask(['select touch()']), true, 'what ran unseen')
  assert.equal(await ask(['create temp table customers (id int, name text)']), true)
  const values = { text: 'update customers set name = $1 where id = 3', values: ['a'] }
  assert.equal(await ask([], values), true)
  assert.equal(await ask([], { ...values, values: ['b'] }), true)
  assert.equal(await ask([], { ...values, values: [null] }), true)
  assert.deepEqual(new Set(questions.map((one) => JSON.stringify(one))).size, questions.length)
  await rig.admin.query('drop schema other cascade')
})

test('rule 12: code that was replaced between the yes and the run makes it another question, however deep it lies', async () => {
  await rig.admin.query(`
    create function inner_one() returns text language plpgsql as $$ begin return 'before'; end $$;
    create function outer_one() returns trigger language plpgsql as $$ begin perform inner_one(); return new; end $$;
    create table coded (id int primary key, name text default inner_one());
    create table triggered (id int);
    create trigger outer_one before insert on triggered for each row execute function outer_one();
    create table far_away (id int);
    create function told_too() returns trigger language plpgsql as $$ begin return new; end $$;
    grant all on coded, triggered to writer`)
  const ask = async (sql: string) => {
    const before = rig.approvals.rows.length
    const client = await rig.connect('writer')
    const waits = client.query(sql).catch(() => {})
    await until(() => rig.approvals.waiting === 1)
    await client.end()
    await waits
    await until(() => rig.approvals.waiting === 0)
    return rig.approvals.rows.length > before
  }
  const statements = ['insert into coded (id) values (1)', 'insert into triggered values (1)']
  for (const sql of statements) {
    assert.equal(await ask(sql), true, sql)
    assert.equal(await ask(sql), false, sql)
  }
  await rig.admin.query("create or replace function inner_one() returns text language plpgsql as $$ begin return 'after'; end $$")
  for (const sql of statements) assert.equal(await ask(sql), true, sql)
  // Code may write to any table, and so run what hangs on that one.
  for (const change of [
    'create trigger far before insert on far_away for each row execute function told_too()',
    'alter table far_away disable trigger far',
    'create rule far as on insert to far_away do also select 1',
    'create policy far on far_away using (true)',
  ]) {
    await rig.admin.query(change)
    for (const sql of statements) assert.equal(await ask(sql), true, `${change}: ${sql}`)
  }
  // What no code is in is not asked about anew with every view that somebody makes.
  await rig.admin.query('create view far_view as select * from far_away')
  for (const sql of statements) assert.equal(await ask(sql), false, sql)
  await rig.admin.query('drop view far_view; drop table coded, triggered, far_away; drop function outer_one, inner_one, told_too')
})

test('the rows are estimated only where planning runs nothing of the user’s, and nothing can be changed by it', async () => {
  const said = async (sql: string) => {
    const count = rig.approvals.rows.length
    const client = await rig.connect('writer')
    const waits = client.query(sql).catch(() => {})
    await asked(count + 1)
    await client.end()
    await waits
    await until(() => rig.approvals.waiting === 0)
    return shown('rows')
  }
  await rig.admin.query('delete from touched')
  await rig.admin.query("create function told(c int) returns int language plpgsql immutable as $$ begin raise exception 'it ran'; end $$")
  assert.match((await said('delete from orders')) ?? '', /^about \d+, /)
  assert.match((await said('with gone as (delete from orders where id < 5 returning id) select * from gone')) ?? '', /^about \d+, /)
  assert.equal(
    await said('update customers set name = name where id = told(3)'),
    "no estimate: planning it could run functions of the database's own",
  )
  assert.equal(await said('update customers set name = touch()::text'), "no estimate: planning it could run functions of the database's own")
  assert.equal((await rig.admin.query('select count(*)::int as n from touched')).rows[0].n, 0)
  await rig.admin.query('begin; lock table orders in access exclusive mode')
  const client = await rig.connect('writer')
  const waits = client.query('delete from orders where id = 1').catch(() => {})
  const count = rig.approvals.rows.length
  await until(() => rig.approvals.rows.length === count + 1)
  await rig.admin.query('rollback')
  assert.match(shown('rows') ?? '', /^no estimate: /)
  await client.end()
  await waits
  await rig.admin.query('drop function told')
})

test('what cannot be seen in a text is written out for the approver, and what runs is the text', async () => {
  const client = await rig.connect('writer')
  const waits = client.query("update customers set name = 'a\u202eb' where id = 3")
  const row = await asked()
  assert.equal(shown('statement'), "update customers set name = 'a\\u{202e}b' where id = 3")
  assert.match(shown('note') ?? '', /cannot be seen/)
  rig.approvals.approve(row)
  await waits
  assert.equal(await nameOf(3), 'a\u202eb')
  await client.end()
})

test('the tool of a database does not wait itself: whoever called it gets the question, and the same call runs once after the yes', async () => {
  const desk = sit(toolsOf(rig, { users: ['writer'] }))
  const call = () => desk.call('query', { sql: 'update customers set name = $1 where id = 3', params: ['by tool'] })
  const parked = async () => {
    const refusal = await call().catch((error: unknown) => error)
    assert.ok(refusal instanceof Refusal, String(refusal))
    return refusal.parked
  }
  const connections = () => rig.records.filter(({ action }) => action.operation === 'connect').length
  const before = connections()
  assert.equal((await parked())?.url, `https://chaperone.test/requests/${lastRow().id}`)
  assert.equal((await parked())?.request, lastRow().id)
  rig.approvals.approve(lastRow())
  assert.equal(structured(await call()).command, 'UPDATE 1')
  assert.equal(await nameOf(3), 'by tool')
  assert.equal(connections(), before + 1, 'a statement that was not sent leaves nothing on its connection')
  const rows = rig.approvals.rows.length
  await parked()
  assert.equal(rig.approvals.rows.length, rows + 1)
  await desk.seat.end()
})
