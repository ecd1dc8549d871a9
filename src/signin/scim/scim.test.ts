import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../../errors.ts'
import { place } from './scim.fixture.ts'

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

test('rule 3: a change that cannot be recorded does not happen', async (t) => {
  const { user, patch, records, person } = await place(t)
  const { body } = await user('mara')
  records.push = () => {
    throw new ChaperoneError('audit_unavailable', 'The record cannot be written, so nothing may happen.')
  }
  assert.equal((await patch(`/Users/${body.id}`, { op: 'replace', value: { active: false } })).status, 503)
  assert.equal((await person('mara'))?.state, 'active')
})
