import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { bind, close, execute, flush, message, type RawClient, sync } from './raw.fixture.ts'
import { ANYTHING, READER, type Rig, startRig, until, WRITER } from './rig.fixture.ts'
import { parseMessage as parse, queryMessage as query } from './wire/write.ts'

/** The protocol as no driver speaks it on purpose: pipelines, names that change hands, refusals at every place. */
let rig: Rig
before(async () => {
  rig = await startRig()
})
after(() => rig.stop())
beforeEach(async () => {
  rig.state.roles = [READER]
  rig.state.guardrails = []
  rig.records.length = 0
  rig.gate.wait = undefined
  await rig.admin.query('truncate touched')
})

const statements = () => rig.records.filter((record) => record.action.operation !== 'connect')
const texts = () => statements().map((record) => record.bodies.statement)
const outcomes = () =>
  statements().map((record) =>
    record.kind === 'refused'
      ? 'refused'
      : record.outcome?.facts?.sent === false
        ? 'not sent'
        : record.outcome?.facts?.rolledBack
          ? 'rolled back'
          : record.outcome?.status,
  )
const touched = async () => (await rig.admin.query('select count(*)::int as n from touched')).rows[0].n

/** The role is there before the connection: one that could not write when it began stays read-only in the database. */
async function connected(user: string, role: Record<string, unknown>, work: (raw: RawClient) => Promise<void>): Promise<void> {
  rig.state.roles = [role]
  const raw = await rig.raw(user)
  await work(raw)
  raw.end()
}

test('a pipeline of Querys is answered in order, a refused one in its place', () =>
  connected('writer', READER, async (raw) => {
    raw.send(query('select 1'), query('drop table touched'), query('select 2'), query('selec'), query(''), query('select 3'))
    assert.deepEqual(await raw.answers(6), [
      'D:1',
      'C:SELECT 1',
      'ZI',
      'E:42501',
      'ZI',
      'D:2',
      'C:SELECT 1',
      'ZI',
      'E:42601',
      'ZI',
      'I',
      'ZI',
      'D:3',
      'C:SELECT 1',
      'ZI',
    ])
    assert.deepEqual(outcomes(), ['ok', 'refused', 'ok', 'refused', 'ok'])
  }))

test('a refusal in a batch undoes what the batch did before it, and skips to the Sync, as an error of the server does', () =>
  connected('writer', WRITER, async (raw) => {
    const insert = "insert into touched values ('x')"
    raw.send(
      parse('', insert),
      bind('', ''),
      execute(''),
      parse('', 'drop table touched'),
      bind('', ''),
      execute(''),
      parse('', insert),
      bind('', ''),
      execute(''),
      sync(),
    )
    assert.deepEqual(await raw.answers(), ['1', '2', 'C:INSERT 0 1', 'E:42501', 'ZI'])
    assert.equal(await touched(), 0)
    assert.deepEqual(outcomes(), ['rolled back', 'refused'])
    raw.send(parse('', insert), bind('', ''), execute(''), sync(), query('drop table touched'), parse('', insert), bind('', ''), execute(''), sync())
    assert.deepEqual(await raw.answers(3), ['1', '2', 'C:INSERT 0 1', 'ZI', 'E:42501', 'ZI', '1', '2', 'C:INSERT 0 1', 'ZI'])
    assert.equal(await touched(), 2)
  }))

test('ReadyForQuery tells the true state of the transaction, and savepoints work after a refusal', () =>
  connected('writer', WRITER, async (raw) => {
    const ask = async (sql: string) => {
      raw.send(query(sql))
      return (await raw.answers()).join(' ')
    }
    assert.equal(await ask('drop table touched'), 'E:42501 ZI')
    assert.equal(await ask('begin'), 'C:BEGIN ZT')
    assert.equal(await ask("insert into touched values ('kept')"), 'C:INSERT 0 1 ZT')
    assert.equal(await ask('savepoint a'), 'C:SAVEPOINT ZT')
    assert.equal(await ask("insert into touched values ('lost')"), 'C:INSERT 0 1 ZT')
    assert.equal(await ask('drop table touched'), 'E:42501 ZE')
    assert.equal(await ask('truncate touched'), 'E:42501 ZE')
    assert.equal(await ask('select 1'), 'E:25P02 ZE')
    assert.equal(await ask('rollback to a'), 'C:ROLLBACK ZT')
    raw.send(parse('', 'drop table touched'), bind('', ''), execute(''), sync())
    assert.deepEqual(await raw.answers(), ['E:42501', 'ZE'])
    assert.equal(await ask('rollback to a'), 'C:ROLLBACK ZT')
    assert.equal(await ask('commit'), 'C:COMMIT ZI')
    assert.equal(await touched(), 1)
  }))

