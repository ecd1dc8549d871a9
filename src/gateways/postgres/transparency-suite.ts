import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { bind, close, execute, flush, message, type RawClient, sync } from './raw.fixture.ts'
import type { Rig } from './rig.fixture.ts'
import { parseMessage as parse, queryMessage as query } from './wire/write.ts'

/**
 * Rule 10: the same messages, once to the database itself and once through Chaperone, bring back the same bytes.
 *
 * What differs on purpose, and is left out: the key for cancelling (BackendKeyData; ours, B40), `application_name` (who acts), the
 * process number in a notification, lines of the server's source where a name is unknown, and the order of ParameterStatus at login (the server's own).
 */
interface Step {
  readonly send: readonly Buffer[]
  /** Type of the message that ends the answer, and how many of them. */
  readonly until?: string
  readonly times?: number
}

const step = (...send: Buffer[]): Step => ({ send })
const asks = (...texts: string[]): Step => ({ send: texts.map(query), times: texts.length })
const describe = (of: 'S' | 'P', name: string) => message('D', Buffer.from(`${of}${name}\0`))
const copyData = (text: string) => message('d', Buffer.from(text))
const [copyDone, copyFail] = [message('c'), message('f', Buffer.from('enough\0'))]
/** Binary parameters and results. */
const bindBinary = (portal: string, statement: string, values: readonly (Buffer | null)[]) => {
  const int16 = (n: number) => Buffer.from([n >> 8, n & 255])
  const int32 = (n: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32BE(n)
    return bytes
  }
  const fields = values.flatMap((value) => (value === null ? [int32(-1)] : [int32(value.length), value]))
  return message('B', Buffer.from(`${portal}\0${statement}\0`), int16(1), int16(1), int16(values.length), ...fields, int16(1), int16(1))
}

const TYPES =
  `select 1::int2, 2::int4, 3::int8, 1.5::float4, 'NaN'::float8, 12345678901234567890.123::numeric, 'text'::text, 'ü€😀'::varchar, ''::text,
  null::int, true, '\\x00ff'::bytea, '2026-11-22 10:11:12.123456+02'::timestamptz, '-infinity'::timestamp, '24:00'::time, interval '1 mon -2 days',
  '{1,null,"a,b"}'::text[], '{"a": [1, 2]}'::jsonb, '(1,"x y")'::record, 'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11'::uuid, '1.2.3.4/8'::inet, point(1,2)`.replace(
    `'(1,"x y")'::record, 'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11'::uuid`,
    `row(1,'x y'), 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid`,
  )

