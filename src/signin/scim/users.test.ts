import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createIdentity } from '../../identity/directory.ts'
import { place } from './scim.fixture.ts'

test('a person comes, is read, found by filter, and comes only once', async (t) => {
  const { ask, user, person, records } = await place(t)
  const made = await user('mara', {
    name: { givenName: 'Mara', familyName: 'Lind' },
    password: 'never kept',
    emails: [{ value: 'mara@example.com', primary: true }],
  })
  assert.equal(made.status, 201)
  assert.equal(made.headers.get('Location'), `https://chaperone.example.org:8443/scim/v2/company/Users/${made.body.id}`)
  assert.equal(made.body.meta.location, made.headers.get('Location'))
  assert.equal((await person('mara'))?.source, 'directory')
  assert.doesNotMatch(JSON.stringify([made.body, records]), /never kept/)
  assert.deepEqual((await ask('GET', `/Users/${made.body.id}`)).body, made.body)
  for (const filter of [
    'userName eq "MARA@example.com"',
    'externalId eq "ext-mara"',
    'userName eq "mara@example.com" and active eq true',
    'emails.value eq "mara@example.com"',
    'emails[type eq "work"].value eq "mara@example.com"',
    `id eq "${made.body.id}"`,
  ])
    assert.equal((await ask('GET', `/Users?filter=${encodeURIComponent(filter)}`)).body.totalResults, 1, filter)
  for (const filter of ['externalId eq "EXT-MARA"', 'active eq false'])
    assert.equal((await ask('GET', `/Users?filter=${encodeURIComponent(filter)}`)).body.totalResults, 0, filter)
  for (const filter of [
    'userName sw "m"',
    'userName eq "x" or id eq "y"',
    'password eq "x"',
    'userName',
    '(',
    'userName eq "x" and',
    'emails[type eq "work"].value',
    'members[value eq "x"] eq "y"',
  ])
    assert.equal((await ask('GET', `/Users?filter=${encodeURIComponent(filter)}`)).body.scimType, 'invalidFilter', filter)
  const again = await user('mara')
  assert.deepEqual([again.status, again.body.scimType, again.body.schemas], [409, 'uniqueness', ['urn:ietf:params:scim:api:messages:2.0:Error']])
  assert.equal((await user('mara', { externalId: 'another' })).status, 409)
  assert.equal((await user('MARA', { externalId: 'another' })).status, 409)
})

test('pages of users hold all of them once', async (t) => {
  const { ask, user } = await place(t)
  for (const name of ['a1', 'a2', 'a3', 'a4', 'a5']) await user(name)
  const ids: string[] = []
  for (let startIndex = 1; startIndex <= 5; startIndex += 2) {
    const { body } = await ask('GET', `/Users?startIndex=${startIndex}&count=2`)
    assert.equal(body.totalResults, 5)
    assert.equal(body.itemsPerPage, body.Resources.length)
    ids.push(...body.Resources.map((one: { id: string }) => one.id))
  }
  assert.equal(new Set(ids).size, 5)
  assert.equal((await ask('GET', '/Users?count=0')).body.Resources.length, 0)
  assert.equal((await ask('GET', '/Users?startIndex=-3&count=-1')).body.startIndex, 1)
  assert.equal((await ask('GET', '/Users?count=1e9')).status, 400)
  assert.deepEqual(Object.keys((await ask('GET', '/Users?attributes=userName&count=1')).body.Resources[0]).sort(), [
    'id',
    'meta',
    'schemas',
    'userName',
  ])
})

