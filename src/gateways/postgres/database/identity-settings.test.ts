import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ANYTHING, type Rig, startRig } from '../rig.fixture.ts'

let rig: Rig
before(async () => {
  rig = await startRig({ roles: [ANYTHING] })
})
after(() => rig.stop())

const asked = `select current_setting('chaperone.identity') as identity, current_setting('chaperone.name') as name, current_setting('chaperone.chain') as chain,
  current_setting('chaperone.session') as session, current_setting('chaperone.purpose') as purpose`

test('the database is told who acts, on whose behalf, in which session and for what', async () => {
  const client = await rig.connect('reader')
  const { rows } = await client.query(asked)
  const { session, ...others } = rows[0] as Record<string, string>
  assert.deepEqual(others, { identity: 'agt_boris-ai', name: 'boris-ai', chain: 'boris>boris-ai', purpose: '' })
  assert.match(session ?? '', /^ses_/)
  await client.end()
})

test('no statement changes who acts, under any rule, and what leads back to the start leads back to it', async () => {
  const client = await rig.connect('writer')
  for (const sql of [
    "set chaperone.identity = 'usr_dana'",
    'set session "Chaperone"."IDENTITY" = \'usr_dana\'',
    "set local chaperone.chain to 'dana'",
    'reset chaperone.name',
    'set chaperone.purpose to default',
    "select set_config('chaperone.session', 'ses_other', false)",
    "select pg_catalog.set_config('CHAPERONE.identity', 'usr_dana', true)",
    "select set_config('chaperone' || '.identity', 'usr_dana', false)",
    "alter role reader set chaperone.identity = 'usr_dana'",
    "alter database shop set chaperone.name to 'dana'",
    "alter system set chaperone.chain = 'dana'",
    'alter role all in database shop reset chaperone.purpose',
    "create function as_dana() returns int language sql set chaperone.identity = 'usr_dana' as 'select 1'",
    "alter function touch() set chaperone.identity to 'usr_dana'",
    "update pg_settings set setting = 'usr_dana' where name = 'chaperone.identity'",
  ])
    await assert.rejects(client.query(sql), (error: { code: string; detail?: string; message: string }) => {
      assert.equal(error.code, '42501', `${sql}: ${error.message}`)
      assert.match(error.message, /Chaperone refused/)
      return true
    })
  const before = (await client.query(asked)).rows
  await client.query('reset all')
  assert.deepEqual((await client.query(asked)).rows, before)
  await client.query('discard all')
  assert.deepEqual((await client.query(asked)).rows, before)
  await client.end()
})

test('a client does not begin as somebody else', async () => {
  for (const more of [
    { 'chaperone.identity': 'usr_dana' },
    { 'Chaperone.Chain': 'dana' },
    { options: '-c chaperone.identity=usr_dana' },
    { options: '--chaperone.chain=dana' },
  ])
    await assert.rejects(rig.raw('reader', more as unknown as Record<string, string>), /is not accepted|not known/, JSON.stringify(more))
})

test('what a role or a database sets as its default does not stand in for who acts', async () => {
  await rig.admin.query("alter role reader set chaperone.identity = 'usr_dana'; alter database shop set chaperone.name = 'dana'")
  const client = await rig.connect('reader')
  const { rows } = await client.query(asked)
  assert.deepEqual([rows[0].identity, rows[0].name], ['agt_boris-ai', 'boris-ai'])
  await client.end()
})

test('a row policy by identity shows each one its own rows', async () => {
  await rig.admin.query(`create table tickets (id int primary key, owner text not null, body text);
    insert into tickets values (1, 'boris', 'mine'), (2, 'dana', 'hers');
    alter table tickets enable row level security; grant select on tickets to reader;
    create policy own_tickets on tickets for select to reader using (owner = split_part(current_setting('chaperone.chain', true), '>', 1))`)
  const client = await rig.connect('reader')
  assert.deepEqual((await client.query('select id, owner from tickets')).rows, [{ id: 1, owner: 'boris' }])
  await client.end()
  // Around Chaperone the setting is whatever somebody writes: why the policy must not be the only fence there.
  const direct = await rig.direct('reader')
  assert.deepEqual((await direct.query('select id from tickets')).rows, [])
  await direct.query("set chaperone.chain = 'dana'")
  assert.deepEqual((await direct.query('select id from tickets')).rows, [{ id: 2 }])
  await direct.end()
})
