import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ChaperoneError } from '../../../errors.ts'
import { ANYTHING, type Rig, startRig, until } from '../rig.fixture.ts'
import { sessionOf, sit, structured, textOf, toolsOf } from './tools.fixture.ts'

let rig: Rig
before(async () => {
  rig = await startRig({ roles: [ANYTHING] })
})
after(() => rig.stop())

const running = async () =>
  (
    await rig.admin.query(
      `select count(*)::int as n from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid() and state = 'active'`,
    )
  ).rows[0].n
const SLEEP = { sql: 'select pg_sleep(60)', as: 'writer' }
const lastOutcome = () => rig.records.findLast(({ action }) => action.operation === 'select')?.outcome?.status

test('rule 6: a lock in the middle of a query ends it in the database, and its outcome is unknown', async () => {
  const desk = sit(toolsOf(rig))
  const asked = desk.call('query', SLEEP)
  await until(async () => (await running()) === 1)
  desk.who.cut()
  const result = await asked
  assert.equal(result.isError, true)
  assert.match(textOf(result), /^Chaperone ended this connection: A lock stops this/)
  await until(async () => (await running()) === 0)
  assert.equal(lastOutcome(), 'unknown')
})

test('a call that is cancelled is cancelled in the database', async () => {
  const desk = sit(toolsOf(rig))
  const cancel = new AbortController()
  const asked = desk.call('query', SLEEP, cancel.signal)
  await until(async () => (await running()) === 1)
  cancel.abort(new ChaperoneError('session_ended', 'Cancelled.'))
  assert.equal((await asked).isError, true)
  await until(async () => (await running()) === 0)
  await until(() => lastOutcome() === 'unknown')
  assert.deepEqual(structured(await desk.call('query', { sql: 'select 1', as: 'writer' })).rows, [[1]])
})

test('a session has a few connections, and more calls at once are refused', async () => {
  const desk = sit(toolsOf(rig, { limits: { connections: 2 } }))
  const cancel = new AbortController()
  const two = [desk.call('query', SLEEP, cancel.signal), desk.call('query', SLEEP, cancel.signal)]
  await until(async () => (await running()) === 2)
  await assert.rejects(desk.call('query', SLEEP), { code: 'too_many' })
  cancel.abort(new ChaperoneError('session_ended', 'Cancelled.'))
  await Promise.all(two)
  await until(async () => (await running()) === 0)
})

test('what a statement sets, locks or makes does not reach the next call', async () => {
  const desk = sit(toolsOf(rig))
  const query = async (sql: string) => structured(await desk.call('query', { sql, as: 'writer' })).rows
  await query(`set datestyle = 'german'`)
  assert.deepEqual(await query('show datestyle'), [['ISO, MDY']])
  await query('create temp table mine (x int)')
  assert.equal((await desk.call('query', { sql: 'select * from mine', as: 'writer' })).isError, true)
  await query('select pg_advisory_lock(7)')
  await until(async () => (await rig.admin.query(`select count(*)::int as n from pg_locks where locktype = 'advisory'`)).rows[0].n === 0)
})

test('a session by bearer token leaves no connection open after a call', async () => {
  const desk = sit(toolsOf(rig), sessionOf('bearer', 'bearer'))
  const pid = async () => structured(await desk.call('query', { sql: 'select pg_backend_pid()', as: 'writer' })).rows[0][0]
  assert.notEqual(await pid(), await pid())
})

test('an idle connection is closed', async () => {
  const desk = sit(toolsOf(rig, { limits: { idleMs: 20 } }))
  await desk.call('query', { sql: 'select 1 as idle_one', as: 'writer' })
  await until(() => desk.who.session.open === 1)
})

test('COPY has no rows here, and the connection is not used again', async () => {
  const desk = sit(toolsOf(rig))
  assert.match(textOf(await desk.call('query', { sql: 'copy customers to stdout', as: 'writer' })), /COPY/)
  assert.match(textOf(await desk.call('query', { sql: 'copy touched from stdin', as: 'writer' })), /COPY|nothing to copy|no data to copy/i)
  assert.deepEqual(structured(await desk.call('query', { sql: 'select 1', as: 'writer' })).rows, [[1]])
})

test('rule 11: a result of more bytes than may be is cancelled, and says so', async () => {
  const desk = sit(toolsOf(rig, { limits: { wireBytes: 1024 * 1024 } }))
  const result = await desk.call('query', { sql: `select repeat('x', 100000) from generate_series(1, 1000)`, as: 'writer' })
  assert.match(textOf(result), /over 1048576 bytes, so the statement was cancelled/)
})

test('a write is whole, however few of its rows are shown', async () => {
  const desk = sit(toolsOf(rig, { limits: { rows: 3 } }))
  const query = async (sql: string) => structured(await desk.call('query', { sql, as: 'writer' }))
  const made = await query(`insert into touched select i from generate_series(1, 20) i returning what`)
  assert.deepEqual([made.rows.length, made.more], [3, true])
  assert.equal((await rig.admin.query('select count(*)::int as n from touched')).rows[0].n, 20)
  const gone = await query(`with d as (delete from touched returning what) select * from d`)
  assert.equal(gone.rows.length, 3)
  assert.equal((await rig.admin.query('select count(*)::int as n from touched')).rows[0].n, 0)
})

test('a write says what it did, and RETURNING gives rows', async () => {
  const desk = sit(toolsOf(rig))
  const result = structured(await desk.call('query', { sql: `insert into touched values ($1), ('') returning what`, params: [null], as: 'writer' }))
  assert.deepEqual([result.command, result.rows], ['INSERT 0 2', [[null], ['']]])
  assert.equal(structured(await desk.call('query', { sql: 'delete from touched', as: 'writer' })).command, 'DELETE 2')
})
