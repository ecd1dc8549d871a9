import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { bind, close, describe, execute, sync } from '../raw.fixture.ts'
import { ANYTHING, READER, type Rig, startRig, until } from '../rig.fixture.ts'
import { parseMessage as parse, queryMessage as query } from '../wire/write.ts'
import { Portals } from './portals.ts'
import type { Portal, Run } from './prepared.ts'

let rig: Rig
before(async () => {
  rig = await startRig({ roles: [ANYTHING] })
})
after(() => rig.stop())

/** What writes over the memory that the server has let go. */
const LONG = `select ${Array.from({ length: 3000 }, (_, i) => `'x${i}'`).join()}`
const overwrite = [parse('', LONG), sync()]
const whole = (sql: string) => [parse('', sql), bind('', ''), execute(''), sync()]
const bound = (portal: string, sql: string) => [parse('', sql), bind(portal, ''), sync()]
const runs = (portal: string) => [execute(portal), sync()]
const FAILS = 'select 1 / (select 0)'

/** The last answer to each; somebody else's connection is there all the while. */
async function lastAnswer(...sent: Buffer[][]): Promise<string> {
  const somebody = await rig.raw('reader')
  const raw = await rig.raw('writer')
  let said: string[] = []
  for (const frames of sent) {
    raw.send(...frames)
    said = await raw.answers()
  }
  raw.end()
  somebody.send(query('select 1'))
  assert.deepEqual(await somebody.answers(), ['D:1', 'C:SELECT 1', 'ZI'], 'the server lives, and so do the connections of others')
  somebody.end()
  return said.join(' ')
}

// Sent to 18.4 itself the first four ended it whenever they were tried (signal 11); of the last it read what was left by chance.
const KILLS: readonly (readonly [string, Buffer[][]])[] = [
  ['a portal was bound before', [whole('begin'), [query(FAILS)], overwrite, overwrite, runs('')]],
  ['of a text with a BEGIN', [whole('begin'), [query('commit')], [query(`begin; ${FAILS}`)], overwrite, runs('')]],
  ['DISCARD ALL, which no transaction takes', [whole('begin'), [query('discard all')], [query(`select '${'x'.repeat(9000)}'`)], runs('')]],
  ['the Bind of another one fails', [whole('begin'), [query(FAILS)], overwrite, [parse('', LONG), bind('', ''), sync()], runs('')]],
  ['a savepoint that is not there', [[query('begin')], [query('1')], bound('', 'rollback'), [query('rollback to nowhere')], overwrite, runs('')]],
]

for (const [what, sent] of KILLS)
  test(`rule 11: the portal that a failed Query left is never executed, for that ends the server for everybody: ${what}`, async () => {
    assert.equal(await lastAnswer(...sent), 'E:34000 ZE')
    assert.equal(await lastAnswer(...sent.slice(0, -1), [describe('P', ''), sync()]), 'E:34000 ZE')
    assert.equal(await lastAnswer(...sent.slice(0, -1), [close('P', ''), sync()]), '3 ZE')
    // What the client binds itself it may run.
    assert.equal(await lastAnswer(...sent.slice(0, -1), whole('rollback')), '1 2 C:ROLLBACK ZI')
  })

test('the unnamed statement goes with every Query and every Parse of it; the unnamed portal with a Query that runs, and it stays with one that does not come to it, as on the server', async () => {
  const five = bound('', 'select 5')
  assert.equal(await lastAnswer([query('begin')], five, [query('select 1')], runs('')), 'E:34000 ZE')
  assert.equal(await lastAnswer([query('begin')], five, [query('')], runs('')), 'D:5 C:SELECT 1 ZT')
  const end = bound('', 'rollback')
  assert.equal(await lastAnswer([query('begin')], [query(FAILS)], end, [query('select 1')], [query('1')], runs('')), 'C:ROLLBACK ZI')
  assert.equal(await lastAnswer([query('begin')], five, [query('select 1')], [bind('', ''), sync()]), 'E:26000 ZE')
  assert.equal(await lastAnswer(five, [parse('', 'selec'), sync()], [bind('', ''), sync()]), 'E:26000 ZI')
  assert.equal(await lastAnswer(five, [query('selec')], [bind('', ''), sync()]), 'E:26000 ZI')
})

test('rule 2: what was bound since a savepoint, or in a transaction that is over, is not there', async () => {
  const start = [query('begin; savepoint a')]
  const s = bound('s', 'select 5')
  assert.equal(await lastAnswer(start, s, [query('rollback to a')], runs('s')), 'E:34000 ZE')
  assert.equal(await lastAnswer(start, s, [query('release a')], runs('s')), 'D:5 C:SELECT 1 ZT')
  assert.equal(await lastAnswer([query('begin')], s, [query('savepoint a; rollback to a')], runs('s')), 'D:5 C:SELECT 1 ZT')
  assert.equal(await lastAnswer([query('begin')], s, [query('commit; begin')], runs('s')), 'E:34000 ZE')
  assert.equal(await lastAnswer([query('begin')], s, [query('commit and chain')], runs('s')), 'E:34000 ZE')
})

