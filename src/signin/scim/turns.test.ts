import assert from 'node:assert/strict'
import { test } from 'node:test'
import { place } from './scim.fixture.ts'

test('of two that make the same user at once, one does', async (t) => {
  const { user, store } = await place(t)
  const both = await Promise.all([user('mara'), user('mara')])
  assert.deepEqual(both.map(({ status }) => status).sort(), [201, 409])
  assert.equal((await store.db.selectFrom('accounts').selectAll().execute()).length, 1)
})

test('of two changes at the same moment none is lost, and neither sender has to come again', async (t) => {
  const { ask, user, patch, scim: _ } = await place(t)
  const ids: string[] = []
  for (const name of ['u1', 'u2', 'u3', 'u4']) ids.push((await user(name)).body.id)
  const { body: group } = await ask('POST', '/Groups', { displayName: 'All' })
  const answers = await Promise.all(ids.map((value) => patch(`/Groups/${group.id}`, { op: 'Add', path: 'members', value: [{ value }] })))
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200, 200],
  )
  assert.deepEqual((await ask('GET', `/Groups/${group.id}`)).body.members.map((one: { value: string }) => one.value).sort(), [...ids].sort())
  const both = await Promise.all([
    patch(`/Users/${ids[0]}`, { op: 'Replace', path: 'title', value: 'lead' }),
    patch(`/Users/${ids[0]}`, { op: 'Replace', path: 'displayName', value: 'One' }),
  ])
  assert.deepEqual(
    both.map(({ status }) => status),
    [200, 200],
  )
  const { body } = await ask('GET', `/Users/${ids[0]}`)
  assert.deepEqual([body.title, body.displayName], ['lead', 'One'])
})
