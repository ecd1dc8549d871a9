import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { bind, execute, flush, type RawClient, sync } from './raw.fixture.ts'
import { ANYTHING, READER, type Rig, startRig, until } from './rig.fixture.ts'
import { readErrorFields } from './wire/server.ts'
import { parseMessage as parse, queryMessage as query } from './wire/write.ts'

/** What one statement may give back: a result is cut, said so, and recorded as cut. */
let rig: Rig
before(async () => {
  rig = await startRig()
})
after(() => rig.stop())
beforeEach(() => {
  rig.records.length = 0
})

const facts = () => rig.records.filter((record) => record.action.operation !== 'connect').map((record) => record.outcome?.facts ?? {})

async function capped(user: string, obligations: Record<string, unknown>, work: (raw: RawClient) => Promise<void>): Promise<void> {
  rig.state.roles = [{ allow: [{ ...ANYTHING.allow[0]!, ...obligations }] }]
  const raw = await rig.raw(user)
  await work(raw)
  raw.end()
}

test('max_bytes cuts a result before the row that would be over it', () =>
  capped('reader', { max_bytes: '100KiB' }, async (raw) => {
    raw.send(query("select repeat('x', 40000) from generate_series(1, 10)"), query('select 1'))
    const answers = (await raw.answers(2)).map((answer) => answer.slice(0, 20))
    assert.deepEqual(answers.slice(2), ['N:01000', 'C:SELECT 2', 'ZI', 'D:1', 'C:SELECT 1', 'ZI'])
    assert.deepEqual([facts()[0]!.rows, facts()[0]!.capped, facts()[0]!.cut_by], [2, true, 'bytes'])
    assert.ok((facts()[0]!.bytes as number) < 100 * 1024)
    assert.equal(facts()[1]!.capped, undefined)
  }))

test('a result that is cut is not made to its end: the database stops', () =>
  capped('reader', { max_rows: 3 }, async (raw) => {
    for (const messages of [
      [query('select generate_series(1, 1000000000)')],
      [parse('', 'select generate_series(1, 1000000000)'), bind('', ''), execute(''), sync()],
    ]) {
      raw.send(...messages)
      const answers = await raw.answers()
      assert.deepEqual(answers.slice(-6), ['D:1', 'D:2', 'D:3', 'N:01000', 'C:SELECT 3', 'ZI'])
    }
    raw.send(query('select pg_sleep(0.05)'), query('select 2'))
    assert.deepEqual((await raw.answers(2)).slice(-3), ['D:2', 'C:SELECT 1', 'ZI'])
    assert.deepEqual(
      facts().map((fact) => [fact.rows, fact.capped]),
      [
        [3, true],
        [3, true],
        [1, undefined],
        [1, undefined],
      ],
    )
  }))

test('in a transaction the rest is read and thrown away, so that nothing that the client believes in is undone', () =>
  capped('writer', { max_rows: 2 }, async (raw) => {
    raw.send(query("begin; insert into touched values ('kept')"), query('select i from generate_series(1, 5000) i'), query('commit'))
    assert.deepEqual(await raw.answers(3), ['C:BEGIN', 'C:INSERT 0 1', 'ZT', 'D:1', 'D:2', 'N:01000', 'C:SELECT 2', 'ZT', 'C:COMMIT', 'ZI'])
    assert.equal((await rig.admin.query("delete from touched where what = 'kept'")).rowCount, 1)
    raw.send(query("insert into touched select 'x' from generate_series(1, 5) returning what"))
    // What was inserted stays true; what is shown of it is cut.
    assert.deepEqual(await raw.answers(), ['D:x', 'D:x', 'N:01000', 'C:INSERT 0 5', 'ZI'])
    assert.equal((await rig.admin.query('delete from touched')).rowCount, 5)
  }))

test('COPY TO STDOUT is counted by its rows, in text and in binary, and ends as a whole COPY', async () => {
  rig.state.roles = [{ allow: [{ ...READER.allow[0]!, max_rows: 2 }] }]
  const text = await rig.psql('reader', ['copy (select id from customers order by id) to stdout', 'select 1'])
  assert.deepEqual([text.code, text.out], [0, '1\n2\n1\n'])
  assert.match(text.err, /cut this result at 2 rows/)
  const binary = await rig.psql('reader', [], {
    input: '\\copy (select id from customers order by id) to stdout (format binary)\n',
    args: ['-q'],
  })
  const bytes = Buffer.from(binary.out, 'latin1')
  assert.equal(binary.code, 0)
  assert.match(binary.err, /cut this result at 2 rows/)
  assert.equal(bytes.subarray(0, 6).toString(), 'PGCOPY')
  assert.deepEqual(
    facts().map((fact) => [fact.rows, fact.capped]),
    [
      [2, true],
      [1, undefined],
      [2, true],
    ],
  )
  rig.state.roles = [{ allow: [{ ...READER.allow[0]!, max_bytes: '50B' }] }]
  const raw = await rig.raw('reader')
  raw.send(query("copy (select repeat('x', 1000)) to stdout (format binary)"))
  assert.equal(await raw.until('Z'), 'HddcNCZ')
  raw.send(query('copy (select 1 where false) to stdout (format binary)'))
  assert.equal(await raw.until('Z'), 'HdcCZ')
  raw.end()
})

test('a COPY that is written where nobody counts is refused under a cap', () =>
  capped('root', { max_rows: 2 }, async (raw) => {
    raw.send(query("copy customers to program 'cat > /dev/null'"))
    assert.deepEqual(await raw.answers(), ['E:42501', 'ZI'])
    assert.equal(facts().at(-1)?.reason, 'obligation_unsupported')
  }))

