import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import pg from 'pg'
import { manualClock } from '../../clock.ts'
import type { Connection } from '../../identity/types.ts'
import { Crowd } from './crowd.ts'
import { postgresGateway } from './gateway.ts'
import { bind, execute, type RawClient, sync } from './raw.fixture.ts'
import { ANYTHING, READER, type Rig, startRig, until, WRITER } from './rig.fixture.ts'
import { parseMessage as parse, queryMessage as query } from './wire/write.ts'

/** The second fence: what the session itself is held to, whatever its statements. */
let rig: Rig
before(async () => {
  rig = await startRig()
  original = rig.parts.resources.find
  await rig.admin.query("alter role writer set statement_timeout = '20s'")
})
after(() => rig.stop())
beforeEach(() => {
  rig.state.roles = [READER]
  rig.records.length = 0
  rig.events.length = 0
  Object.assign(rig.parts.resources, { find: original })
})
let original: Rig['parts']['resources']['find']

function applied(change: object): void {
  const find = original
  const found = find('postgres', 'prod')!
  const changed = { ...found, spec: { ...(found.spec as object), ...change } }
  Object.assign(rig.parts.resources, { find: (kind: string, name: string) => (find(kind, name) ? changed : undefined) })
}

const asker = (raw: RawClient) => async (sql: string) => {
  raw.send(query(sql))
  return (await raw.answers()).join(' ')
}
const TIMES =
  "select concat_ws('/', current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'))"

test('the times of the document hold the session, where the database does not hold it tighter; the client may only shorten them', async () => {
  applied({ limits: { connections: 10, statement: '30s', lock_wait: '5s', idle_in_transaction: '1m' } })
  rig.state.roles = [ANYTHING]
  const reader = await rig.raw('reader')
  const ask = asker(reader)
  assert.equal(await ask(TIMES), 'D:30s/5s/1min C:SELECT 1 ZI')
  assert.equal(await ask('set statement_timeout = 0'), 'E:42501 ZI')
  assert.equal(await ask("set statement_timeout = '31s'"), 'E:42501 ZI')
  assert.equal(await ask('reset statement_timeout'), 'E:42501 ZI')
  assert.equal(await ask("select set_config('lock_timeout', '0', false)"), 'E:42501 ZI')
  assert.equal(await ask("set statement_timeout = '3s'"), 'C:SET ZI')
  assert.equal(await ask(TIMES), 'D:3s/5s/1min C:SELECT 1 ZI')
  // What nobody can read, or what gives everything back, is followed by a look, and the times are set again.
  assert.equal(await ask("do $$ begin perform set_config('lock_timeout', '0', false); end $$"), 'C:DO ZI')
  assert.equal(await ask(TIMES), 'D:3s/5s/1min C:SELECT 1 ZI')
  assert.equal(await ask('reset all'), 'C:RESET ZI')
  assert.equal(await ask(TIMES), 'D:30s/5s/1min C:SELECT 1 ZI')
  reader.end()
  const writer = await rig.raw('writer')
  assert.equal(await asker(writer)(TIMES), 'D:20s/5s/1min C:SELECT 1 ZI')
  writer.end()
})

test('times that a client asks for at its start are set when they are shorter, and refused when they are not', async () => {
  const shorter = await rig.raw('writer', { options: '-c statement_timeout=5s -c search_path=pg_catalog' })
  assert.equal(await asker(shorter)("select current_setting('statement_timeout') || current_setting('search_path')"), 'D:5spg_catalog C:SELECT 1 ZI')
  shorter.end()
  await assert.rejects(rig.raw('writer', { options: '-c statement_timeout=0' }), /only be shorter than 20000 ms/)
  await assert.rejects(rig.raw('writer', { statement_timeout: '1h' }), /only be shorter/)
  await until(async () => (await rig.admin.query("select 1 from pg_stat_activity where usename = 'writer'")).rowCount === 0)
})

