import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { after, before, beforeEach, test } from 'node:test'
import { bind, close, execute, message, type RawClient, sync } from './raw.fixture.ts'
import { ANYTHING, type Rig, startRig, WRITER } from './rig.fixture.ts'
import { parseMessage as parse, queryMessage as query } from './wire/write.ts'

/** Names that move while a connection is open: where tables are looked for, and what was prepared under a name. */
let rig: Rig
before(async () => {
  rig = await startRig()
  await rig.admin.query(SCHEMA)
})
const SCHEMA = `
    create schema app authorization writer; create table app.customers (id int); insert into app.customers values (1), (2), (3);
    create function app.run(sql text) returns void language plpgsql as $$ begin execute sql; end $$;
    grant usage on schema app to reader; grant select on app.customers to reader, writer`
after(() => rig.stop())
beforeEach(() => {
  rig.records.length = 0
})

const statements = () => rig.records.filter((record) => record.action.operation !== 'connect')
const only = (tables: string[], more = {}) => ({
  allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: ['read', 'write'], tables, ...more }],
})

async function as(user: string, role: Record<string, unknown>, work: (raw: RawClient, ask: (sql: string) => Promise<string>) => Promise<void>) {
  rig.state.roles = [role]
  const raw = await rig.raw(user)
  await work(raw, async (sql) => {
    raw.send(query(sql))
    return (await raw.answers()).join(' ')
  })
  raw.end()
}

const COUNT = 'select count(*) from customers'
const REFUSED = 'E:42501 ZI'

test('rule 2: once the search path is moved, the server is asked where names lead, and rules speak of that', () =>
  as('writer', only(['public.*']), async (raw, ask) => {
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZI')
    assert.equal(await ask('set search_path = app, public'), 'C:SET ZI')
    assert.equal(await ask(COUNT), REFUSED)
    assert.equal(await ask('select count(*) from orders'), 'D:200 C:SELECT 1 ZI')
    assert.equal(await ask('select count(*) from public.customers'), 'D:50 C:SELECT 1 ZI')
    assert.equal(await ask('reset search_path'), 'C:RESET ZI')
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZI')
    // The extended protocol, and what was prepared before the path was moved.
    raw.send(parse('s', COUNT), sync(), query("select set_config('search_path', 'app', false)"), bind('', 's'), execute(''), sync())
    assert.deepEqual((await raw.answers(3)).slice(-2), ['E:42501', 'ZI'])
    raw.send(query('set search_path = public'), bind('', 's'), execute(''), sync())
    assert.deepEqual((await raw.answers(2)).slice(-3), ['D:50', 'C:SELECT 1', 'ZI'])
  }))

const takesBack = () =>
  as('writer', only(['public.*']), async (_, ask) => {
    assert.equal(await ask('begin'), 'C:BEGIN ZT')
    assert.equal(await ask('set local search_path = app'), 'C:SET ZT')
    assert.equal(await ask('savepoint a'), 'C:SAVEPOINT ZT')
    assert.equal(await ask('set search_path = public'), 'C:SET ZT')
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZT')
    assert.equal(await ask('rollback to a'), 'C:ROLLBACK ZT')
    assert.equal(await ask(COUNT), 'E:42501 ZE')
    assert.equal(await ask('rollback'), 'C:ROLLBACK ZI')
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZI')
    assert.equal(await ask('begin; set local search_path = app'), 'C:BEGIN C:SET ZT')
    assert.equal(await ask('commit'), 'C:COMMIT ZI')
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZI')
    assert.equal(await ask('begin; set search_path = app; rollback'), 'C:BEGIN C:SET C:ROLLBACK ZI')
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZI')
    // A failing implicit transaction takes back what it had set.
    assert.equal(await ask('set search_path = app; select 1 / 0'), 'C:SET E:22012 ZI')
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZI')
  })

test('rule 2: what a transaction or a savepoint takes back is followed', takesBack)

// PostgreSQL 18 reports search_path whenever it moves; what follows it without that is only seen on an older one.
const debian = '/usr/lib/postgresql'
const older = (existsSync(debian) ? readdirSync(debian) : []).find((version) => Number(version) < 18 && existsSync(`${debian}/${version}/bin/initdb`))
test('rule 2: the same where the server does not report search_path', {
  skip: older === undefined && 'no older PostgreSQL is installed',
}, async () => {
  const newest = rig
  rig = await startRig({ binaries: `${debian}/${older}` })
  try {
    await rig.admin.query(SCHEMA)
    await takesBack()
  } finally {
    await rig.stop()
    rig = newest
  }
})

test('rule 2: in one text, or one batch without a Sync, names behind a move match no rule on tables', () =>
  as('writer', only(['public.*']), async (raw, ask) => {
    assert.equal(await ask(`set search_path = app; ${COUNT}`), REFUSED)
    raw.send(parse('', 'set search_path = app'), bind('', ''), execute(''), parse('', COUNT), bind('', ''), execute(''), sync())
    assert.deepEqual((await raw.answers()).slice(-2), ['E:42501', 'ZI'])
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZI')
  }))

