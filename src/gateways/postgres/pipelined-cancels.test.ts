import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { Stopping } from './conversation/stopping.ts'
import { bind, execute, type RawClient, sync } from './raw.fixture.ts'
import { ANYTHING, type Rig, startRig, until } from './rig.fixture.ts'
import { cancelRequest, parseMessage as parse, queryMessage as query } from './wire/write.ts'

/** Of a table that somebody else holds. */
const SLEEP = 'select count(*) from orders'
const BEHIND = "insert into touched values ('behind')"

let rig: Rig
let raw: RawClient
before(async () => {
  rig = await startRig({ roles: [ANYTHING] })
})
after(() => rig.stop())
beforeEach(async () => {
  await rig.admin.query('truncate touched')
  raw = await rig.raw('writer')
  await rig.admin.query('begin; lock table orders')
  rig.records.length = 0
})
afterEach(async () => {
  raw.end()
  await rig.admin.query('rollback')
})

async function cancel(): Promise<void> {
  const socket = connectTcp(rig.port, '127.0.0.1')
  socket.end(cancelRequest(raw.process, raw.secret))
  await once(socket.resume(), 'close')
}

/** Within a transaction pg_stat_activity stays as it was first read; pg_locks does not. */
const sleeps = () => until(async () => (await rig.admin.query('select from pg_locks where not granted')).rowCount === 1)
const touched = async () => (await rig.admin.query('select count(*)::int as n from touched')).rows[0].n
const outcomes = () => rig.records.map(({ bodies, outcome }) => [bodies.statement, outcome?.status, outcome?.facts?.sqlstate ?? null])

test('a cancel stops the Query that runs, and none of those behind it', async () => {
  raw.send(query(SLEEP), query(BEHIND), query('select 7'))
  await sleeps()
  await cancel()
  assert.deepEqual(await raw.answers(3), ['E:57014', 'ZI', 'C:INSERT 0 1', 'ZI', 'D:7', 'C:SELECT 1', 'ZI'])
  assert.equal(await touched(), 1)
  assert.deepEqual(outcomes(), [
    [SLEEP, 'failed', '57014'],
    [BEHIND, 'ok', null],
    ['select 7', 'ok', null],
  ])
})

test('in a batch the rest up to the Sync is skipped with it, as the server does, and on record as not run', async () => {
  raw.send(parse('', SLEEP), bind('', ''), execute(''), parse('', BEHIND), bind('', ''), execute(''), sync(), query('select 7'))
  await sleeps()
  await cancel()
  assert.deepEqual(await raw.answers(2), ['E:57014', 'ZI', 'D:7', 'C:SELECT 1', 'ZI'])
  assert.equal(await touched(), 0)
  // It waited in its Parse, and never ran.
  assert.deepEqual(outcomes(), [
    [SLEEP, 'failed', null],
    [BEHIND, 'failed', null],
    ['select 7', 'ok', null],
  ])
})

test('a cancel while nothing runs stops nothing that is sent after it', async () => {
  raw.send(query('select 1'))
  await raw.answers()
  await cancel()
  raw.send(query(BEHIND))
  assert.deepEqual(await raw.answers(), ['C:INSERT 0 1', 'ZI'])
})

test('a second cancel that comes while the first is on its way is for what ran then', async () => {
  let at = 'first'
  const begun: string[] = []
  const over: (() => void)[] = []
  const stopping = new Stopping({
    cancel: () => {
      begun.push(at)
      return new Promise((done) => over.push(done))
    },
    isBusy: () => true,
    at: () => at,
    goOn() {},
  })
  stopping.ask()
  stopping.ask()
  at = 'second'
  over.shift()!()
  await Promise.resolve()
  assert.deepEqual(begun, ['first'])
  stopping.ask()
  stopping.ask()
  over.shift()!()
  await Promise.resolve()
  assert.deepEqual(begun, ['first', 'second', 'second'], 'it still runs, so it is asked once more')
})
