import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { directorySpec } from '../../catalog/directory.ts'
import { ChaperoneError } from '../../errors.ts'
import { makeDelegation } from '../../identity/delegation/delegations.ts'
import { createIdentity, findIdentity } from '../../identity/directory.ts'
import { newId } from '../../ids.ts'
import { browserPlace } from '../place.fixture.ts'
import { createScim } from './app.ts'

const TOKEN = 'a-token-that-nobody-would-guess-0123456789'

async function place(t: TestContext, more: Record<string, unknown> = {}) {
  const here = await browserPlace(t)
  const secrets = new Map([
    ['scim', TOKEN],
    ['short', 'short'],
  ])
  const documents = here.directories
  const document = (name: string, spec: Record<string, unknown> = {}) =>
    documents.set(
      name,
      directorySpec.parse({ scim: { token: { secret: 'scim' } }, groups: 'scim', name: { claim: 'x', domain: 'example.com' }, ...spec }),
    )
  document('company', more)
  const wrong: string[] = []
  const told: string[] = []
  const scim = createScim({
    store: here.store,
    sessions: here.sessions,
    audit: {
      async append(draft) {
        here.records.push(draft as never)
        return { id: 'rec', seq: 1 }
      },
    },
    clock: here.clock,
    raised: async () => {},
    told: async (_, { directory, what }) => void told.push(`${directory}: ${what}`),
    async administratorLeft(trx) {
      const left = (db: typeof trx | typeof here.store.db) =>
        db.selectFrom('identities').select('id').where('state', '=', 'active').where('roles', 'like', '%"administrator"%').executeTakeFirst()
      if ((await left(here.store.db)) && !(await left(trx))) throw new ChaperoneError('conflict', 'Nobody would be left.')
    },
    documents: () => [...documents].map(([name, spec]) => ({ name, spec })),
    reveal: async (name) => {
      const value = secrets.get(name)
      if (value === undefined) throw new ChaperoneError('not_found', 'There is no such secret.')
      return value
    },
    places: { web: 'chaperone.example.org:8443' },
    throttle: (address) => void wrong.push(address),
    log: () => {},
  })
  const ask = async (method: string, path: string, body?: unknown, { token = TOKEN, directory = 'company' } = {}) => {
    const answer = await scim.fetch(
      new Request(`https://chaperone.example.org:8443/scim/v2/${directory}${path}`, {
        method,
        headers: { Authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'Content-Type': 'application/scim+json' }) },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      }),
      '192.0.2.1',
    )
    const text = await answer.text()
    here.clock.advance(1)
    // biome-ignore lint/suspicious/noExplicitAny: answers of many shapes
    return { status: answer.status, body: (text === '' ? undefined : JSON.parse(text)) as any, headers: answer.headers }
  }
  const user = (name: string, more: Record<string, unknown> = {}) =>
    ask('POST', '/Users', {
      schemas: ['urn:ietf:params:scim:schemas:core:2.0:User'],
      userName: `${name}@example.com`,
      externalId: `ext-${name}`,
      active: true,
      ...more,
    })
  const patch = (path: string, ...Operations: unknown[]) =>
    ask('PATCH', path, { schemas: ['urn:ietf:params:scim:api:messages:2.0:PatchOp'], Operations })
  const person = (name: string) => findIdentity(here.store.db, { name })
  return { ...here, scim, ask, user, patch, person, document, secrets, wrong, told }
}

test('what the server says of itself is true: no bulk, no sorting, no ETags', async (t) => {
  const { ask } = await place(t)
  const { body } = await ask('GET', '/ServiceProviderConfig')
  assert.deepEqual([body.patch.supported, body.bulk.supported, body.filter.supported, body.etag.supported], [true, false, true, false])
  assert.deepEqual(
    (await ask('GET', '/ResourceTypes')).body.Resources.map((one: { id: string }) => one.id),
    ['User', 'Group'],
  )
  const { body: schemas } = await ask('GET', '/Schemas')
  assert.equal(schemas.totalResults, 3)
  assert.equal((await ask('GET', `/Schemas/${schemas.Resources[0].id}`)).body.name, 'User')
  assert.equal((await ask('GET', '/Bulk')).status, 404)
})