test('rule 2: temporary tables, roles and new schemas move names as well', () =>
  as('root', ANYTHING, async (_, ask) => {
    const guarded = async (sql: string) => {
      rig.state.guardrails = [{ deny: [{ postgres: 'any', tables: ['app.*'] }] }]
      const said = await ask(sql)
      rig.state.guardrails = []
      return said
    }
    assert.equal(await ask('set search_path = "$user", public'), 'C:SET ZI')
    assert.equal(await guarded(COUNT), 'D:50 C:SELECT 1 ZI')
    assert.equal(await ask('create schema root; create view root.customers as select id from app.customers'), 'C:CREATE SCHEMA C:CREATE VIEW ZI')
    assert.equal(await ask(COUNT), 'D:3 C:SELECT 1 ZI')
    assert.equal(await ask('drop schema root cascade'), 'N:00000 C:DROP SCHEMA ZI')
    assert.equal(await ask('set role writer'), 'C:SET ZI')
    assert.equal(await ask('reset role'), 'C:RESET ZI')
    assert.equal(await ask('create temp table customers as select 1'), 'C:SELECT 1 ZI')
    assert.equal(await ask(COUNT), 'D:1 C:SELECT 1 ZI')
    const path = statements().at(-1)!.action.facts.path as string[]
    assert.match(path[0]!, /^pg_temp_\d+$/)
    assert.equal(await ask('discard all'), 'C:DISCARD ALL ZI')
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZI')
  }))

test('rule 10: the question about names leaves the unnamed statement and portal of the client alone', () =>
  as('writer', ANYTHING, async (raw, ask) => {
    assert.equal(await ask('begin'), 'C:BEGIN ZT')
    raw.send(parse('', 'select id from customers order by id'), bind('', ''), execute('', 1), parse('m', 'set search_path = app, public'), sync())
    assert.deepEqual(await raw.answers(), ['1', '2', 'D:1', 's', '1', 'ZT'])
    raw.send(bind('m', 'm'), execute('m'), sync())
    assert.deepEqual(await raw.answers(), ['2', 'C:SET', 'ZT'])
    raw.send(execute('', 1), sync(), parse('', 'select 1'), sync())
    assert.deepEqual(await raw.answers(2), ['D:2', 's', 'ZT', '1', 'ZT'])
    assert.equal(await ask('rollback'), 'C:ROLLBACK ZI')
  }))

test('an aborted transaction is not asked, and goes on after its ROLLBACK', () =>
  as('writer', only(['public.*', 'app.*']), async (_, ask) => {
    assert.equal(await ask('begin; set local search_path = app; select 1 / 0'), 'C:BEGIN C:SET E:22012 ZE')
    assert.equal(await ask('select 1'), 'E:25P02 ZE')
    assert.equal(await ask('rollback'), 'C:ROLLBACK ZI')
    assert.equal(await ask(COUNT), 'D:50 C:SELECT 1 ZI')
  }))

test('rule 2: a cursor that nobody here has seen declared may read anything', () =>
  as('reader', { allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: 'read' }] }, async (_, ask) => {
    assert.equal(await ask('begin'), 'C:BEGIN ZT')
    assert.equal(await ask('fetch all from opened_elsewhere'), 'E:42501 ZE')
  }))

test('rule 2: SQL PREPARE is judged as what it prepares, and EXECUTE again as what it executes', () =>
  as('writer', only(['public.*']), async (_, ask) => {
    assert.equal(await ask(`prepare c(int) as select count(*) from customers where id > $1`), 'C:PREPARE ZI')
    assert.equal(await ask('execute c(20)'), 'D:30 C:SELECT 1 ZI')
    const [prepared, ran] = statements()
    assert.deepEqual(prepared!.action.facts.statements, ['prepare', 'select'])
    assert.deepEqual(ran!.action.facts.statements, ['execute', 'select'])
    assert.deepEqual((ran!.action.facts.tables as { read: string[] }).read.length, 1)
    rig.state.roles = [only(['public.orders'])]
    assert.equal(await ask('execute c(20)'), REFUSED)
    assert.equal(await ask('explain analyze execute c(20)'), REFUSED)
    assert.equal(await ask('create temp table x as execute c(20)'), REFUSED)
    assert.equal(await ask('prepare d as delete from customers'), REFUSED)
    // It never came to be, and what nobody saw being prepared could be anything.
    assert.equal(await ask('execute d'), REFUSED)
    assert.equal(await ask('prepare e as select 1; execute e; deallocate e'), 'C:PREPARE D:1 C:SELECT 1 C:DEALLOCATE ZI')
    rig.state.roles = [only(['public.*'])]
    assert.equal(await ask('prepare t(int) as select $1; execute t(touch())'), REFUSED)
  }))