test('rule 2: a name is at most as long as the server keeps it: two longer ones would be one there, and what was judged as the one be run as the other', async () => {
  const kept = 'x'.repeat(63)
  const [one, other] = [`${kept}a`, `${kept}b`]
  const raw = await rig.raw('writer')
  const answer = async (...frames: Buffer[]) => {
    raw.send(...frames)
    return (await raw.answers()).join(' ')
  }
  assert.equal(await answer(parse(one, 'select 1'), sync()), 'E:0A000 ZI')
  assert.equal(await answer(parse(kept, 'select 1'), bind('', kept), execute(''), sync()), '1 2 D:1 C:SELECT 1 ZI')
  for (const frame of [bind('', other), bind(other, kept), close('S', other), close('P', other), describe('S', other), execute(other)])
    assert.equal(await answer(frame, sync()), 'E:0A000 ZI')
  // Bytes count, as on the server.
  assert.equal(await answer(parse('é'.repeat(32), 'select 1'), sync()), 'E:0A000 ZI')
  raw.end()
})

test('rule 2: what is bound runs as what it was judged as: a name that it uses and that has changed hands is not followed', async () => {
  const insert = parse('p', "insert into touched values ('unasked')")
  const p = [parse('p', 'select 5'), sync()]
  const again = [close('S', 'p'), insert, sync()]
  const rows = async () => (await rig.admin.query('select what from touched')).rowCount
  for (const sql of ['execute p', 'explain analyze execute p'])
    assert.equal(await lastAnswer(p, [query('begin')], bound('x', sql), again, runs('x')), 'E:55000 ZE', sql)
  assert.equal(await lastAnswer(p, [parse('', 'execute p'), bind('', ''), close('S', 'p'), insert, execute(''), sync()]), '1 2 3 1 E:55000 ZI')
  assert.equal(await rows(), 0)
  const cursor = (sql: string) => [query(`declare c cursor for ${sql}`)]
  const fetch = bound('x', 'fetch all from c')
  const begun = [[query('begin')], cursor('select 5'), fetch]
  assert.equal(await lastAnswer(...begun, [query('close c')], cursor('select total from orders'), runs('x')), 'E:55000 ZE')
  assert.equal(await lastAnswer(...begun, [query('close c')], bound('c', 'select 6'), runs('x')), 'E:55000 ZE')
  assert.equal(await lastAnswer(...begun, [query('select 1')], runs('x')), 'D:5 C:FETCH 1 ZT')
  assert.equal(await lastAnswer(p, [query('begin')], bound('x', 'execute p'), [query('select 1')], runs('x')), 'D:5 C:SELECT 1 ZT')
})

test('rule 2: a COPY that is bound copies no table of a search path that was moved since', async () => {
  await rig.admin.query(
    "create schema app; create table app.touched as select 'hidden' as what; grant all on schema app to writer; grant all on app.touched to writer",
  )
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: ['reader', 'writer'], can: 'read', tables: ['public.touched'] }] }]
  try {
    const copy = bound('x', 'copy touched to stdout')
    const moved = [query('set local search_path = app')]
    assert.equal(await lastAnswer([query('begin')], copy, moved, runs('x')), 'E:55000 ZE')
    assert.equal(await lastAnswer([query('begin')], moved, [query('copy touched to stdout')]), 'E:42501 ZE')
    assert.equal(await lastAnswer([query('begin')], copy, [query('show search_path')], runs('x')), 'H c C:COPY 0 ZT')
  } finally {
    rig.state.roles = [ANYTHING]
  }
})

test('rule 2: EXECUTE of what only the protocol can prepare does the same to names as the statement itself', async () => {
  const prepared = (name: string, sql: string) => [parse(name, sql), sync()]
  const s = bound('s', 'select 5')
  const [frees, declares] = [[query('execute frees')], [query('execute declares')]]
  // The cursor that has the name now is read by FETCH alone, which is judged as what it reads.
  const cursor = prepared('declares', 'declare s cursor for select 6')
  const freeing = [
    ['begin', 'close s'],
    ['begin', 'close all'],
    ['begin', 'commit and chain'],
    ['begin; savepoint a', 'rollback to a'],
  ] as const
  for (const [start, sql] of freeing)
    assert.equal(await lastAnswer(prepared('frees', sql), cursor, [query(start)], s, frees, declares, runs('s')), 'E:34000 ZE', sql)
  const five = prepared('five', 'select 5')
  const another = prepared('declares', 'prepare five as select 6')
  assert.equal(await lastAnswer(prepared('frees', 'deallocate five'), another, five, frees, declares, [bind('', 'five'), sync()]), 'E:26000 ZI')
})