test('rule 1: without the token of this very directory there is one answer, and it is recorded', async (t) => {
  const { ask, document, secrets, records, wrong, scim } = await place(t)
  document('other', { scim: { token: { secret: 'of-other' } } })
  secrets.set('of-other', 'the-token-of-the-other-directory-0123')
  document('weak', { scim: { token: { secret: 'short' } } })
  document('none', { scim: undefined, groups: 'groups', issuer: 'https://id.example.com', client_id: 'x' })
  const answers = [
    await ask('GET', '/Users', undefined, { token: 'x' }),
    await ask('GET', '/Users', undefined, { directory: 'other' }),
    await ask('GET', '/Users', undefined, { directory: 'absent' }),
    await ask('GET', '/Users', undefined, { directory: 'none' }),
    await ask('GET', '/Users', undefined, { directory: 'weak', token: 'short' }),
    await ask('GET', '/ServiceProviderConfig', undefined, { token: 'x' }),
  ]
  const bare = await scim.fetch(new Request('https://chaperone.example.org:8443/scim/v2/company/Users'), '192.0.2.1')
  assert.equal(bare.status, 401)
  assert.match(bare.headers.get('WWW-Authenticate')!, /^Bearer/)
  for (const { status, body } of answers) assert.deepEqual([status, body], [401, answers[0]!.body])
  assert.equal(records.filter(({ type }) => type === 'credential.refused').length, 7)
  assert.equal(wrong.length, 7)
})

test('a token is changed while the old one still counts', async (t) => {
  const { ask, document, secrets } = await place(t)
  const next = 'the-next-token-of-this-directory-987'
  document('company', { scim: { token: [{ secret: 'scim' }, { secret: 'next' }] } })
  assert.equal((await ask('GET', '/Users')).status, 200, 'the new one is not set yet')
  secrets.set('next', next)
  assert.equal((await ask('GET', '/Users', undefined, { token: next })).status, 200)
  assert.equal((await ask('GET', '/Users')).status, 200)
  document('company', { scim: { token: { secret: 'next' } } })
  assert.equal((await ask('GET', '/Users')).status, 401)
})

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

test('traits follow what the directory writes', async (t) => {
  const { user, patch, person } = await place(t, { traits: { team: 'department', title: 'title' } })
  const key = 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'
  const { body } = await user('mara', { title: 'lead', [key]: { department: 'payments' } })
  assert.deepEqual((await person('mara'))?.traits, { team: 'payments', title: 'lead' })
  await patch(`/Users/${body.id}`, { op: 'Replace', path: `${key}:department`, value: 'search' })
  assert.deepEqual((await person('mara'))?.traits, { team: 'search', title: 'lead' })
})

test('of two that make the same user at once, one does', async (t) => {
  const { user, store } = await place(t)
  const both = await Promise.all([user('mara'), user('mara')])
  assert.deepEqual(both.map(({ status }) => status).sort(), [201, 409])
  assert.equal((await store.db.selectFrom('accounts').selectAll().execute()).length, 1)
})

test('rule 3: a change that cannot be recorded does not happen', async (t) => {
  const { user, patch, records, person } = await place(t)
  const { body } = await user('mara')
  records.push = () => {
    throw new ChaperoneError('audit_unavailable', 'The record cannot be written, so nothing may happen.')
  }
  assert.equal((await patch(`/Users/${body.id}`, { op: 'replace', value: { active: false } })).status, 503)
  assert.equal((await person('mara'))?.state, 'active')
})

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

test('an externalId that another user has, or had, is not given to a second one', async (t) => {
  const { ask, user, patch } = await place(t)
  const { body: mara } = await user('mara')
  const { body: boris } = await user('boris')
  const take = { op: 'replace', path: 'externalId', value: 'ext-mara' }
  assert.deepEqual(((answer) => [answer.status, answer.body.scimType])(await patch(`/Users/${boris.id}`, take)), [409, 'uniqueness'])
  await ask('DELETE', `/Users/${mara.id}`)
  assert.equal((await patch(`/Users/${boris.id}`, take)).status, 409)
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