export const SCRIPTS: Readonly<Record<string, readonly Step[]>> = {
  'types as text and as binary': [
    asks(TYPES),
    step(parse('', TYPES), describe('S', ''), bind('', ''), describe('P', ''), execute(''), sync()),
    step(parse('', TYPES), bindBinary('', '', []), describe('P', ''), execute(''), sync()),
    step(parse('', 'select $1::int4 + 1, $2::text'), bindBinary('', '', [Buffer.from([0, 0, 0, 41]), null]), execute(''), sync()),
  ],
  'several statements, empty texts, comments, nothing': [
    asks(
      '',
      ';',
      ' -- nothing\n',
      'select 1; select 2;; select 3',
      '/* a /* nested */ comment */ select 4',
      'select',
      'select from customers limit 2',
    ),
    step(parse('', ''), bind('', ''), describe('P', ''), execute(''), sync()),
  ],
  'errors, with all their fields': [
    asks(
      'select 1 / 0',
      'select nothing from customers',
      "insert into customers values (1, 'x')",
      'select * from nowhere',
      "select 'x'::int",
      'select 7',
    ),
    step(parse('', 'select $1::int / 0'), bind('', '', ['x']), execute(''), sync()),
    step(parse('', 'select 1 / (id - 5) from customers order by id'), bind('', ''), execute(''), sync()),
    asks('select 1; select 1 / 0; select 2'),
  ],
  'pipelines, with errors in the middle, a Flush and several Syncs': [
    step(...[1, 2, 3].flatMap((i) => [parse('', `select ${i}`), bind('', ''), execute('')]), sync()),
    step(parse('', 'select 1'), bind('', ''), execute(''), parse('', 'select nothing'), parse('', 'select 2'), bind('', ''), execute(''), sync()),
    { send: [parse('', 'select 1'), bind('', ''), execute(''), sync(), parse('', 'select 2'), bind('', ''), execute(''), sync(), sync()], times: 3 },
    { send: [parse('f', 'select id from customers order by id'), describe('S', 'f'), flush()], until: 'T' },
    { send: [bind('', 'f'), execute('', 3), flush()], until: 's' },
    step(execute('', 2), close('P', ''), execute('', 1), sync()),
    step(bind('p', 'f'), execute('p', 1), sync(), execute('p', 1), sync()),
    step(close('S', 'f'), close('S', 'never there'), close('P', 'nor this'), sync()),
  ],
  'named statements and portals in a transaction': [
    asks('begin'),
    step(
      parse('s', 'select id, name from customers where id > $1 order by id'),
      describe('S', 's'),
      bind('a', 's', ['10']),
      bind('b', 's', ['20']),
      sync(),
    ),
    step(describe('P', 'a'), execute('a', 2), execute('b', 1), execute('a', 1), execute('b', 0), sync()),
    step(bind('a', 's', ['30']), sync()),
    asks('rollback'),
    step(parse('s', 'select 1'), sync()),
    step(execute('a'), sync()),
    asks('deallocate s'),
  ],
  'transactions, savepoints and what fails in them': [
    asks(
      'begin',
      "insert into touched values ('a')",
      'savepoint x',
      'select 1 / 0',
      'select 1',
      'rollback to x',
      'select count(*) from touched',
      'commit',
    ),
    asks('begin isolation level serializable read only', 'show transaction_isolation', 'insert into touched values (1)', 'commit'),
    asks('commit', 'rollback', 'begin; begin', 'rollback', "begin; insert into touched values ('b'); rollback; select count(*) from touched"),
    asks('truncate touched'),
  ],
  'notices and warnings': [
    asks(
      "do $$ begin raise notice 'one %', 1 using detail = 'd', hint = 'h'; raise warning 'two'; end $$",
      'drop table if exists not_there',
      'commit',
    ),
    asks("set client_min_messages = 'error'", "do $$ begin raise notice 'quiet'; end $$", 'reset client_min_messages'),
  ],
  'COPY out and in': [
    asks(
      'copy customers to stdout',
      'copy (select id, email from customers where id < 4 order by id) to stdout (format csv, header)',
      'copy customers to stdout (format binary)',
    ),
    step(parse('', 'copy (select 1) to stdout'), bind('', ''), execute(''), sync()),
    { send: [query('copy touched from stdin')], until: 'G' },
    { send: [copyData('one\ntwo\n'), copyData('three\n'), copyDone] },
    { send: [parse('', 'copy touched from stdin (format csv)'), bind('', ''), execute(''), sync()], until: 'G' },
    { send: [copyData('"a,b"\n'), copyDone, sync()] },
    { send: [query('copy touched from stdin')], until: 'G' },
    { send: [copyData('half'), copyFail] },
    { send: [query('copy customers from stdin')], until: 'G' },
    { send: [copyData('not a number\tx\ty\n'), copyDone] },
    asks('select what from touched order by what', 'truncate touched'),
  ],
  'LISTEN, NOTIFY and settings that the server reports': [
    asks('listen news', "notify news, 'hello'", "select pg_notify('news', 'again')", 'unlisten news', "notify news, 'unheard'"),
    asks(
      "set timezone = 'Europe/Berlin'",
      "select '2026-07-01 00:00+00'::timestamptz",
      'reset timezone',
      "set datestyle = 'SQL, DMY'",
      'select current_date - current_date',
      'reset datestyle',
    ),
    asks('set search_path = public, pg_catalog', 'select count(*) from customers', 'reset search_path', 'select count(*) from customers'),
  ],
  'cursors, PREPARE and EXECUTE': [
    asks(
      'begin',
      'declare c scroll cursor for select id from customers order by id',
      'fetch 2 from c',
      'fetch backward 1 from c',
      'move 5 in c',
      'fetch c',
      'close c',
      'fetch c',
      'rollback',
    ),
    asks(
      'prepare q(int) as select name from customers where id = $1',
      'execute q(3)',
      'prepare q as select 1',
      'explain (costs off) execute q(4)',
      'deallocate q',
    ),
    // The unnamed statement outlives all that DEALLOCATE ALL and DISCARD ALL forget, itself included.
    step(parse('q', 'select 2'), parse('', 'deallocate all'), bind('', ''), execute(''), sync()),
    step(bind('', ''), execute(''), sync()),
    step(bind('', 'q'), sync()),
    step(parse('', 'discard all'), bind('', ''), execute(''), sync()),
    step(bind('', ''), execute(''), sync()),
  ],
  'rows wider than a packet, and many of them': [
    asks(
      "select repeat('x', 200000), repeat('y', 70000) from generate_series(1, 5)",
      "select i, repeat('z', i % 300) from generate_series(1, 3000) i",
    ),
  ],
}