test('attributes change by every path that directories use, and what is read only stays', async (t) => {
  const { user, patch, ask } = await place(t)
  const { body } = await user('mara')
  const at = `/Users/${body.id}`
  await patch(at, { op: 'Add', path: 'emails[type eq "work"].value', value: 'm@example.com' })
  await patch(at, { op: 'Replace', path: 'emails[type eq "work"].value', value: 'mara@example.com' })
  await patch(
    at,
    { op: 'Replace', path: 'name.givenName', value: 'Mara' },
    { op: 'Add', value: { 'name.familyName': 'Lind', displayName: 'Mara Lind' } },
  )
  await patch(at, { op: 'Add', path: 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department', value: 'payments' })
  await patch(at, { op: 'Add', value: { 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User': { costCenter: '7' } } })
  await patch(at, { op: 'replace', value: { id: 'acc_other', groups: [{ value: 'x' }], meta: {} } })
  const { body: after } = await ask('GET', at)
  assert.deepEqual(after.emails, [{ type: 'work', value: 'mara@example.com' }])
  assert.deepEqual([after.name, after.displayName], [{ givenName: 'Mara', familyName: 'Lind' }, 'Mara Lind'])
  assert.deepEqual(after['urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'], { department: 'payments', costCenter: '7' })
  assert.deepEqual([after.id, after.groups], [body.id, undefined])
  await patch(at, { op: 'Remove', path: 'emails[type eq "work"]' }, { op: 'remove', path: 'displayName' })
  const { body: less } = await ask('GET', at)
  assert.deepEqual([less.emails, less.displayName], [[], undefined])
  for (const bad of [
    { op: 'copy', path: 'displayName', value: 'x' },
    { op: 'remove' },
    { op: 'add', path: 'a..b', value: 1 },
    { op: 'add', path: '__proto__', value: {} },
    { op: 'replace', value: 'text' },
    { op: 'replace', path: 'userName', value: 7 },
    { op: 'remove', path: 'userName' },
  ])
    assert.equal((await patch(at, bad)).status, 400, JSON.stringify(bad))
  assert.equal((await ask('PATCH', at, {})).body.scimType, 'invalidSyntax')
  assert.equal((await ask('PATCH', at, '{"a":1,"a":2}')).body.scimType, 'invalidSyntax')
  assert.equal((await ask('PATCH', at, `{"x":"${'y'.repeat(1024 * 1024)}"}`)).status, 413)
  assert.equal((await patch(at, { op: 'add', path: 'title', value: 'y'.repeat(40_000) })).status, 413)
})

test('a person who is here already is linked only by a document, and never by his name', async (t) => {
  const { user, store, clock, person } = await place(t)
  const dana = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'dana', source: 'document', now: clock.now(), roles: ['admin'] }))
  const refused = await user('dana')
  assert.deepEqual([refused.status, refused.body.scimType], [409, 'uniqueness'])
  const spec = JSON.stringify({ roles: ['admin'], traits: {}, account: { directory: 'company', user_name: 'dana@example.com' } })
  await store.db
    .insertInto('documents')
    .values({ id: dana.id, kind: 'user', name: 'dana', labels: '{}', spec, digest: '', owner: null, applied_by: '', updated_at: 0 })
    .execute()
  assert.equal((await user('dana')).status, 201)
  assert.deepEqual([(await person('dana'))?.id, (await person('dana'))?.roles], [dana.id, ['admin']])
})

test('a name with letters of any alphabet is found as it was written, is there once, and gives no name here', async (t) => {
  const { ask, user, store, clock, person } = await place(t)
  const agnes = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'agnes', source: 'document', now: clock.now() }))
  const userName = 'ÄGNES@example.com'
  const spec = JSON.stringify({ account: { directory: 'company', user_name: userName } })
  await store.db
    .insertInto('documents')
    .values({ id: agnes.id, kind: 'user', name: 'agnes', labels: '{}', spec, digest: '', owner: null, applied_by: '', updated_at: 0 })
    .execute()
  assert.equal((await user('agnes', { userName })).status, 201)
  assert.equal((await ask('GET', `/Users?filter=${encodeURIComponent(`userName eq "${userName}"`)}`)).body.totalResults, 1)
  assert.deepEqual((await user('agnes', { userName, externalId: 'another' })).body.detail, 'There is a user with this userName.')
  // In lower case the sign for Kelvin is a k.
  assert.equal((await user('mi\u212ae')).status, 400)
  assert.equal(await person('mike'), undefined)
})

test('traits follow what the directory writes', async (t) => {
  const { user, patch, person } = await place(t, { traits: { team: 'department', title: 'title' } })
  const key = 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'
  const { body } = await user('mara', { title: 'lead', [key]: { department: 'payments' } })
  assert.deepEqual((await person('mara'))?.traits, { team: 'payments', title: 'lead' })
  await patch(`/Users/${body.id}`, { op: 'Replace', path: `${key}:department`, value: 'search' })
  assert.deepEqual((await person('mara'))?.traits, { team: 'search', title: 'lead' })
})

test('an externalId that another user has, or had, is not given to a second one', async (t) => {
  const { ask, user, patch } = await place(t)
  const { body: mara } = await user('mara')
  const { body: boris } = await user('boris')
  const take = { op: 'replace', path: 'externalId', value: 'ext-mara' }
  assert.deepEqual(((answer) => [answer.status, answer.body.scimType])(await patch(`/Users/${boris.id}`, take)), [409, 'uniqueness'])
  await ask('DELETE', `/Users/${mara.id}`)
  assert.equal((await patch(`/Users/${boris.id}`, take)).status, 409)
})