test('rule 2: a name stands for the text that the server has under it, however its change is made to fail', () =>
  connected('writer', READER, async (raw) => {
    raw.send(parse('s', "select 'first'"), sync())
    assert.deepEqual(await raw.answers(), ['1', 'ZI'])
    const run = [bind('', 's'), execute(''), sync()]
    // The batch fails before the name changes hands; the next one was sent along with it.
    raw.send(parse('', 'select nothing from customers'), close('S', 's'), parse('s', "select 'second'"), sync(), ...run)
    assert.deepEqual(await raw.answers(2), ['E:42703', 'ZI', '2', 'D:first', 'C:SELECT 1', 'ZI'])
    assert.equal(texts().at(-1), "select 'first'")
    // The name is taken: the server keeps the first text.
    raw.send(parse('s', "select 'second'"), ...run, ...run)
    assert.deepEqual(await raw.answers(2), ['E:42P05', 'ZI', '2', 'D:first', 'C:SELECT 1', 'ZI'])
    assert.equal(texts().at(-1), "select 'first'")
    // And now it does change.
    raw.send(close('S', 's'), parse('s', "select 'second'"), ...run, ...run)
    assert.deepEqual(await raw.answers(2), ['3', '1', '2', 'D:second', 'C:SELECT 1', 'ZI', '2', 'D:second', 'C:SELECT 1', 'ZI'])
    assert.deepEqual(texts().slice(-2), ["select 'second'", "select 'second'"])
  }))

test('rule 2: a portal stands for what the server bound under it, through savepoints too', () =>
  connected('writer', READER, async (raw) => {
    raw.send(
      query('begin'),
      parse('a', "select 'a'"),
      parse('b', "select 'b'"),
      bind('p', 'a'),
      sync(),
      query('savepoint s'),
      bind('p', 'b'),
      sync(),
      query('rollback to s'),
      execute('p'),
      sync(),
    )
    assert.deepEqual(await raw.answers(6), [
      'C:BEGIN',
      'ZT',
      '1',
      '1',
      '2',
      'ZT',
      'C:SAVEPOINT',
      'ZT',
      'E:42P03',
      'ZE',
      'C:ROLLBACK',
      'ZT',
      'D:a',
      'C:SELECT 1',
      'ZT',
    ])
    const ran = statements().filter((record) => record.outcome?.status === 'ok' && record.outcome.facts?.rows === 1)
    assert.deepEqual(
      ran.map((record) => record.bodies.statement),
      ["select 'a'"],
    )
  }))

test('names that the gateway never saw are refused: a cursor of DECLARE is no portal, nothing is a prepared statement but what Parse made', () =>
  connected('writer', READER, async (raw) => {
    raw.send(query('begin; declare c cursor for select 1'), execute('c'), sync(), query('rollback'), bind('', 'nothing'), sync())
    const answers = await raw.answers(4)
    assert.deepEqual(answers, ['C:BEGIN', 'C:DECLARE CURSOR', 'ZT', 'E:34000', 'ZE', 'C:ROLLBACK', 'ZI', 'E:26000', 'ZI'])
  }))

test('going on with a suspended portal is judged and recorded as a run of its own', () =>
  connected('reader', READER, async (raw) => {
    raw.send(parse('', 'select id from customers order by id limit 3'), bind('', ''), execute('', 2), flush())
    for (const type of ['1', '2', 'D', 'D', 's']) assert.equal(String.fromCharCode((await raw.next())[0]!), type)
    raw.send(execute('', 2), sync())
    assert.deepEqual(await raw.answers(), ['D:3', 'C:SELECT 1', 'ZI'])
    assert.deepEqual(
      statements().map((record) => [record.bodies.statement, record.outcome?.facts?.rows]),
      [
        ['select id from customers order by id limit 3', 2],
        ['select id from customers order by id limit 3', 1],
      ],
    )
    raw.send(parse('', 'select id from customers'), bind('', ''), execute('', 1), flush())
    await raw.until('s')
    rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: 'read', tables: ['public.orders'] }] }]
    raw.send(execute('', 1), sync())
    assert.deepEqual(await raw.answers(), ['E:42501', 'ZI'])
  }))

test('COPY in the extended protocol, as libpq sends it: the Sync that comes with it is read as copy data', () =>
  connected('writer', WRITER, async (raw) => {
    const copy = [parse('', 'copy touched from stdin'), bind('', ''), execute(''), sync()]
    raw.send(...copy)
    assert.equal(await raw.until('G'), '12G')
    raw.send(message('d', Buffer.from('a\nb\n')), message('c'), sync())
    assert.deepEqual(await raw.answers(), ['C:COPY 2', 'ZI'])
    raw.send(...copy)
    await raw.until('G')
    raw.send(message('f', Buffer.from('no\0')), sync())
    assert.deepEqual(await raw.answers(), ['E:57014', 'ZI'])
    raw.send(query('copy touched from stdin'))
    await raw.until('G')
    raw.send(message('d', Buffer.from('bad\tline\n')), message('c'), query('select 1'))
    assert.deepEqual(await raw.answers(2), ['E:22P04', 'ZI', 'D:1', 'C:SELECT 1', 'ZI'])
    assert.equal(await touched(), 2)
    assert.deepEqual(outcomes(), ['ok', 'failed', 'failed', 'ok'])
    raw.send(query('copy touched from stdin'), query('select 1'))
    await raw.until('G')
    await assert.rejects(raw.until('Z'), /closed/)
  }))