test('only the databases and the database users of the document may be used', async () => {
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: 'any', as: 'any', can: 'any' }] }]
  await assert.rejects(rig.raw('reader', { database: 'prod/postgres' }), /no such database/)
  rig.state.roles = [READER]
  applied({ users: ['writer'] })
  await assert.rejects(rig.raw('reader'), /The database user reader may not be used/)
  const raw = await rig.raw('writer')
  raw.end()
})

test('rule 11: a server takes so many connections, and one person half of them', async () => {
  applied({ limits: { connections: 4, idle_in_transaction: '5m' } })
  const mine = [await rig.raw('reader'), await rig.raw('reader')]
  await assert.rejects(rig.raw('reader'), /You have 2 connections to this database open/)
  mine[0]!.end()
  await until(async () => (await rig.admin.query("select 1 from pg_stat_activity where usename = 'reader'")).rowCount === 1)
  const again = await until2(() => rig.raw('reader'))
  for (const raw of [mine[1]!, again]) raw.end()
  const crowd = new Crowd()
  const session = (person: string) => ({ principal: { chain: [{ identity: person }], identityId: 'agt' } }) as never
  const leave = ['a', 'a', 'b', 'b'].map((person) => crowd.join('res', session(person), 4))
  assert.throws(() => crowd.join('res', session('c'), 4), { code: 'too_many', message: /All 4/ })
  crowd.join('other', session('c'), 4)()
  leave[0]!()
  leave[0]!()
  crowd.join('res', session('c'), 4)
  assert.throws(() => crowd.join('res', session('d'), 4), { code: 'too_many' })
})

/** Until it works: what was closed on one side is not yet gone on the other. */
async function until2<T>(work: () => Promise<T>): Promise<T> {
  for (let i = 0; i < 100; i++) {
    try {
      return await work()
    } catch {
      await new Promise((done) => setTimeout(done, 10))
    }
  }
  return await work()
}

test('a session that no rule lets write is read-only in the database from its start, and what resets it leads back there', async () => {
  const raw = await rig.raw('writer')
  const ask = asker(raw)
  const state = "select current_setting('default_transaction_read_only') || current_setting('transaction_read_only')"
  assert.equal(await ask(state), 'D:onon C:SELECT 1 ZI')
  assert.equal(await ask('reset all'), 'C:RESET ZI')
  assert.equal(await ask(state), 'D:onon C:SELECT 1 ZI')
  assert.equal(await ask('set default_transaction_read_only = off'), 'E:42501 ZI')
  assert.equal(await ask('begin read write'), 'E:42501 ZI')
  raw.end()
})

test('rule 1: a function that says it only reads cannot lift what holds it to its word', async () => {
  await rig.admin.query(`create function run_read(what text) returns text language plpgsql stable as
    $$ declare said text; begin execute what into said; return said; end $$`)
  const lift = `select run_read('select set_config(''default_transaction_read_only'', ''off'', false)')`
  const write = "select run_read('select touch()')"
  const count = async () => (await rig.admin.query('select count(*)::int as n from touched')).rows[0].n
  const before = await count()
  const raw = await rig.raw('writer')
  const ask = asker(raw)
  const READ_ONLY = 'E:25006'
  assert.equal(await ask(write), `${READ_ONLY} ZI`)
  assert.equal(await ask(lift), 'D:off C:SELECT 1 ZI')
  assert.equal(await ask(write), `${READ_ONLY} ZI`)
  // By a cursor, which runs it when rows are fetched.
  assert.match(await ask(`begin; declare c cursor for ${lift}`), /ZT$/)
  assert.match(await ask('fetch all from c'), /D:off/)
  // In the transaction that began read-only it is still believed.
  assert.match(await ask("select run_read('select 1')"), /D:1 /)
  assert.match(await ask('commit; begin; savepoint a'), /ZT$/)
  assert.match(await ask('rollback to a'), /ZT$/)
  assert.match(await ask(write), /^E:42501/)
  assert.match(await ask('rollback'), /ZI$/)
  assert.equal(await ask(write), `${READ_ONLY} ZI`)
  // In one text, and in one batch.
  for (const text of [`${lift}; commit; ${write}`, `begin; ${lift}; commit; begin; ${write}`, `prepare w as ${write}; commit; execute w`])
    assert.match(await ask(text), /^E:(?!25006)/, text)
  raw.send(parse('end', 'commit'), parse('lift', lift), sync(), parse('', write), bind('', 'lift'), execute(''))
  raw.send(bind('', 'end'), execute(''), bind('', ''), execute(''), sync())
  await raw.answers(2)
  raw.send(query('begin'), query(lift), parse('', write), sync())
  await raw.answers(3)
  raw.send(bind('', 'end'), execute(''), bind('', ''), execute(''), sync())
  await raw.answers()
  assert.equal(await ask('rollback'), 'N:25P01 C:ROLLBACK ZI')
  raw.send(query(lift), query(write), query('commit'), query(write))
  await raw.answers(4)
  raw.end()
  assert.equal(await count(), before)
})

