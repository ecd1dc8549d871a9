import assert from 'node:assert/strict'
import { test } from 'node:test'
import { place } from './scim.fixture.ts'

// As both send it, from their own documentation and what people report of them.
test("Okta's whole user by PUT, and its pushed groups", async (t) => {
  const { ask, patch, person } = await place(t, { roles: { Engineering: ['developer'] } })
  const okta = {
    schemas: ['urn:ietf:params:scim:schemas:core:2.0:User'],
    userName: 'test.user@example.com',
    name: { givenName: 'Test', familyName: 'User' },
    emails: [{ primary: true, value: 'test.user@example.com', type: 'work' }],
    displayName: 'Test User',
    locale: 'en-US',
    externalId: '00ujl29u0le5T6Aj10h7',
    groups: [],
    password: '1mz050nq',
    active: true,
  }
  assert.equal(
    (await ask('GET', `/Users?filter=${encodeURIComponent('userName eq "test.user@example.com"')}&startIndex=1&count=100`)).body.totalResults,
    0,
  )
  const { body: made, status } = await ask('POST', '/Users', okta)
  assert.equal(status, 201)
  const put = await ask('PUT', `/Users/${made.id}`, {
    ...made,
    ...okta,
    id: made.id,
    name: { givenName: 'Another', familyName: 'User' },
    meta: made.meta,
  })
  assert.deepEqual([put.status, put.body.name.givenName, put.body.id], [200, 'Another', made.id])
  const { body: group } = await ask('POST', '/Groups', {
    schemas: ['urn:ietf:params:scim:schemas:core:2.0:Group'],
    displayName: 'Engineering',
    members: [{ value: made.id, display: 'test.user@example.com' }],
  })
  assert.deepEqual((await person('test.user'))?.roles, ['developer'])
  await patch(`/Groups/${group.id}`, { op: 'replace', value: { id: group.id, displayName: 'Engineering' } })
  assert.deepEqual((await person('test.user'))?.roles, ['developer'])
  await patch(
    `/Groups/${group.id}`,
    { op: 'remove', path: `members[value eq "${made.id}"]` },
    { op: 'add', path: 'members', value: [{ value: made.id, display: 'test.user@example.com' }] },
  )
  assert.deepEqual((await person('test.user'))?.roles, ['developer'])
  assert.equal((await ask('GET', '/Groups?startIndex=1&count=100')).body.Resources[0].displayName, 'Engineering')
  assert.equal((await ask('PUT', `/Users/${made.id}`, { ...okta, id: made.id, active: false })).body.active, false)
  assert.equal((await person('test.user'))?.state, 'disabled')
})

test("Entra's question whether the address works, its user, and its lists of operations", async (t) => {
  const { ask, patch, person } = await place(t)
  const probe = await ask('GET', `/Users?filter=${encodeURIComponent('userName eq "non-existent user"')}`)
  assert.deepEqual([probe.status, probe.body.totalResults, probe.body.Resources], [200, 0, []])
  const enterprise = 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'
  const { body: made } = await ask('POST', '/Users', {
    schemas: ['urn:ietf:params:scim:schemas:core:2.0:User', enterprise],
    externalId: '0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef',
    userName: 'test_user@example.com',
    active: true,
    addresses: [{ primary: false, type: 'work', country: 'x' }],
    emails: [{ primary: true, type: 'work', value: 'test_user@example.com' }],
    meta: { resourceType: 'User' },
    name: { formatted: 'given family', familyName: 'family', givenName: 'given' },
    roles: [],
  })
  const after = await patch(
    `/Users/${made.id}`,
    { op: 'Replace', path: 'emails[type eq "work"].value', value: 'updated@example.com' },
    { op: 'Replace', path: 'name.familyName', value: 'updated' },
    { op: 'Add', path: 'addresses[type eq "work"].formatted', value: 'a street' },
    { op: 'Add', path: `${enterprise}:manager`, value: 'acc_of_somebody' },
    { op: 'Add', path: 'roles', value: [{ value: 'x', primary: 'True' }] },
    { op: 'Replace', value: { displayName: 'New', 'name.givenName': 'newer', [`${enterprise}:department`]: 'payments' } },
  )
  assert.equal(after.status, 200, JSON.stringify(after.body))
  assert.deepEqual(
    [after.body.emails[0].value, after.body.name.familyName, after.body.name.givenName, after.body.displayName, after.body[enterprise].department],
    ['updated@example.com', 'updated', 'newer', 'New', 'payments'],
  )
  assert.equal((await patch(`/Users/${made.id}`, { op: 'Replace', path: 'active', value: 'False' })).body.active, false)
  assert.equal((await person('test_user'))?.state, 'disabled')
  assert.equal((await ask('DELETE', `/Users/${made.id}`)).status, 204)
})
