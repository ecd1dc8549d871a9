import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { manualClock } from '../../clock.ts'
import { RECENT_MS, REFRESH_MS } from './mirror/mirrors.ts'
import { bind, execute, sync } from './raw.fixture.ts'
import { type Rig, startRig } from './rig.fixture.ts'
import { parseMessage as parse, queryMessage as query } from './wire/write.ts'

/** What stands behind a name may be replaced by whoever owns it, on connections that are none of ours: nothing tells of that. */
const clock = manualClock(Date.now())
const SHOWS = 'create or replace view seen as select 1 as id, 2 as n'
const READS = 'create or replace view seen as select id, 2 as n from customers where id = 1'
const BUT_CUSTOMERS = {
  allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: 'read' }],
  deny: [{ postgres: 'any', tables: ['public.customers'] }],
}

let rig: Rig
before(async () => {
  rig = await startRig({ clock, roles: [BUT_CUSTOMERS] })
  await rig.admin.query(`${SHOWS}; grant select on seen to writer; create function pick() returns int language sql stable as 'select 1'`)
})
after(() => rig.stop())
beforeEach(async () => {
  rig.state.roles = [BUT_CUSTOMERS]
  await rig.admin.query(SHOWS)
})
const open: { end(): unknown }[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one.end()
})

async function raw() {
  const it = await rig.raw('writer')
  open.push(it)
  return async (...frames: Buffer[]) => {
    it.send(...frames)
    return (await it.answers()).join(' ')
  }
}

test('rule 2: what a view reads is believed for a second, and looked at again before a statement goes through it', async () => {
  assert.ok(RECENT_MS < REFRESH_MS)
  const answer = await raw()
  assert.equal(await answer(query('select n from seen')), 'D:2 C:SELECT 1 ZI')
  await rig.admin.query(READS)
  clock.advance(RECENT_MS)
  assert.equal(await answer(query('select n from seen')), 'E:42501 ZI')
  await rig.admin.query(SHOWS)
  clock.advance(RECENT_MS)
  assert.equal(await answer(query('select n from seen')), 'D:2 C:SELECT 1 ZI')
})

test('rule 2: so it is with a function, which a role allows for what it says of itself', async () => {
  rig.state.roles = [{ allow: BUT_CUSTOMERS.allow }]
  const answer = await raw()
  assert.equal(await answer(query('select pick()')), 'D:1 C:SELECT 1 ZI')
  await rig.admin.query("create or replace function pick() returns int language sql as 'insert into touched values (1); select 1'")
  clock.advance(RECENT_MS)
  assert.equal(await answer(query('select pick()')), 'E:42501 ZI')
})

test('rule 2: so it is between Parse and Bind, by EXECUTE, and where the view was dropped and made anew', async () => {
  const answer = await raw()
  assert.equal(await answer(parse('s', 'select n from seen'), sync()), '1 ZI')
  assert.equal(await answer(query('prepare p as select n from seen')), 'C:PREPARE ZI')
  for (const how of [READS, 'drop view seen; create view seen as select id, 2 as n from customers; grant select on seen to writer']) {
    await rig.admin.query(how)
    clock.advance(RECENT_MS)
    assert.equal(await answer(bind('', 's'), execute(''), sync()), 'E:42501 ZI', how)
    assert.equal(await answer(query('execute p')), 'E:42501 ZI', how)
  }
})
