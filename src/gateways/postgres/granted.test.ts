import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { systemClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { bind, execute, flush, message, sync } from './raw.fixture.ts'
import { READER, type Rig, startRig, until, WRITER } from './rig.fixture.ts'
import { parseMessage as parse, queryMessage as query } from './wire/write.ts'

/** A role that was granted until a minute: in the connection that is open it begins, works, and ends. */

let rig: Rig
/** How much sooner than they ask for timers fire. */
let hurry = 1
before(async () => {
  const clock = { ...systemClock, at: (at: number, wake: () => void) => systemClock.at(Date.now() + (at - Date.now()) / hurry, wake) }
  rig = await startRig({ roles: [READER], clock })
  await rig.admin.query(`
    create function stubborn() returns int language plpgsql as $$ begin
      for i in 1..2000 loop begin perform pg_sleep(0.01); exception when query_canceled then null; end; end loop; return 1; end $$`)
})
after(() => rig.stop())
beforeEach(async () => {
  hurry = 1
  rig.state.roles = [READER]
  grant(WRITER)
  rig.records.length = 0
  await rig.admin.query('truncate touched')
})

/** As every change of rights does; else a session is only looked at again when a second is over, which on a slow machine it may be at any time. */
function moved(): void {
  const resources = rig.parts.resources as { revision: number }
  resources.revision++
}

function grant(...specs: Record<string, unknown>[]): void {
  moved()
  rig.state.granted = specs.map((spec) => ({ spec, until: Date.now() + 600_000 }))
}
function end(newestFirst = false): void {
  moved()
  rig.state.granted = []
  rig.endGranted(newestFirst)
}
/** Minutes, without anything but reading and writing. */
const SLOW = 'insert into touched select count(*) from orders a, orders b, orders c, orders d, orders slow'
const isActive = async () =>
  (await rig.admin.query("select 1 from pg_stat_activity where usename = 'writer' and state = 'active' and query like '%slow%'")).rowCount === 1
const touched = async () => (await rig.admin.query('select count(*)::int as n from touched')).rows[0].n as number
const last = () => rig.records.at(-1)!

test('rule 6: a statement that rests on a grant is cancelled at its minute, and the connection goes on with the other roles', async () => {
  for (const extended of [false, true]) {
    const client = await rig.connect('writer')
    const slow = client.query(extended ? { text: `${SLOW} where $1`, values: [true] } : SLOW)
    await until(isActive)
    const record = last()
    end()
    await assert.rejects(slow, (error: Record<string, string>) => {
      assert.equal(error.code, '57014')
      assert.equal(error.message, 'Chaperone cancelled this: The time in which the rule allows this is over.')
      assert.equal(error.detail, 'reason no_rule')
      assert.match(error.hint!, /goes on with what your other roles allow/)
      return true
    })
    assert.equal((await client.query('select 1 as one')).rows[0].one, 1)
    await assert.rejects(client.query(SLOW), { code: '42501' })
    assert.deepEqual([record.outcome?.status, record.outcome?.facts?.sqlstate, record.outcome?.facts?.reason], ['failed', '57014', 'no_rule'])
    assert.equal(await isActive(), false)
    assert.equal(await touched(), 0)
    grant(WRITER)
    assert.equal((await client.query("insert into touched values ('again')")).rowCount, 1, 'given again, it works again')
    await client.end()
    await rig.admin.query('truncate touched')
  }
})

test('in a transaction it is aborted where it lives, until ROLLBACK', async () => {
  const raw = await rig.raw('writer')
  raw.send(query("begin; insert into touched values ('x')"))
  await raw.until('Z')
  raw.send(query(SLOW))
  await until(isActive)
  end()
  assert.deepEqual(await raw.answers(), ['E:57014', 'ZE'])
  raw.send(query('select 1'), query('rollback'), query('select 2'))
  assert.deepEqual(await raw.answers(3), ['E:25P02', 'ZE', 'C:ROLLBACK', 'ZI', 'D:2', 'C:SELECT 1', 'ZI'])
  assert.equal(await touched(), 0)
  raw.end()
})

test('what was admitted and not executed yet is not executed; what waits behind a statement of another role is stopped in its turn', async () => {
  const raw = await rig.raw('writer')
  raw.send(parse('', "insert into touched values ('x')"), bind('', ''), flush())
  assert.equal(await raw.until('2'), '12')
  const record = last()
  end()
  assert.deepEqual([record.outcome?.status, record.outcome?.facts?.sent], ['failed', false])
  raw.send(execute(''), sync())
  assert.deepEqual(await raw.answers(), ['E:57014', 'ZI'])
  grant(WRITER)
  raw.send(query('select count(*) from orders a, orders b, orders c where a.id < 40'), query(SLOW))
  await until(() => rig.records.filter(({ action }) => action.operation === 'insert').length === 2)
  await until(isActive)
  end()
  assert.deepEqual(await raw.answers(2), [`D:${39 * 200 * 200}`, 'C:SELECT 1', 'ZI', 'E:57014', 'ZI'])
  assert.equal(await touched(), 0)
  raw.end()
})

test('rule 6: no row passes after the minute, and a result without its last rows ends in an error', async () => {
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'read', statements: ['show'] }] }]
  grant(READER)
  const raw = await rig.raw('writer')
  raw.send(query('select a.id from orders a, orders b, orders c, orders d'))
  await raw.until('D')
  end()
  // Those that were on their way to the client before the end are behind the first; the server itself would send for minutes.
  assert.match(await raw.until('Z'), /^D*EZ$/)
  raw.send(query('show work_mem'))
  assert.match((await raw.answers())[1]!, /^C:SHOW/)
  raw.end()
})