test('what a portal gives in several Executes counts together, and its end is the end', () =>
  capped('reader', { max_rows: 3 }, async (raw) => {
    raw.send(parse('', 'select id from customers order by id'), bind('', ''), execute('', 2), flush())
    assert.equal(await raw.until('s'), '12DDs')
    raw.send(execute('', 2), execute('', 2), sync())
    assert.deepEqual(await raw.answers(), ['D:3', 'N:01000', 'C:SELECT 1', 'C:SELECT 0', 'ZI'])
  }))

test('each FETCH is a statement with a cap of its own', () =>
  capped('writer', { max_rows: 2 }, async (raw) => {
    raw.send(query('begin; declare c cursor for select id from customers order by id'), query('fetch all from c'), query('commit'))
    assert.deepEqual((await raw.answers(3)).slice(3), ['D:1', 'D:2', 'N:01000', 'C:FETCH 2', 'ZT', 'C:COMMIT', 'ZI'])
  }))

test('a statement that is stopped for its time does not take the next one with it', () =>
  capped('reader', { statement_timeout: '1s' }, async (raw) => {
    for (let i = 0; i < 2; i++) {
      raw.send(query('select pg_sleep(20)'))
      assert.deepEqual(await raw.answers(), ['E:57014', 'ZI'])
      raw.send(query('select 1'))
      assert.deepEqual(await raw.answers(), ['D:1', 'C:SELECT 1', 'ZI'])
    }
    await until(() => facts().length === 4)
  }))

test('a cancel that comes too late for the result that was cut hits nothing that is sent after it', () =>
  capped('reader', { max_rows: 1 }, async (raw) => {
    for (let i = 0; i < 5; i++) {
      raw.send(query('select generate_series(1, 3000)'))
      assert.deepEqual(await raw.answers(), ['D:1', 'N:01000', 'C:SELECT 1', 'ZI'])
      raw.send(query('select pg_sleep(0.1)'))
      assert.deepEqual((await raw.answers()).slice(-2), ['C:SELECT 1', 'ZI'])
    }
  }))

/** The fields of the errors and notices of one answer, and the bytes of all of them. */
async function words(raw: RawClient, ...messages: Buffer[]) {
  raw.send(...messages)
  const said: ReadonlyMap<string, string>[] = []
  for (let bytes = 0; ; ) {
    const frame = await raw.next()
    const type = String.fromCharCode(frame[0]!)
    if (type === 'Z') return { said, bytes }
    if (type !== 'E' && type !== 'N') continue
    said.push(readErrorFields(frame))
    bytes += frame.length
  }
}

test('a statement that its rule stops for its time says so, and a cancel of the client stays what it is', () =>
  capped('reader', { statement_timeout: '1s' }, async (raw) => {
    for (const messages of [[query('select pg_sleep(20)')], [parse('', 'select pg_sleep(20)'), bind('', ''), execute(''), sync()]]) {
      const [error] = (await words(raw, ...messages)).said
      assert.equal(error!.get('M'), 'Chaperone cancelled this: it ran longer than the 1s that the rule allows.')
      assert.deepEqual([error!.get('C'), error!.get('V'), error!.get('D')], ['57014', 'ERROR', 'reason upstream_timeout'])
      assert.deepEqual([facts().at(-1)!.timed_out, facts().at(-1)!.sqlstate], [true, '57014'])
    }
    const canceled = words(raw, query('select pg_sleep(20)'))
    await until(async () => (await rig.admin.query("select 1 from pg_stat_activity where wait_event = 'PgSleep'")).rowCount === 1)
    await rig.admin.query("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
    assert.match((await canceled).said[0]!.get('M')!, /user request/)
    assert.equal(facts().at(-1)!.timed_out, undefined)
  }))

test('max_bytes holds for what an error says: it could say the whole table', () =>
  capped('reader', { max_bytes: '200B' }, async (raw) => {
    const all = "select (select string_agg(name, 'é') from customers)::int"
    for (const messages of [[query(all)], [parse('', all), bind('', ''), execute(''), sync()]]) {
      const { said, bytes } = await words(raw, ...messages)
      assert.equal(said[0]!.get('C'), '22P02')
      assert.match(said[0]!.get('M')!, /^invalid input syntax for type integer: "customer 1é.*\.\.\. \(cut by Chaperone\)$/)
      assert.doesNotMatch(said[0]!.get('M')!, /\ufffd/)
      assert.ok(bytes < 300, String(bytes))
      assert.deepEqual([facts().at(-1)!.capped, facts().at(-1)!.cut_by, facts().at(-1)!.sqlstate], [true, 'bytes', '22P02'])
    }
    const short = await words(raw, query('select 1/0'))
    assert.equal(short.said[0]!.get('M'), 'division by zero')
    assert.equal(facts().at(-1)!.capped, undefined)
    // What the rows have used is used.
    const row = "case when i = 1 then repeat('x', 150) else (repeat('y', 75 * i)::int)::text end"
    const both = await words(raw, query(`select ${row} from generate_series(1, 2) i`))
    assert.match(both.said[0]!.get('M')!, /cut by Chaperone/)
    assert.ok(both.bytes < 120, String(both.bytes))
  }))

test('max_bytes holds for notices while a statement runs', () =>
  capped('root', { max_bytes: '1KiB' }, async (raw) => {
    const { said, bytes } = await words(raw, query("do $$ begin for i in 1..100 loop raise notice '%', repeat('x', 300); end loop; end $$"))
    assert.ok(bytes < 2048, String(bytes))
    assert.match(said.at(-1)!.get('M')!, /cut by Chaperone\)$/)
    assert.deepEqual([facts().at(-1)!.capped, facts().at(-1)!.cut_by], [true, 'bytes'])
  }))
