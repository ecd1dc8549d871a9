import assert from 'node:assert/strict'
import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { SignJWT } from 'jose'
import { newId } from '../../src/ids.ts'
import { tampered } from '../parts/tampered.ts'
import { type Rig, rig, type Tokens } from './rig.ts'

const ISSUER = 'https://id.example.com'
const keyPair = (kid: string) => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { kid, privateKey, jwks: JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' }] }) }
}
const job = keyPair('job')
const helper = keyPair('helper')
const desk = keyPair('desk')
const company = keyPair('company')

const DOCUMENTS = `---
kind: agent
name: job
spec: { owner: erik, roles: [user-of-files], oauth: { jwks: ${job.jwks} } }
---
kind: agent
name: helper
spec: { owner: erik, roles: [user-of-files], oauth: { jwks: ${helper.jwks} } }
---
kind: directory
name: company
spec: { issuer: "${ISSUER}", client_id: chaperone, jwks: ${company.jwks} }
---
kind: oauth-client
name: desk
spec: { client_id: desk, client_name: Desk, directories: [company], profile: reading, jwks: ${desk.jwks} }
`

interface Assertion {
  readonly key?: KeyObject
  readonly header?: Record<string, unknown>
  readonly claims?: Record<string, unknown>
}

describe('machines get tokens', () => {
  let r: Rig
  const after: (() => Promise<void>)[] = []
  const seconds = () => Math.floor(Date.now() / 1000)
  before(async () => {
    r = await rig({ after: (work) => void after.push(work) }, {}, DOCUMENTS)
    const { store } = r.home.server.parts
    const boris = await store.db.selectFrom('identities').select('id').where('name', '=', 'boris').executeTakeFirstOrThrow()
    const account = { id: newId('acc', Date.now()), directory: 'company', subject: `${ISSUER} b-17`, identity_id: boris.id, external_id: null }
    const rest = {
      user_name: 'boris',
      email: null,
      data: '{}',
      groups: '[]',
      active: 1,
      created_at: 0,
      updated_at: 0,
      last_login_at: null,
      deleted_at: null,
    }
    await store.write((trx) =>
      trx
        .insertInto('accounts')
        .values({ ...account, ...rest })
        .execute(),
    )
  })
  test.after(async () => {
    for (const work of after.reverse()) await work()
  })

  const proof = (who: typeof job, name: string, { key = who.privateKey, header, claims }: Assertion = {}): Promise<string> =>
    new SignJWT({ jti: randomUUID(), iss: name, sub: name, aud: `https://${r.web}`, iat: seconds(), exp: seconds() + 60, ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: who.kid, ...header })
      .sign(key)
  const as = async (who: typeof job, name: string, assertion?: Assertion) => ({
    client_id: name,
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: await proof(who, name, assertion),
  })
  const credentials = async (assertion?: Assertion, more: Record<string, string> = {}): Promise<Tokens> =>
    r.token({ grant_type: 'client_credentials', resource: r.resource(), ...(await as(job, 'job', assertion)), ...more })

  test('an agent by its key, for one server', async () => {
    const tokens = await credentials()
    assert.equal(tokens.status, 200, JSON.stringify(tokens))
    assert.equal(tokens.refresh_token, undefined)
    assert.equal((await r.mcp(tokens.access_token)).status, 200)
    assert.equal((await r.mcp(tokens.access_token, 'other')).status, 401)
    assert.ok(
      r.records.some(({ type, actor, data }) => type === 'session.started' && actor?.name === 'job' && (data as { how: string }).how === 'oauth'),
    )
  })

  test('rule 7: who asks for reading alone gets no more than that, or nothing', async () => {
    const refused = await credentials(undefined, { scope: 'mcp:read' })
    assert.equal(refused.status, 400)
    assert.equal(refused.error, 'invalid_scope')
    const made = (await r.token({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: (await credentials()).access_token,
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      scope: 'mcp:read',
      ...(await as(helper, 'helper')),
    })) as Tokens & { readonly scope?: string }
    assert.equal(made.scope, 'mcp:read', JSON.stringify(made))
    const [newest] = await r.home.server.parts.store.db.selectFrom('delegations').select('limits').orderBy('id', 'desc').limit(1).execute()
    assert.deepEqual(JSON.parse(newest!.limits), { effects: ['read'] })
  })

  test('rule 11: an agent that asks over and over does not fill the store', async () => {
    await credentials()
    const { store } = r.home.server.parts
    const sessions = store.db.selectFrom('sessions').innerJoin('identities', 'identities.id', 'sessions.identity_id').selectAll('sessions')
    const row = await sessions.where('identities.name', '=', 'job').executeTakeFirstOrThrow()
    const many = Array.from({ length: 1000 }, (_, i) => ({ ...row, id: `ses_many${i}` }))
    await store.write(async (trx) => {
      for (let from = 0; from < many.length; from += 100)
        await trx
          .insertInto('sessions')
          .values(many.slice(from, from + 100))
          .execute()
    })
    const refused = await credentials()
    await store.write((trx) => trx.deleteFrom('sessions').where('id', 'like', 'ses_many%').execute())
    assert.equal(refused.error, 'temporarily_unavailable')
    assert.equal((await credentials()).status, 200)
  })

  test('and by nothing else: another key, another audience, an old one, one without end, one used before', async () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const bad: Assertion[] = [
      { key: other },
      { claims: { aud: 'https://elsewhere.example.com' } },
      { claims: { exp: seconds() - 60, iat: seconds() - 120 } },
      { claims: { exp: undefined } },
      { claims: { jti: undefined } },
      { claims: { iss: 'helper' } },
      // Whoever runs another server and names our token endpoint as its own would be handed this one.
      { claims: { aud: `https://${r.web}/oauth/token` } },
      { claims: { aud: [`https://${r.web}`, 'https://elsewhere.example.com'] } },
      { claims: { exp: seconds() + 2 * 3600 } },
      { claims: { iat: seconds() + 600 } },
      // The same key signs to join, and perhaps tokens of its own.
      { header: { typ: 'chaperone-join+jwt' } },
      { header: { typ: 'at+jwt' } },
    ]
    for (const assertion of bad) assert.notEqual((await credentials(assertion)).status, 200, JSON.stringify(assertion))
    for (const good of [{ claims: { aud: [`https://${r.web}`] } }, { header: { typ: 'client-authentication+jwt' } }, { header: { typ: 'JWT' } }])
      assert.equal((await credentials(good)).status, 200, JSON.stringify(good))
    const jti = randomUUID()
    assert.equal((await credentials({ claims: { jti } })).status, 200)
    assert.notEqual((await credentials({ claims: { jti } })).status, 200)
    const unproven = await r.token({ grant_type: 'client_credentials', client_id: 'job', resource: r.resource() })
    assert.notEqual(unproven.status, 200)
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify({ iss: 'job', sub: 'job', aud: `https://${r.web}`, jti: 'x', exp: seconds() + 60 })).toString('base64url')}.`
    assert.notEqual((await credentials(undefined, { client_assertion: none })).status, 200)
  })

  test('an agent hands on what it has to another, which proves that it is that one (RFC 8693)', async () => {
    const subject = await credentials()
    const exchange = async (more: Record<string, string> = {}) =>
      r.token({
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token: subject.access_token,
        subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        ...(await as(helper, 'helper')),
        ...more,
      })
    const made = await exchange()
    assert.equal(made.status, 200, JSON.stringify(made))
    const { act, sub } = JSON.parse(Buffer.from(made.access_token.split('.')[1]!, 'base64url').toString()) as { act: { sub: string }; sub: string }
    const names = await r.home.server.parts.store.db.selectFrom('identities').select(['id', 'name']).execute()
    assert.deepEqual(
      [sub, act.sub].map((id) => names.find((one) => one.id === id)?.name),
      ['job', 'helper'],
    )
    assert.equal((await r.mcp(made.access_token)).status, 200)
    assert.equal((await r.mcp(made.access_token, 'other')).status, 401)
    assert.notEqual((await exchange({ resource: r.resource('other') })).status, 200)
    assert.notEqual((await exchange({ subject_token: tampered(subject.access_token) })).status, 200)
    assert.notEqual((await exchange({ subject_token_type: 'urn:ietf:params:oauth:token-type:id_token' })).status, 200)
  })

  describe('the company says that a client may act for a person (ID-JAG)', () => {
    const jag = async ({ key = company.privateKey, header, claims }: Assertion = {}) =>
      new SignJWT({
        iss: ISSUER,
        sub: 'b-17',
        aud: `https://${r.web}`,
        client_id: 'desk',
        resource: r.resource(),
        jti: randomUUID(),
        iat: seconds(),
        exp: seconds() + 300,
        ...claims,
      })
        .setProtectedHeader({ alg: 'ES256', kid: 'company', typ: 'oauth-id-jag+jwt', ...header })
        .sign(key)
    const bring = async (assertion: string, more: Record<string, string> = {}) =>
      r.token({ grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion, ...(await as(desk, 'desk')), ...more })

    test('it is believed once, with the limits of the client document', async () => {
      const assertion = await jag()
      const tokens = await bring(assertion)
      assert.equal(tokens.status, 200, JSON.stringify(tokens))
      assert.equal((await r.mcp(tokens.access_token)).status, 200)
      assert.notEqual((await bring(assertion)).status, 200)
      const made = r.records.find(({ type, data }) => type === 'delegation.made' && (data as { by?: string }).by === 'company')
      assert.ok(made)
      assert.deepEqual((made.data as { limits: { effects: string[] } }).limits.effects, ['read'])
    })

    test('it is not believed of another issuer, kind, key, client, audience, person or resource, or when it is old or long', async () => {
      const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
      const bad: readonly Assertion[] = [
        { key: other },
        { header: { typ: 'JWT' } },
        { header: { typ: undefined } },
        { claims: { iss: 'https://elsewhere.example.com' } },
        { claims: { client_id: 'job' } },
        { claims: { aud: 'https://elsewhere.example.com' } },
        { claims: { aud: [`https://${r.web}`, 'https://elsewhere.example.com'] } },
        { claims: { sub: 'nobody' } },
        { claims: { resource: 'https://elsewhere.example.com/mcp' } },
        { claims: { resource: undefined } },
        { claims: { jti: undefined } },
        { claims: { iat: seconds() - 700, exp: seconds() - 400 } },
        { claims: { exp: seconds() + 86_400 } },
        { claims: { iat: seconds() + 86_400, exp: seconds() + 86_700 } },
      ]
      for (const assertion of bad) assert.equal((await bring(await jag(assertion))).error, 'invalid_grant', JSON.stringify(assertion))
      assert.notEqual((await bring(await jag(), { client_assertion: await proof(job, 'desk') })).status, 200)
      const asAgent = await r.token({ grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion: await jag(), ...(await as(job, 'job')) })
      assert.notEqual(asAgent.status, 200)
      assert.equal((await bring(await jag(), { resource: r.resource('other') })).error, 'invalid_grant')
    })
  })
})
