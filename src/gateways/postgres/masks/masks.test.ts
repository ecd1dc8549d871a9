import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import type pg from 'pg'
import { bind, execute, message, sync } from '../raw.fixture.ts'
import { type Rig, startRig } from '../rig.fixture.ts'
import { readDataRow } from '../wire/server.ts'
import { parseMessage, queryMessage } from '../wire/write.ts'
import type { Mask } from './types.ts'

let rig: Rig
const roleOf = (mask: Mask, more: Record<string, unknown> = {}) => ({
  allow: [{ postgres: 'any', databases: ['shop'], as: ['reader', 'writer'], can: ['read', 'write', 'destroy'], mask, ...more }],
})
const LAST4 = roleOf({ 'public.customers.email': 'last4' })

before(async () => {
  rig = await startRig()
  await rig.admin.query(`
    create view contacts as select id, email as address from customers where id < 4;
    create table secrets (id int primary key, code int, word text unique, check (length(word) > 2));
    insert into secrets select i, i * 100, 'word ' || i from generate_series(1, 3) i;
    alter table secrets owner to writer; grant select on contacts, secrets to reader, writer;
    create table watched (id int, email text); alter table watched owner to writer;
    create function shout() returns trigger language plpgsql as $$ begin raise notice 'this is %', old.email; return new; end $$;
    create trigger shout before update on watched for each row execute function shout()`)
})
after(() => rig.stop())
beforeEach(() => {
  rig.state.roles = [LAST4]
  rig.records.length = 0
})

const message42501 = (pattern: RegExp) => (error: pg.DatabaseError) => {
  assert.equal(error.code, '42501', error.message)
  assert.match(error.message, pattern)
  return true
}

test('a hidden column is hidden in SELECT *, by name, through views, cursors and prepared statements', async () => {
  const client = await rig.connect('reader')
  const emails = async (sql: string, values?: unknown[]) => {
    const { rows, fields } = await client.query(sql, values)
    return rows.map((row) => row[fields.find(({ name }) => /email|address/.test(name))!.name])
  }
  const hidden = ['**********.org', '**********.org', '**********.org']
  assert.deepEqual(await emails('select * from customers where id < 4 order by id'), hidden)
  assert.deepEqual(await emails('select name, email from customers where id < $1 order by id', [4]), hidden)
  assert.deepEqual(await emails('select * from contacts'), hidden)
  assert.deepEqual(await emails('with c as (select * from customers) select * from c where id < 4'), hidden)
  await client.query('begin')
  await client.query('declare c cursor for select id, email from customers where id < 4')
  assert.deepEqual(await emails('fetch all from c'), hidden)
  await client.query('commit')
  await client.query('prepare p (int) as select email from customers where id < $1 order by id')
  assert.deepEqual(await emails('execute p (4)'), hidden)
  const { rows } = await client.query({ text: 'select name, email, id from customers where id = 1', rowMode: 'array' })
  assert.deepEqual(rows, [['customer 1', '**********.org', 1]])
  await client.end()
  assert.ok(rig.records.every(({ outcome }) => outcome?.status === 'ok'))
  assert.equal(rig.records.find(({ action }) => action.operation === 'select')?.outcome?.facts?.masked, 1)
})

test('each form, in text and in binary, and NULL for what is no text', async () => {
  rig.state.roles = [roleOf({ 'public.customers.email': 'hash', 'public.customers.name': 'fixed', 'public.customers.id': 'last4' })]
  const client = await rig.connect('reader')
  const text = await client.query({ text: 'select id, name, email from customers limit 1', rowMode: 'array' })
  const binary = await client.query({ text: 'select id, name, email from customers limit 1', rowMode: 'array', binary: true } as pg.QueryArrayConfig)
  assert.deepEqual(text.rows[0]!.slice(0, 2), [null, '***'])
  assert.match(text.rows[0]![2], /^[0-9a-f]{32}$/)
  assert.deepEqual(text.rows.map(String), binary.rows.map(String))
  await client.end()
})