test('a refused COPY FROM does not make the gateway wait for its data', () =>
  connected('reader', READER, async (raw) => {
    raw.send(
      query('copy touched from stdin'),
      query('select 1'),
      parse('', 'copy touched from stdin'),
      bind('', ''),
      execute(''),
      sync(),
      query('select 2'),
    )
    assert.deepEqual(await raw.answers(4), ['E:42501', 'ZI', 'D:1', 'C:SELECT 1', 'ZI', 'E:42501', 'ZI', 'D:2', 'C:SELECT 1', 'ZI'])
  }))

test('statements of a pipeline wait for their permits together, and are sent in order', () =>
  connected('reader', READER, async (raw) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    rig.gate.wait = promise
    raw.send(...Array.from({ length: 100 }, (_, i) => [parse('', `select ${i}`), bind('', ''), execute('')]).flat(), sync())
    await new Promise((done) => setTimeout(done, 50))
    assert.equal(statements().length, 0)
    resolve()
    const answers = await raw.answers()
    assert.deepEqual(
      answers.filter((answer) => answer.startsWith('D')),
      Array.from({ length: 100 }, (_, i) => `D:${i}`),
    )
    assert.equal(statements().length, 100)
  }))

test('a text of 1 MiB is read like any other, in its place, and a larger one is refused', () =>
  connected('writer', WRITER, async (raw) => {
    const rows = (n: number) => `insert into touched values ${Array.from({ length: n }, (_, i) => `('value number ${i}')`).join()}`
    const big = rows(40_000)
    assert.ok(big.length > 800_000 && big.length < 1024 * 1024)
    raw.send(
      query('select 1'),
      query(big),
      query('select 2'),
      parse('', big),
      bind('', ''),
      execute(''),
      sync(),
      query(rows(60_000)),
      query('select 3'),
    )
    assert.deepEqual(await raw.answers(6), [
      ...['D:1', 'C:SELECT 1', 'ZI', 'C:INSERT 0 40000', 'ZI', 'D:2', 'C:SELECT 1', 'ZI'],
      ...['1', '2', 'C:INSERT 0 40000', 'ZI', 'E:54000', 'ZI', 'D:3', 'C:SELECT 1', 'ZI'],
    ])
    assert.equal(await touched(), 80_000)
    rig.state.roles = [READER]
    raw.send(query(big))
    assert.deepEqual(await raw.answers(), ['E:42501', 'ZI'])
  }))

test('what the server skips after an error is recorded as not run', () =>
  connected('reader', READER, async (raw) => {
    raw.send(parse('', 'select 1 / (id - 1) from customers'), bind('', ''), execute(''), parse('', 'select 2'), bind('', ''), execute(''), sync())
    assert.deepEqual(await raw.answers(), ['1', '2', 'E:22012', 'ZI'])
    assert.deepEqual(outcomes(), ['failed', 'failed'])
    raw.send(query('select 1; select 1 / (id - 1) from customers; select 3'))
    assert.deepEqual(await raw.answers(), ['D:1', 'C:SELECT 1', 'E:22012', 'ZI'])
    assert.deepEqual(outcomes().slice(2), ['rolled back', 'failed', 'failed'])
  }))

test('a statement that may change settings is over before the next one is read', () =>
  connected('writer', ANYTHING, async (raw) => {
    const off = 'do $$ begin set standard_conforming_strings = off; end $$'
    // To the server the second is a string, and a DROP; to a parser that believes in the setting it is two strings.
    raw.send(query(off), query("select '\\', '; drop table touched --'"))
    await assert.rejects(async () => {
      for (;;) await raw.next()
    }, /closed/)
    assert.deepEqual(texts(), [off])
    assert.equal(await touched(), 0)
    const other = await rig.raw('writer')
    other.send(parse('', off), bind('', ''), execute(''), parse('', "select '\\', '; drop table touched --'"), bind('', ''), execute(''), sync())
    assert.match((await other.error()).get('M')!, /may change what it means/)
    other.end()
  }))