/** Runs the script; the bytes of every answer, a message each. */
async function run(raw: RawClient, steps: readonly Step[]): Promise<Buffer[]> {
  const frames: Buffer[] = []
  for (const { send, until = 'Z', times = 1 } of steps) {
    raw.send(...send)
    for (let left = times; left > 0; ) {
      const frame = await raw.next()
      frames.push(frame)
      // An error ends a step that waits for something else than ReadyForQuery.
      if (String.fromCharCode(frame[0]!) === until) left--
    }
  }
  return frames
}

const ERROR = 'E'.charCodeAt(0)
const NOTIFICATION = 'A'.charCodeAt(0)
/** The process number of whoever notified is of this connection, and two connections have two. */
const comparable = (frame: Buffer) => {
  // A name that nobody knows is refused before it reaches the server: the same code and words, without lines of its source.
  if (frame[0] === ERROR && /\0C(34000|26000)\0/.test(frame.toString('latin1'))) return Buffer.from(frame.toString('latin1', 5).split(/\0[FLR]/)[0]!)
  if (frame[0] !== NOTIFICATION) return frame
  const copy = Buffer.from(frame)
  copy.writeInt32BE(0, 5)
  return copy
}
const shown = (frames: readonly Buffer[]) => frames.map((frame) => comparable(frame).toString('latin1'))

export async function assertTransparent(rig: Rig, name: string): Promise<void> {
  const [direct, through] = [await rig.rawDirect('root'), await rig.raw('root')]
  const before = await run(direct, SCRIPTS[name]!)
  const after = await run(through, SCRIPTS[name]!)
  assert.deepEqual(shown(after), shown(before))
  direct.end()
  through.end()
}

/** What the server says of itself at login arrives, all of it, but who acts. */
export async function assertSameLogin(rig: Rig): Promise<void> {
  const said = (raw: RawClient) => raw.parameters.filter(([name]) => name !== 'application_name').sort()
  const [direct, through] = [await rig.rawDirect('root'), await rig.raw('root')]
  assert.deepEqual(said(through), said(direct))
  direct.end()
  through.end()
}

/** Hash of a result of `megabytes`, and by how many bytes the process grew while it flowed. */
export async function hashOfResult(raw: RawClient, megabytes: number): Promise<{ hash: string; bytes: number; grown: number }> {
  const hash = createHash('sha256')
  let bytes = 0
  let most = 0
  const before = process.memoryUsage().rss
  raw.socket.removeAllListeners('data')
  let last = Buffer.alloc(0)
  const done = new Promise<void>((resolve) => {
    raw.socket.on('data', (chunk: Buffer) => {
      hash.update(chunk)
      bytes += chunk.length
      most = Math.max(most, process.memoryUsage().rss)
      // ReadyForQuery, in however many pieces, and nothing behind it.
      last = Buffer.concat([last, chunk.subarray(-6)]).subarray(-6)
      if (last.length === 6 && last.readInt32BE(1) === 5 && last[0] === 'Z'.charCodeAt(0)) resolve()
    })
  })
  raw.send(query(`select i, repeat(chr(97 + i % 26), 9990) from generate_series(1, ${megabytes * 100}) i`))
  await done
  return { hash: hash.digest('hex'), bytes, grown: most - before }
}