test('what would tell is refused before the database sees it, and the record says so', async () => {
  rig.state.roles = [roleOf({ 'public.customers.email': 'last4' }, { can: 'any' })]
  const client = await rig.connect('reader')
  for (const [sql, why] of [
    ["select id from customers where email like 'c1%'", /used in WHERE/],
    ['select upper(email) from customers', /expression/],
    ['select * from pg_stats', /pg_stats/],
    ['create view v as select email from customers', /definitions/],
    ['copy customers to stdout', /COPY/],
    ['explain analyze select * from customers', /EXPLAIN/],
  ] as const) {
    await assert.rejects(client.query(sql), message42501(why), sql)
  }
  assert.deepEqual(
    new Set(rig.records.slice(1).map(({ outcome }) => JSON.stringify(outcome?.facts))),
    new Set(['{"sent":false,"reason":"obligation_unsupported"}']),
  )
  assert.equal((await client.query('select count(*) from customers')).rows[0].count, '50')
  await client.end()
})

test('a client that has rows sent without a description gets none of a masked statement, and is told', async () => {
  const raw = await rig.raw('reader')
  const sql = parseMessage('', 'select email from customers')
  raw.send(sql, bind('', ''), message('D', Buffer.from('P\0')), execute('', 1), execute('', 1), sync())
  const rows: string[] = []
  for (let frame = await raw.next(); String.fromCharCode(frame[0]!) !== 'Z'; frame = await raw.next()) {
    if (frame[0] === 'D'.charCodeAt(0)) rows.push(...(readDataRow(frame) as string[]))
  }
  assert.deepEqual(rows, ['**********.org', '**********.org'])
  raw.send(parseMessage('s', 'select email from customers'), message('D', Buffer.from('Ss\0')), sync())
  await raw.until('Z')
  raw.send(bind('', 's'), execute('', 1), sync())
  assert.match(await raw.until('Z'), /2D/)
  raw.send(sql, bind('', ''), execute('', 1), sync())
  const error = await raw.error()
  assert.match(error.get('M')!, /would have shown/)
  await assert.rejects(raw.next())
  assert.equal(rig.records.at(-1)?.outcome?.facts?.reason, 'obligation_unsupported')
})

test('errors say their code, and no value of a row; what the text itself says wrong is said in full', async () => {
  rig.state.roles = [roleOf({ 'public.secrets.code': 'null' })]
  const client = await rig.connect('writer')
  const failed = async (sql: string) => {
    const error: pg.DatabaseError = await client.query(sql).then(
      () => assert.fail('it passed'),
      (error) => error,
    )
    return error
  }
  const check = await failed("update secrets set word = 'x' where id = 1")
  assert.deepEqual([check.code, check.detail], ['23514', undefined])
  const cast = await failed('select word::int from secrets')
  assert.deepEqual([cast.code, /word 1/.test(JSON.stringify(cast) + cast.message)], ['22P02', false])
  assert.match((await failed("select id from secrets where id = 'abc'")).message, /"abc"/)
  assert.match((await failed('select nothing from orders')).message, /nothing/)
  const other = await failed('insert into orders (id, total) values (1, 1)')
  assert.deepEqual([other.code, /already exists/.test(other.detail ?? '')], ['23505', true])
  await client.end()
})

test('a trigger could say what is hidden, so writing to its table is refused', async () => {
  rig.state.roles = [roleOf({ 'public.watched.email': 'null' })]
  const client = await rig.connect('writer')
  await assert.rejects(client.query('update watched set id = 1'), message42501(/trigger/))
  await client.end()
})

test('a mask whose column is gone closes the table, and one that names no table is in the record', async () => {
  rig.state.roles = [roleOf({ 'public.customers.mail': 'null', 'public.custmers.email': 'null' })]
  const client = await rig.connect('reader')
  await assert.rejects(client.query('select id from customers'), message42501(/public\.customers\.mail/))
  await client.query('select 1')
  assert.deepEqual(rig.records.at(-1)?.outcome?.facts?.mask_unknown, ['public.custmers.email'])
  await client.end()
})

test('several statements in one text are hidden each in its own way, and all refused if one is', async () => {
  const raw = await rig.raw('reader')
  raw.send(
    queryMessage('select id, email from customers where id = 1; select email from customers where id = 2; select total from orders where id = 1'),
  )
  assert.deepEqual(
    (await raw.answers()).filter((said) => said.startsWith('D')).map((said) => said.slice(-14)),
    ['**********.org', '**********.org', '1.5'].map((end, i) => (i < 2 ? end : 'D:1.5')),
  )
  raw.send(queryMessage("select email from customers where id = 1; select 1 from customers where email = 'x'"))
  assert.deepEqual(await raw.answers(), ['E:42501', 'ZI'])
  raw.end()
})