test('FETCH is judged as what its cursor reads', () =>
  connected('writer', ANYTHING, async (raw) => {
    raw.send(query('begin; declare c cursor for select id from customers order by id; fetch 1 from c'))
    assert.deepEqual(await raw.answers(), ['C:BEGIN', 'C:DECLARE CURSOR', 'D:1', 'C:FETCH 1', 'ZT'])
    rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: 'read', tables: ['public.orders'] }] }]
    raw.send(query('fetch 1 from c'))
    assert.deepEqual(await raw.answers(), ['E:42501', 'ZE'])
  }))

test('max_rows cuts a result and says so, in both protocols', () =>
  connected('reader', READER, async (raw) => {
    rig.state.roles = [{ allow: [{ ...READER.allow[0]!, max_rows: 2 }] }]
    raw.send(
      query('select id from customers order by id'),
      parse('', 'select id from customers order by id limit 2'),
      bind('', ''),
      execute(''),
      sync(),
      query('select 1; select id from customers order by id'),
    )
    assert.deepEqual(await raw.answers(3), [
      ...['D:1', 'D:2', 'N:01000', 'C:SELECT 2', 'ZI'],
      ...['1', '2', 'D:1', 'D:2', 'C:SELECT 2', 'ZI'],
      ...['D:1', 'C:SELECT 1', 'D:1', 'D:2', 'N:01000', 'C:SELECT 2', 'ZI'],
    ])
    assert.deepEqual(
      statements().map((record) => [record.outcome?.facts?.rows, record.outcome?.facts?.capped]),
      [
        [2, true],
        [2, undefined],
        [1, undefined],
        [2, true],
      ],
    )
  }))

test('statement_timeout cancels what runs too long', () =>
  connected('reader', ANYTHING, async (raw) => {
    rig.state.roles = [{ allow: [{ ...ANYTHING.allow[0]!, statement_timeout: '1s' }] }]
    raw.send(query('select 1'), query('select pg_sleep(20)'))
    assert.deepEqual(await raw.answers(2), ['D:1', 'C:SELECT 1', 'ZI', 'E:57014', 'ZI'])
  }))

test('rule 1: obligations that cannot be kept refuse, and are never ignored', () =>
  connected('writer', READER, async (raw) => {
    rig.state.roles = [{ allow: [{ ...ANYTHING.allow[0]!, require_where: true }] }]
    raw.send(query('delete from touched'), query('select 1'), parse('', 'update touched set what = what'), bind('', ''), execute(''), sync())
    assert.deepEqual(await raw.answers(3), ['E:42501', 'ZI', 'D:1', 'C:SELECT 1', 'ZI', '1', 'E:42501', 'ZI'])
    assert.deepEqual(
      statements().map((record) => record.outcome?.facts?.reason),
      ['obligation_unsupported', undefined, 'obligation_unsupported'],
    )
  }))

test('a client that goes away leaves nothing running, and the outcome is unknown', async () => {
  rig.state.roles = [ANYTHING]
  const raw = await rig.raw('writer')
  raw.send(query('select pg_sleep(60) /* left */'))
  const running = async () =>
    (await rig.admin.query("select 1 from pg_stat_activity where query like '%/* left */' and query not like '%activity%' and state = 'active'"))
      .rowCount ?? 0
  await until(async () => (await running()) === 1)
  raw.end()
  await until(async () => (await running()) === 0)
  await until(() => outcomes().at(-1) === 'unknown')
})

test('a database that goes away ends the connection with its own words, and the outcome is unknown or failed', async () => {
  rig.state.roles = [ANYTHING]
  const raw = await rig.raw('writer')
  raw.send(query('select pg_backend_pid()'))
  const pid = (await raw.answers())[0]!.slice(2)
  raw.send(query('select pg_sleep(60)'))
  await until(
    async () =>
      (await rig.admin.query('select 1 from pg_stat_activity where pid = $1 and state = $2 and query like $3', [pid, 'active', '%sleep%']))
        .rowCount === 1,
  )
  await rig.admin.query('select pg_terminate_backend($1)', [pid])
  assert.equal((await raw.error()).get('C'), '57P01')
  await assert.rejects(raw.next(), /closed/)
  await until(() => outcomes().at(-1) !== undefined)
  assert.match(String(outcomes().at(-1)), /unknown|failed/)
})

test('rule 11: a result larger than memory should be flows through a slow client without being held', async () => {
  const raw = await rig.raw('reader')
  const before = process.memoryUsage().rss
  raw.send(query("select repeat('x', 10000) from generate_series(1, 20000)"))
  raw.socket.pause()
  await new Promise((done) => setTimeout(done, 300))
  assert.ok(process.memoryUsage().rss - before < 120_000_000, `${process.memoryUsage().rss - before} bytes were held`)
  let bytes = 0
  raw.socket.removeAllListeners('data')
  raw.socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length
  })
  raw.socket.resume()
  await until(() => bytes > 200_000_000)
  raw.end()
  await until(() => outcomes().at(-1) !== undefined)
})