test('rule 2: prepared statements of SQL and of the protocol are in one place, as on the server', () =>
  as('writer', only(['public.*']), async (raw, ask) => {
    raw.send(parse('p', 'select count(*) from orders'), sync())
    await raw.answers()
    assert.equal(await ask('execute p'), 'D:200 C:SELECT 1 ZI')
    assert.equal(await ask(`prepare s as ${COUNT}`), 'C:PREPARE ZI')
    raw.send(bind('', 's'), execute(''), sync())
    assert.deepEqual(await raw.answers(), ['2', 'D:50', 'C:SELECT 1', 'ZI'])
    rig.state.roles = [only(['public.orders'])]
    raw.send(bind('', 's'), execute(''), sync())
    assert.deepEqual(await raw.answers(), ['E:42501', 'ZI'])
    rig.state.roles = [only(['public.*'])]
    assert.equal(await ask('deallocate all'), 'C:DEALLOCATE ALL ZI')
    raw.send(bind('', 'p'), sync(), bind('', 's'), sync())
    assert.deepEqual(await raw.answers(2), ['E:26000', 'ZI', 'E:26000', 'ZI'])
    // The name was free, so it stands for another text now.
    assert.equal(await ask('prepare p as select 7'), 'C:PREPARE ZI')
    assert.equal(await ask(`prepare p as ${COUNT}`), 'E:42P05 ZI')
    raw.send(bind('', 'p'), execute(''), sync())
    assert.deepEqual(await raw.answers(), ['2', 'D:7', 'C:SELECT 1', 'ZI'])
    raw.send(close('S', 'p'), sync(), query('execute p'))
    assert.deepEqual(await raw.answers(2), ['3', 'ZI', 'E:42501', 'ZI'])
  }))

test('rule 2: a batch cannot change what a name stands for and use it in one breath', () =>
  as('writer', WRITER, async (raw, ask) => {
    raw.send(
      parse('s', 'select 1'),
      parse('gone', 'deallocate s'),
      parse('new', "prepare s as insert into touched values ('x')"),
      sync(),
      ...[bind('', 'gone'), execute(''), bind('', 'new'), execute(''), bind('', 's'), execute(''), sync()],
    )
    const answers = await raw.answers(2)
    assert.deepEqual(answers.slice(-2), ['E:42501', 'ZI'])
    assert.deepEqual(
      statements().map((record) => record.bodies.statement),
      ['deallocate s'],
    )
    assert.equal((await rig.admin.query('select count(*)::int as n from touched')).rows[0].n, 0)
    assert.equal(await ask('select 1'), 'D:1 C:SELECT 1 ZI')
  }))

test('rule 2: code that nobody saw may prepare other texts under known names, so the server is asked', () =>
  as('writer', ANYTHING, async (raw, ask) => {
    raw.send(parse('a', 'select 1'), parse('b', 'select 2'), sync())
    await raw.answers()
    const sneak = `select app.run('deallocate a'); select app.run($$prepare a as insert into touched values ('sneaked')$$)`
    assert.match(await ask(sneak), /C:SELECT 1 ZI$/)
    raw.send(bind('', 'b'), execute(''), sync())
    assert.deepEqual((await raw.answers()).slice(1), ['D:2', 'C:SELECT 1', 'ZI'])
    raw.send(bind('', 'a'), execute(''), sync())
    assert.deepEqual(await raw.answers(), ['E:26000', 'ZI'])
    assert.equal((await rig.admin.query('select count(*)::int as n from touched')).rows[0].n, 0)
  }))

test('rule 2: a portal that was closed in SQL, and a cursor of the same name, are not taken for each other', () =>
  as('writer', ANYTHING, async (raw, ask) => {
    raw.send(query('begin'), parse('', 'select 1 from orders'), bind('p', ''), execute('p', 1), sync())
    await raw.answers(2)
    assert.equal(await ask('close p'), 'C:CLOSE CURSOR ZT')
    assert.equal(await ask('declare p cursor for select email from customers'), 'C:DECLARE CURSOR ZT')
    raw.send(execute('p', 1), sync())
    assert.deepEqual(await raw.answers(), ['E:34000', 'ZE'])
    raw.send(query('rollback; begin'), parse('', 'select 1 from orders'), bind('p', ''), parse('c', 'close p'), bind('', 'c'), execute(''))
    raw.send(parse('d', 'declare p cursor for select email from customers'), bind('', 'd'), execute(''), execute('p', 1), sync())
    assert.deepEqual((await raw.answers(2)).slice(-2), ['E:42501', 'ZE'])
  }))

test('names are told apart by their bytes', () =>
  as('writer', ANYTHING, async (raw) => {
    raw.send(parse('S', 'select 1'), parse('s', 'select 2'), sync(), query('execute s'), query('execute "S"'))
    assert.deepEqual(await raw.answers(3), ['1', '1', 'ZI', 'D:2', 'C:SELECT 1', 'ZI', 'D:1', 'C:SELECT 1', 'ZI'])
    raw.send(message('X'))
  }))
