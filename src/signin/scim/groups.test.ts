import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newId } from '../../ids.ts'
import { place } from './scim.fixture.ts'

test('rule 6: a group gives roles to its members, and takes them back', async (t) => {
  const { ask, user, patch, person, store } = await place(t, { roles: { Engineering: ['developer'], Ops: ['operator', 'developer'] } })
  const [mara, nils] = [(await user('mara')).body.id, (await user('nils')).body.id]
  const roles = async (name: string) => (await person(name))?.roles
  const made = await ask('POST', '/Groups', { displayName: 'Engineering', externalId: 'g-1', members: [{ value: mara }] })
  assert.equal(made.status, 201)
  assert.deepEqual(await roles('mara'), ['developer'])
  const at = `/Groups/${made.body.id}`
  await patch(at, { op: 'Add', path: 'members', value: [{ $ref: null, value: nils }] })
  assert.deepEqual(await roles('nils'), ['developer'])
  assert.deepEqual((await ask('GET', `/Users/${nils}`)).body.groups, [{ value: made.body.id, display: 'Engineering' }])
  const ops = await ask('POST', '/Groups', { displayName: 'Ops', members: [{ value: mara }] })
  assert.deepEqual(await roles('mara'), ['developer', 'operator'])
  const epoch = await store.epoch()
  await patch(at, { op: 'Remove', path: `members[value eq "${mara}"]` })
  assert.ok((await store.epoch()) > epoch)
  assert.deepEqual(await roles('mara'), ['operator', 'developer'], 'the other group gives it still')
  await patch(`/Groups/${ops.body.id}`, { op: 'Remove', path: 'members', value: [{ value: mara }] })
  assert.deepEqual(await roles('mara'), [])
  await patch(at, { op: 'replace', value: { id: made.body.id, displayName: 'Renamed' } })
  assert.deepEqual(await roles('nils'), [], 'another name is another group')
  await patch(at, { op: 'Replace', path: 'displayName', value: 'Engineering' })
  assert.deepEqual(await roles('nils'), ['developer'])
  // Somebody who is away has nothing of it, and has it again when he is back.
  await patch(`/Users/${nils}`, { op: 'replace', value: { active: false } })
  assert.deepEqual(await roles('nils'), [])
  await patch(`/Users/${nils}`, { op: 'replace', value: { active: true } })
  assert.deepEqual(await roles('nils'), ['developer'])
  assert.equal((await ask('DELETE', at)).status, 204)
  assert.deepEqual(await roles('nils'), [])
})

test('groups are found as directories ask for them, and hold only users of their own directory', async (t) => {
  const { ask, user, document, secrets, patch } = await place(t)
  const { body: mara } = await user('mara')
  const { body: group } = await ask('POST', '/Groups', { displayName: 'Engineering', members: [{ value: mara.id }] })
  const found = await ask('GET', `/Groups?excludedAttributes=members&filter=${encodeURIComponent('displayName eq "Engineering"')}`)
  assert.deepEqual([found.body.totalResults, found.body.Resources[0].members], [1, undefined])
  const inside = (id: string) => ask('GET', `/Groups?filter=${encodeURIComponent(`id eq "${group.id}" and members[value eq "${id}"]`)}`)
  assert.equal((await inside(mara.id)).body.totalResults, 1)
  assert.equal((await inside('acc_other')).body.totalResults, 0)
  assert.equal((await ask('POST', '/Groups', { displayName: 'Engineering' })).body.scimType, 'uniqueness')
  document('other', { scim: { token: { secret: 'of-other' } } })
  secrets.set('of-other', 'the-token-of-the-other-directory-0123')
  const others = { directory: 'other', token: 'the-token-of-the-other-directory-0123' }
  assert.equal((await ask('GET', `/Users/${mara.id}`, undefined, others)).status, 404)
  assert.equal((await ask('GET', `/Groups/${group.id}`, undefined, others)).status, 404)
  assert.equal((await ask('DELETE', `/Users/${mara.id}`, undefined, others)).status, 404)
  assert.equal((await ask('POST', '/Groups', { displayName: 'Engineering', members: [{ value: mara.id }] }, others)).status, 400)
  assert.equal((await patch(`/Groups/${group.id}`, { op: 'add', path: 'members', value: [{ value: newId('acc') }] })).status, 400)
})
