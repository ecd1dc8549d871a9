import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import type pg from 'pg'
import { type Rig, startRig, until } from './rig.fixture.ts'

/** LISTEN brings in what others wrote, at any time, and NOTIFY takes it out: both are judged, and what comes by the first as well. */
const may = (more: Record<string, unknown>) => ({ allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], ...more }] })
const WRITES = may({ can: ['read', 'write'] })

let rig: Rig
before(async () => {
  rig = await startRig({ roles: [WRITES] })
})
after(() => rig.stop())
beforeEach(() => {
  rig.state.roles = [WRITES]
  rig.events.length = 0
})

async function listener(channel: string) {
  const it = await rig.connect('writer')
  const heard: string[] = []
  it.on('notification', ({ payload }) => heard.push(payload ?? ''))
  await it.query(`listen ${channel}`)
  return { it, heard }
}

/** Asked of the server after the notification, so that it came before the answer. */
const answered = async (it: pg.Client) => void (await it.query('select 1'))
const refused = () => rig.events.filter(({ type }) => type === 'message.refused')

test('LISTEN is a write, and of tables that nobody can tell: a rule on tables does not allow it, and a denied table meets it', async () => {
  const it = await rig.connect('writer')
  const code = (sql: string) =>
    it.query(sql).then(
      () => 'ok',
      (error: { code: string }) => error.code,
    )
  for (const [roles, listen, notify] of [
    [[WRITES], 'ok', '42501'],
    [[may({ can: 'read' })], '42501', '42501'],
    [[may({ can: ['read', 'write'], tables: ['public.orders'] })], '42501', '42501'],
    [[may({ can: 'read' }), may({ statements: ['listen'] })], 'ok', '42501'],
    [[may({ can: ['read', 'write', 'egress'] })], 'ok', 'ok'],
    [[{ ...WRITES, deny: [{ postgres: 'any', tables: ['public.customers'] }] }], '42501', '42501'],
    [[may({ can: ['read', 'write'], mask: { 'public.customers.name': 'fixed' } })], '42501', '42501'],
  ] as const) {
    rig.state.roles = roles
    assert.deepEqual(
      [await code('listen news'), await code("notify news, 'x'"), await code('unlisten *')],
      [listen, notify, 'ok'],
      JSON.stringify(roles),
    )
  }
  await it.end()
})

test('rule 6: nothing more comes by a LISTEN once nobody has a right to it, and that is on record once', async () => {
  const { it, heard } = await listener('"two words"')
  await rig.admin.query(`notify "two words", 'one'`)
  await until(() => heard.length === 1)
  rig.state.roles = [may({ can: 'read' })]
  await rig.admin.query(`notify "two words", 'two'`)
  await rig.admin.query(`notify "two words", 'three'`)
  await until(() => refused().length === 1)
  await answered(it)
  assert.deepEqual(heard, ['one'])
  assert.equal(refused().length, 1)
  assert.doesNotMatch(JSON.stringify(refused()), /three/)
  rig.state.roles = [WRITES]
  await rig.admin.query(`notify "two words", 'four'`)
  await until(() => heard.length === 2)
  assert.deepEqual(heard, ['one', 'four'])
  await it.end()
})

test('rule 6: what a rule has begun to hide does not come by a LISTEN of before', async () => {
  const { it, heard } = await listener('changes')
  rig.state.roles = [may({ can: ['read', 'write'], mask: { 'public.customers.name': 'fixed' } })]
  await rig.admin.query("notify changes, 'customer 1'")
  await until(() => refused().length === 1)
  await answered(it)
  assert.deepEqual(heard, [])
  await it.end()
})
