import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeDelegation } from '../../identity/delegation/delegations.ts'
import { createIdentity } from '../../identity/directory.ts'
import { place } from './scim.fixture.ts'

// The very shapes that they send, from their own documentation.
const LEAVING: Record<string, unknown[]> = {
  Okta: [{ op: 'replace', value: { active: false } }],
  Entra: [{ op: 'Replace', path: 'active', value: 'False' }],
  'Entra without a path': [{ op: 'Replace', value: { active: 'False' } }],
  'with the name of the schema': [{ op: 'replace', path: 'urn:ietf:params:scim:schemas:core:2.0:User:active', value: false }],
  'in capitals': [{ op: 'replace', path: 'Active', value: false }],
}
for (const [who, operations] of Object.entries(LEAVING)) {
  test(`rule 6: who leaves is stopped with everything that runs as him or for him (${who})`, async (t) => {
    const { user, patch, person, sessions, clock, store, ask } = await place(t)
    const { body } = await user('mara')
    const mara = (await person('mara'))!
    const own = await sessions.start({ identityId: mara.id, chain: [{ identity: mara.id }], how: 'login', lifeMs: 60_000 })
    const agent = await store.write((trx) =>
      createIdentity(trx, { kind: 'agent', name: 'mara/claude', ownerId: mara.id, roles: 'inherit', source: 'client', now: clock.now() }),
    )
    const delegation = await store.write((trx) => makeDelegation(trx, { fromId: mara.id, toId: agent.id, now: clock.now() }))
    const acting = await sessions.start({
      identityId: agent.id,
      chain: [{ identity: mara.id }, { identity: agent.id, delegation: delegation.id }],
      how: 'oauth',
      lifeMs: 60_000,
    })
    assert.equal((await patch(`/Users/${body.id}`, ...operations)).body.active, false)
    assert.equal((await person('mara'))?.state, 'disabled')
    const ended = await store.db.selectFrom('sessions').select(['id', 'end_reason']).where('ended_at', 'is not', null).execute()
    assert.deepEqual(ended.map(({ id }) => id).sort(), [own.id, acting.id].sort())
    // Back: he may act again, and nothing that ran before does.
    assert.equal((await patch(`/Users/${body.id}`, { op: 'Replace', path: 'active', value: 'True' })).body.active, true)
    assert.equal((await person('mara'))?.state, 'active')
    assert.equal((await store.db.selectFrom('sessions').selectAll().where('ended_at', 'is', null).execute()).length, 0)
    assert.equal((await ask('GET', `/Users/${body.id}`)).body.active, true)
  })
}

test('who was disabled by hand is not enabled by a directory', async (t) => {
  const { user, patch, person, store } = await place(t)
  const { body } = await user('mara')
  await store.db.updateTable('identities').set({ state: 'disabled' }).where('name', '=', 'mara').execute()
  await patch(`/Users/${body.id}`, { op: 'replace', value: { active: false } })
  await patch(`/Users/${body.id}`, { op: 'replace', value: { active: true } })
  assert.equal((await person('mara'))?.state, 'disabled')
})

test('a PUT without `active` wakes nobody up, and a body that says nothing new changes nothing', async (t) => {
  const { ask, user, patch, person, records, store } = await place(t)
  const { body } = await user('mara', { displayName: 'Mara' })
  await patch(`/Users/${body.id}`, { op: 'replace', value: { active: false } })
  const { active: _, ...rest } = body
  assert.equal((await ask('PUT', `/Users/${body.id}`, rest)).body.active, false)
  assert.equal((await person('mara'))?.state, 'disabled')
  const [count, epoch] = [records.length, await store.epoch()]
  const same = (await ask('GET', `/Users/${body.id}`)).body
  assert.equal((await ask('PUT', `/Users/${body.id}`, same)).status, 200)
  assert.equal((await patch(`/Users/${body.id}`, { op: 'replace', value: { active: false } })).status, 200)
  assert.deepEqual([records.length, await store.epoch()], [count, epoch])
  assert.equal((await ask('PUT', `/Users/${body.id}`, { ...same, active: 'perhaps' })).body.scimType, 'invalidValue')
  assert.equal((await ask('PUT', `/Users/${body.id}`, { active: true })).status, 400)
})

test('who is deleted is gone for the directory, and his name is nobody else’s', async (t) => {
  const { ask, user, person } = await place(t)
  const { body } = await user('mara')
  const mara = await person('mara')
  assert.equal((await ask('DELETE', `/Users/${body.id}`)).status, 204)
  assert.equal((await person('mara'))?.state, 'disabled')
  for (const method of ['GET', 'DELETE']) assert.equal((await ask(method, `/Users/${body.id}`)).status, 404)
  assert.equal((await ask('GET', '/Users')).body.totalResults, 0)
  const other = await user('mara', { externalId: 'somebody else' })
  assert.deepEqual([other.status, other.body.scimType], [409, 'uniqueness'])
  const back = await user('mara')
  assert.deepEqual([back.status, back.body.id], [201, body.id])
  assert.deepEqual([(await person('mara'))?.id, (await person('mara'))?.state], [mara?.id, 'active'])
})