test('rule 2: a FETCH from a portal that is not remembered is not judged as the cursor that once had its name', async () => {
  rig.state.roles = [READER]
  try {
    const marks = Array.from({ length: 25 }, (_, i) => [query(Array.from({ length: 40 }, (_, k) => `savepoint s${40 * i + k}`).join(';'))])
    const once = [[query('begin; declare s cursor for select 1')], [query('fetch all from s')], [query('rollback')]]
    assert.equal(await lastAnswer(...once.slice(0, 2)), 'D:1 C:FETCH 1 ZT')
    const start = [
      ...once,
      [query('begin')],
      [query('savepoint a')],
      ...marks,
      bound('s', 'select 5'),
      [query('savepoint a')],
      [query('rollback to a')],
    ]
    assert.equal(await lastAnswer(...start, [query('fetch all from s')]), 'E:42501 ZE')
    assert.equal(
      await lastAnswer(...start, [query('close s')], [query('declare s cursor for select 6')], [query('fetch all from s')]),
      'D:6 C:FETCH 1 ZT',
    )
  } finally {
    rig.state.roles = [ANYTHING]
  }
})

test('of savepoints with one name the newest counts, and what is never executed is said once', () => {
  const never: unknown[] = []
  const portals = new Portals((run) => never.push(run))
  const made = (name: string, sent = false) => {
    const run = { sent } as Run
    portals.know(name, { parameters: '', run } as Portal)
    return run
  }
  made('before', true)
  portals.savepoint('a')
  const first = made('first')
  portals.savepoint('a')
  const second = made('second')
  portals.rollBackTo('a')
  assert.deepEqual([...portals.names()], ['before', 'first'])
  portals.release('a')
  portals.rollBackTo('a')
  assert.deepEqual([...portals.names()], ['before'])
  portals.clear()
  assert.deepEqual(never, [second, first])
})

test('rule 11: savepoints without end are not remembered without end, and what they undo is not there', () => {
  const portals = new Portals(() => {})
  portals.know('before', { parameters: '' } as Portal)
  for (let i = 0; i < 5000; i++) portals.savepoint(`s${i}`)
  portals.know('since', { parameters: '' } as Portal)
  portals.rollBackTo('s4999')
  assert.deepEqual([...portals.names()], ['before'])
})

test('a Parse that is refused takes the unnamed statement with it, and a Describe finds none, as on the server', async () => {
  const raw = await rig.raw('writer')
  raw.send(parse('', 'select 1'), parse('', 'select 1; select 2'), bind('', ''), sync(), describe('S', ''), sync())
  assert.deepEqual(await raw.answers(2), ['1', 'E:42601', 'ZI', 'E:26000', 'ZI'])
  raw.end()
})

test('rule 2: the server goes on with the table that a prepared statement meant, when a newer one stands before it on the search path: so does the judgement', async () => {
  await rig.admin.query('create schema scratch authorization writer')
  rig.state.roles = [
    { allow: [{ postgres: 'any', databases: ['shop'], as: ['reader', 'writer'], can: 'any', tables: ['scratch.*', 'pg_temp*.*'] }] },
    {
      allow: [
        {
          postgres: 'any',
          databases: ['shop'],
          as: ['reader', 'writer'],
          can: 'read',
          tables: ['public.*'],
          mask: { 'public.customers.name': 'fixed' },
        },
      ],
    },
  ]
  const raw = await rig.raw('writer')
  const answer = async (...frames: Buffer[]) => {
    raw.send(...frames)
    return (await raw.answers()).join(' ')
  }
  const runs = () => answer(bind('', 's'), describe('P', ''), execute(''), sync())
  try {
    assert.equal(await answer(query('set search_path = scratch, public')), 'C:SET ZI')
    const NAMES = 'select name from customers where id = 1'
    assert.equal(await answer(parse('s', NAMES), sync()), '1 ZI')
    assert.equal(await answer(parse('other', NAMES), sync()), '1 ZI')
    assert.equal(await answer(query(`prepare q as ${NAMES}`)), 'C:PREPARE ZI')
    assert.equal(await runs(), '2 D:*** C:SELECT 1 ZI')
    assert.equal(await answer(query('create table scratch.customers (id int, name text)')), 'C:CREATE TABLE ZI')
    assert.equal(await runs(), 'E:55000 ZI')
    assert.equal(await answer(query('execute q')), 'E:55000 ZI')
    // With another path the server looks anew, and with what is prepared anew.
    assert.equal(await answer(query('set search_path = public')), 'C:SET ZI')
    assert.equal(await runs(), '2 D:*** C:SELECT 1 ZI')
    assert.equal(await answer(query('set search_path = scratch, public')), 'C:SET ZI')
    // Somebody may drop the newer one before the server looks, so the old one counts as well, and no one rule allows both.
    assert.equal(await answer(close('S', 's'), parse('s', NAMES), sync()), '3 E:42501 ZI')
    assert.equal(await answer(parse('s', NAMES.replace('customers', 'scratch.customers')), sync()), '1 ZI')
    assert.equal(await runs(), '2 C:SELECT 0 ZI')
    // A Describe has the server look as well, and no name is moved before it in one breath.
    assert.equal(await answer(query('set search_path = public')), 'C:SET ZI')
    assert.equal(
      await answer(parse('', 'set search_path = scratch, public'), bind('', ''), execute(''), describe('S', 's'), sync()),
      '1 2 C:SET E:42501 ZI',
    )
  } finally {
    raw.end()
    rig.state.roles = [ANYTHING]
  }
})