test('rule 6: when no rule lets a session write any more, the database holds it to reading too', async () => {
  const clock = manualClock(Date.now())
  const gateway = postgresGateway({ ...rig.parts, clock })
  rig.state.roles = [WRITER]
  const wire = new pg.Client({ stream: () => gateway.enter(who(), 'mcp') as never, user: 'writer', database: 'prod/shop' })
  await wire.connect()
  const readOnly = async () =>
    (await wire.query("select current_setting('default_transaction_read_only') || current_setting('transaction_read_only') as s")).rows[0].s
  assert.equal(await readOnly(), 'offoff')
  rig.state.roles = [READER]
  assert.equal(await readOnly(), 'offoff')
  clock.advance(1_000)
  assert.equal(await readOnly(), 'onon')
  // It was set after the login, so RESET ALL and DISCARD ALL would lift it.
  for (const lifting of ['reset all', 'discard all']) {
    await wire.query(lifting)
    assert.equal(await readOnly(), 'onon', lifting)
  }
  assert.equal((await wire.query('select count(*)::int as n from customers')).rows[0].n, 50)
  await wire.end()

  rig.state.roles = [WRITER]
  const other = new pg.Client({ stream: () => gateway.enter(who(), 'mcp') as never, user: 'writer', database: 'prod/shop' })
  await other.connect()
  await other.query('begin')
  await other.query("insert into touched values ('before')")
  rig.state.roles = [READER]
  clock.advance(1_000)
  const now = async () =>
    (await other.query("select current_setting('default_transaction_read_only') || current_setting('transaction_read_only') as s")).rows[0].s
  assert.equal(await now(), 'offon')
  await other.query('rollback')
  assert.equal(await now(), 'onon')
  await other.end()
  await gateway.close()
})

const who = () => {
  const controller = new AbortController()
  const connection: Connection = { id: 'con_inside', protocol: 'mcp', signal: controller.signal, closed() {}, assertOpen() {} }
  return { session: rig.sessionOf('inside'), connection }
}

test('rule 9: a connection from inside is the same way in, marked by how it came', async () => {
  const client = new pg.Client({ stream: () => rig.gateway.enter(who(), 'mcp') as never, user: 'reader', database: 'prod/shop' })
  client.on('error', () => {})
  await client.connect()
  assert.equal((await client.query('select count(*)::int as n from customers where id > $1', [10])).rows[0].n, 40)
  await assert.rejects(client.query('drop table customers'), { code: '42501' })
  const big = await client.query("select repeat('x', 1000) as x from generate_series(1, 20000)")
  assert.equal(big.rows.length, 20000)
  await client.end()
  assert.ok(rig.records.every((record) => record.action.via === 'mcp'))
  assert.equal(rig.records.length, 4)
  await until(() => rig.events.some((event) => event.type === 'connection.closed'))
  const refused = new pg.Client({ stream: () => rig.gateway.enter(who(), 'mcp') as never, user: 'reader', database: 'nothing/shop' })
  refused.on('error', () => {})
  await assert.rejects(refused.connect(), /no such database/)
})