test('a database user that only a grant gives: it connects, works, and ends with the connection, whatever is cut first', async () => {
  for (const newestFirst of [false, true]) {
    rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: ['reader'], can: 'read' }] }]
    end()
    await assert.rejects(rig.connect('writer'), { code: '42501' })
    grant(WRITER)
    const [idle, busy] = [await rig.connect('writer'), await rig.connect('writer')]
    const lost = new Promise<Error>((done) => idle.on('error', done))
    assert.equal((await idle.query("insert into touched values ('x')")).rowCount, 1)
    const slow = busy.query(SLOW)
    await until(isActive)
    end(newestFirst)
    await assert.rejects(slow, { code: '57P01', message: /The time in which the rule allows this is over/ })
    assert.match(String(await lost), /The time in which the rule allows this is over/)
    await until(async () => !(await isActive()))
    await until(() => rig.open.size === 0)
    await assert.rejects(rig.connect('writer'), { code: '42501' })
    assert.equal(await touched(), 1)
    await rig.admin.query('truncate touched')
  }
})

test('rule 6: what does not stop, or cannot be stopped, ends its connection', async () => {
  rig.state.roles = [READER]
  grant({ allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'any' }] })
  const stubborn = await rig.connect('writer')
  const runs = stubborn.query('select stubborn() /* slow */')
  await until(isActive)
  hurry = 50
  end()
  await assert.rejects(runs, { code: '57P01' })
  // It does not listen to a cancel, and its server looks for its client only when it has something to say.
  await rig.admin.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where query like '%stubborn() /* slow */%' and pid <> pg_backend_pid()",
  )

  hurry = 1
  grant(WRITER)
  const copying = await rig.raw('writer')
  copying.send(query('copy touched from stdin'))
  await copying.until('G')
  copying.send(message('d', Buffer.from('x\n')))
  end()
  assert.equal((await copying.error()).get('C'), '57P01')
  await until(() => rig.open.size === 0)
  assert.equal(await touched(), 0)
})

test('a right that ends by anything but its time ends the connection, as a lock does', async () => {
  const client = await rig.connect('writer')
  const slow = client.query(SLOW)
  await until(isActive)
  for (const { permit, controller } of [...rig.open.values()])
    if (permit.action.operation === 'insert') controller.abort(new ChaperoneError('locked', 'A lock stops this.'))
  await assert.rejects(slow, { code: '57P01', message: /A lock stops this/ })
})