const sleep = 'select pg_sleep(20)'
const sleeps = [parse('', sleep), bind('', ''), execute('')]
const five = (name: string) => parse(name, 'select 5')
// Each step is one write; a statement that sleeps is cancelled, by its time or by somebody.
const CUT_SHORT: readonly (readonly [string, Buffer[][]])[] = [
  ['a portal of the same transaction', [whole('begin'), [five(''), bind('x', ''), sync()], [...sleeps, sync()], runs('x')]],
  [
    'bound since the savepoint',
    [whole('begin'), whole('savepoint a'), [five(''), bind('x', ''), ...sleeps, sync()], [query('rollback to a')], runs('x')],
  ],
  [
    'bound before the savepoint',
    [whole('begin'), bound('x', 'select 5'), whole('savepoint a'), [...sleeps, sync()], [query('rollback to a')], runs('x')],
  ],
  ['bound before a Query', [whole('begin'), bound('x', 'select 5'), [query('savepoint a')], [query(sleep)], [query('rollback to a')], runs('x')]],
  ['without a transaction', [[five(''), bind('x', ''), ...sleeps, execute('x'), sync()], runs('x')]],
  [
    'a Close that was skipped',
    [
      [five('s'), sync()],
      [...sleeps, close('S', 's'), sync()],
      [bind('', 's'), execute(''), sync(), close('S', 's'), sync()],
    ],
  ],
  [
    'names that were skipped',
    [
      [five('s'), sync()],
      [...sleeps, close('S', 's'), parse('s', 'select 6'), sync()],
      [bind('', 's'), execute(''), sync()],
    ],
  ],
  [
    'a Parse before it',
    [
      [five('s'), ...sleeps, close('S', 's'), sync()],
      [bind('', 's'), execute(''), sync()],
    ],
  ],
  [
    'a portal that was suspended',
    [
      whole('begin'),
      [parse('', 'select generate_series(1, 3)'), bind('x', ''), execute('x', 1), sync()],
      [query('savepoint a')],
      [...sleeps, sync()],
      [query('rollback to a')],
      [execute('x', 1), sync()],
    ],
  ],
  [
    'in a pipeline of several',
    [
      [...sleeps, sync(), five('t'), bind('x', 't'), execute('x'), sync()],
      [bind('', 't'), execute(''), sync()],
    ],
  ],
]

for (const how of ['its time is over', 'somebody cancels it'] as const)
  test(`rule 2: what a client has by name is what the server has, when ${how} in the middle of a pipeline`, async () => {
    for (const [what, steps] of CUT_SHORT) {
      const answers = async (raw: Awaited<ReturnType<typeof rig.raw>>) => {
        raw.send(query("select set_config('application_name', 'cut short', false)"))
        await raw.answers()
        if (how === 'its time is over') {
          raw.send(query("set statement_timeout = '150ms'"))
          await raw.answers()
        }
        const said: string[] = []
        for (const frames of steps) {
          raw.send(...frames)
          const isAsleep = frames.some((frame) => frame.includes('pg_sleep'))
          if (isAsleep && how === 'somebody cancels it')
            await until(async () => {
              const asleep = await rig.admin.query("select pid from pg_stat_activity where wait_event = 'PgSleep'")
              for (const { pid } of asleep.rows) await rig.admin.query('select pg_cancel_backend($1)', [pid])
              return asleep.rowCount !== 0
            })
          const readies = frames.filter((frame) => frame[0] === 0x53 || frame[0] === 0x51).length
          said.push((await raw.answers(readies)).join(' '))
        }
        raw.end()
        return said
      }
      assert.deepEqual(await answers(await rig.raw('writer')), await answers(await rig.rawDirect('writer')), what)
    }
  })
