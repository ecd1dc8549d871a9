import assert from 'node:assert/strict'
import { test } from 'node:test'
import { place } from './scim.fixture.ts'

test('the last administrator is not stopped from outside: it is refused, recorded, and nothing has changed; with another one he goes', async (t) => {
  const { ask, user, patch, person, store, records } = await place(t)
  const { body } = await user('mara')
  const { body: other } = await user('boris')
  const promote = (name: string) =>
    store.write((trx) => trx.updateTable('identities').set({ roles: '["administrator"]' }).where('name', '=', name).execute())
  await promote('mara')
  const leave = { op: 'replace', path: 'active', value: false }
  for (const answer of [await patch(`/Users/${body.id}`, leave), await ask('DELETE', `/Users/${body.id}`)]) {
    assert.deepEqual([answer.status, answer.body.scimType], [409, undefined])
    assert.deepEqual((records.at(-1) as { outcome?: unknown }).outcome, { status: 'refused', reason: 'conflict' })
  }
  assert.equal((await person('mara'))?.state, 'active')
  assert.equal((await ask('GET', `/Users/${body.id}`)).body.active, true)
  assert.equal((await patch(`/Users/${other.id}`, leave)).status, 200, 'whoever is none leaves as ever')
  assert.equal((await patch(`/Users/${other.id}`, { ...leave, value: true })).status, 200)
  await promote('boris')
  assert.equal((await patch(`/Users/${body.id}`, leave)).status, 200)
  assert.equal((await person('mara'))?.state, 'disabled')
})

test('the last administrator by a group keeps it: taken out, renamed or deleted is refused, recorded, and nothing has changed', async (t) => {
  const { ask, user, patch, person, store, records, told } = await place(t, { roles: { Admins: ['administrator'], Staff: ['reader'] } })
  const { body: mara } = await user('mara')
  const { body: boris } = await user('boris')
  const { body: group } = await ask('POST', '/Groups', { displayName: 'Admins', members: [{ value: mara.id }] })
  const at = `/Groups/${group.id}`
  const epoch = await store.epoch()
  for (const answer of [
    await patch(at, { op: 'remove', path: `members[value eq "${mara.id}"]` }),
    await patch(at, { op: 'replace', path: 'displayName', value: 'Former' }),
    await ask('PUT', at, { displayName: 'Admins', members: [{ value: boris.id }].slice(1) }),
    await ask('DELETE', at),
  ]) {
    assert.equal(answer.status, 409, JSON.stringify(answer.body))
    assert.match(answer.body.detail, /Nobody would be left/)
    const last = records.at(-1) as { outcome?: unknown; data?: Record<string, unknown> }
    assert.deepEqual([last.outcome, last.data?.refused], [{ status: 'refused', reason: 'conflict' }, 'nobody would be left to administer'])
  }
  assert.deepEqual((await person('mara'))?.roles, ['administrator'])
  assert.equal(await store.epoch(), epoch)
  assert.deepEqual(told, ['company: group changed', 'company: group changed', 'company: group changed', 'company: group deleted'])
  // In one request somebody else becomes one: then she goes.
  assert.equal((await ask('PUT', at, { displayName: 'Admins', members: [{ value: boris.id }] })).status, 200)
  assert.deepEqual([(await person('mara'))?.roles, (await person('boris'))?.roles], [[], ['administrator']])
})
