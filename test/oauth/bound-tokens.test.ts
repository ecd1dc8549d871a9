import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { askersOf } from '../../src/access/requests/voters.ts'
import type { Credential } from '../../src/api/contract.ts'
import type { LiveSession } from '../../src/identity/types.ts'
import { type Answered, ask, keyAndCsr } from '../parts/house.ts'
import { begin, CALLBACK, CLAUDE, type Rig, rig, type Tokens } from './rig.ts'

const AGENTS = `---
kind: role
name: issuer
spec: { allow: [{ chaperone: any, verbs: [issue] }] }
---
kind: user
name: olga
spec: { roles: [issuer, user-of-files] }
---
kind: agent
name: robot
spec: { owner: erik, roles: [user-of-files] }
---
kind: agent
name: thief
spec: { owner: erik, roles: [user-of-files] }
---
kind: agent
name: locked
spec: { owner: erik, roles: [user-of-files] }
---
kind: agent
name: helper
spec: { owner: erik, roles: [user-of-files] }
`

interface Shown {
  readonly key: string
  readonly cert: string
}

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'

describe('a token that is bound to a certificate (RFC 8705)', () => {
  let r: Rig
  const after: (() => Promise<void>)[] = []
  before(async () => {
    r = await rig({ after: (work) => void after.push(work) }, {}, AGENTS)
  })
  test.after(async () => {
    for (const work of after.reverse()) await work()
  })

  const joined = async (name: string): Promise<Shown & { readonly session: string }> => {
    const { profile } = await r.home.join(name)
    return { key: profile.key, cert: profile.certificate, session: profile.session }
  }
  const data = () => r.home.server.addresses.data
  const post = async (path: string, form: Record<string, string>, shown?: Shown): Promise<Answered> =>
    ask(data(), path, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams(form).toString(),
      ...shown,
    })
  const token = async (form: Record<string, string>, shown?: Shown): Promise<Tokens & { readonly scope?: string }> => {
    const { status, text, headers } = await post('/oauth/token', form, shown)
    return { ...JSON.parse(text), status, headers }
  }
  const own = (shown: Shown, name = 'robot', more: Record<string, string> = {}) =>
    token({ grant_type: 'client_credentials', client_id: name, resource: r.resource(), ...more }, shown)
  /** `initialize` at the mTLS listener. */
  const mcp = (bearer: string | undefined, shown?: Shown, server = 'files') =>
    ask(data(), `/mcp/${server}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'initialize',
        params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
      }),
      ...shown,
    })
  const refusedAsInvalid = (answered: Answered) => {
    assert.equal(answered.status, 401, answered.text)
    assert.match(String(answered.headers['www-authenticate']), /^Bearer error="invalid_token", resource_metadata="https:/)
  }
  const claimsOf = (tokens: Tokens) =>
    JSON.parse(Buffer.from(tokens.access_token.split('.')[1]!, 'base64url').toString()) as {
      cnf?: { 'x5t#S256': string }
      exp: number
      chaperone: { session: string; issuer?: string }
    }

  test('where certificates are shown is in the metadata', async () => {
    const said = JSON.parse((await r.get('/.well-known/oauth-authorization-server')).text)
    assert.equal(said.tls_client_certificate_bound_access_tokens, true)
    assert.ok(said.token_endpoint_auth_methods_supported.includes('tls_client_auth'))
    const { data: at } = r.home.server.parts.places
    assert.deepEqual(said.mtls_endpoint_aliases, { token_endpoint: `https://${at}/oauth/token`, revocation_endpoint: `https://${at}/oauth/revoke` })
    assert.equal(said.token_endpoint, `https://${r.web}/oauth/token`)
  })

  test('an agent gets one by its certificate alone, in the session of that, and no longer than that lives', async () => {
    const robot = await joined('robot')
    const tokens = await own(robot)
    assert.equal(tokens.status, 200, JSON.stringify(tokens))
    assert.equal(tokens.headers['cache-control'], 'no-store')
    const { cnf, exp, chaperone } = claimsOf(tokens)
    assert.match(cnf?.['x5t#S256'] ?? '', /^[\w-]{43}$/)
    assert.equal(chaperone.session, robot.session)
    const { profile } = await r.home.join('robot')
    assert.ok(exp * 1000 <= profile.notAfter)
    assert.equal((await mcp(tokens.access_token, robot)).status, 200)
    refusedAsInvalid(await mcp(tokens.access_token, robot, 'other'))
    const issued = r.records.findLast(({ type, data }) => type === 'credential.issued' && (data as { boundTo?: string }).boundTo !== undefined)
    assert.equal(issued?.actor?.name, 'robot')
    assert.equal(issued?.session, robot.session)
  })

  test('rule 4: without the certificate it opens nothing: not alone, not beside another one, not at the web listener', async () => {
    const [robot, thief, again] = [await joined('robot'), await joined('thief'), await joined('robot')]
    const { access_token } = await own(robot)
    // A certificate is asked for before any token is looked at.
    assert.equal((await mcp(access_token)).status, 401)
    refusedAsInvalid(await mcp(access_token, thief))
    // Another instance of the same agent is another holder.
    refusedAsInvalid(await mcp(access_token, again))
    refusedAsInvalid(await r.mcp(access_token))
    const forged = keyAndCsr()
    await assert.rejects(async () => {
      const answered = await mcp(access_token, { key: forged.key, cert: robot.cert })
      throw new Error(String(answered.status))
    })
    assert.equal((await mcp(access_token, robot)).status, 200)
  })

  test('a token that is bound to nothing does not count beside a certificate, nor in the place of one', async () => {
    const robot = await joined('robot')
    const flow = begin({ resource: r.resource() })
    const code = (await (await r.browser('boris')).agree(flow)).searchParams.get('code')!
    const given = { grant_type: 'authorization_code', client_id: CLAUDE, redirect_uri: CALLBACK, code, code_verifier: flow.verifier }
    const { access_token } = await r.token(given)
    assert.equal((await r.mcp(access_token)).status, 200)
    refusedAsInvalid(await mcp(access_token, robot))
    assert.equal((await mcp(access_token)).status, 401)
  })

  test('rule 6: it ends with the session, and with a lock on its agent', async () => {
    const { sessions } = r.home.server.parts
    const robot = await joined('robot')
    const { access_token } = await own(robot)
    assert.equal((await mcp(access_token, robot)).status, 200)
    await sessions.end(robot.session, 'logout')
    assert.equal((await mcp(access_token, robot)).status, 401)
    assert.notEqual((await own(robot)).status, 200)

    const other = await joined('locked')
    const held = await own(other, 'locked')
    await r.home.dana.api.call('POST', '/v1/factor', { code: r.home.dana.code() })
    await r.home.dana.api.call('POST', '/v1/locks', { kind: 'identity', target: 'locked', reason: 'test' })
    assert.notEqual((await mcp(held.access_token, other)).status, 200)
  })

  test('a renewed certificate is another one: with it a token of the old is none, and a new one is one request away', async () => {
    const member = await r.home.join('robot')
    const old = { key: member.profile.key, cert: member.profile.certificate }
    const before = await own(old)
    const { key, csr } = keyAndCsr()
    const renewed = await member.api.call<Credential>('POST', '/v1/renew', { csr })
    const next = { key, cert: renewed.certificate }
    refusedAsInvalid(await mcp(before.access_token, next))
    const after = await own(next)
    assert.equal(after.status, 200, JSON.stringify(after))
    assert.equal((await mcp(after.access_token, next)).status, 200)
    assert.equal(claimsOf(after).chaperone.session, claimsOf(before).chaperone.session)
  })

  test('who proves nothing, proves to be somebody else, or is a person, gets none', async () => {
    const [robot, thief] = [await joined('robot'), await joined('thief')]
    assert.equal((await post('/oauth/token', { grant_type: 'client_credentials', client_id: 'robot' })).status, 401)
    assert.equal((await own(thief, 'robot')).error, 'invalid_client')
    assert.equal((await own(robot, 'nobody')).error, 'invalid_client')
    const { profile } = r.boris
    assert.equal((await own({ key: profile.key, cert: profile.certificate }, 'boris')).error, 'invalid_client')
    // A certificate proves nothing at the web listener: nobody shows one there.
    assert.equal((await r.token({ grant_type: 'client_credentials', client_id: 'robot', resource: r.resource() })).error, 'invalid_client')
    assert.equal((await own(robot, 'robot', { resource: 'https://elsewhere.example.com/mcp' })).error, 'invalid_target')
    assert.equal((await own(robot, 'robot', { scope: 'mcp:read' })).error, 'invalid_scope')
    for (const path of ['/oauth/authorize', '/oauth/register', '/.well-known/oauth-authorization-server'])
      assert.notEqual((await ask(data(), path, robot)).status, 200, path)
  })

  test("a client of a person that comes with a certificate gets both tokens for its holder's session, also when that is renewed", async () => {
    const [member, thief] = [await r.home.join('robot'), await joined('thief')]
    const holder = { key: member.profile.key, cert: member.profile.certificate }
    const flow = begin({ resource: r.resource() })
    const code = (await (await r.browser('boris')).agree(flow)).searchParams.get('code')!
    const client = { client_id: CLAUDE }
    const first = await token({ ...client, grant_type: 'authorization_code', redirect_uri: CALLBACK, code, code_verifier: flow.verifier }, holder)
    assert.equal(first.status, 200, JSON.stringify(first))
    assert.equal((await mcp(first.access_token, holder)).status, 200)
    refusedAsInvalid(await r.mcp(first.access_token))
    const refresh = { ...client, grant_type: 'refresh_token', refresh_token: first.refresh_token }
    // Stolen: nowhere else does it work, and asking has not used it up.
    assert.equal((await r.token(refresh)).error, 'invalid_grant')
    assert.equal((await token(refresh, thief)).error, 'invalid_grant')
    const { key, csr } = keyAndCsr()
    const renewed = await member.api.call<Credential>('POST', '/v1/renew', { csr })
    const next = { key, cert: renewed.certificate }
    const second = await token(refresh, next)
    assert.equal(second.status, 200, JSON.stringify(second))
    assert.equal((await mcp(second.access_token, next)).status, 200)
    refusedAsInvalid(await mcp(second.access_token, holder))
    // The grant ends with the one who holds it: there is no certificate of that session any more.
    await r.home.server.parts.sessions.end(member.profile.session, 'logout')
    assert.notEqual((await token({ ...refresh, refresh_token: second.refresh_token }, next)).status, 200)
  })

  test('what an agent hands on by exchange is bound to the certificate of the one that gets it; what is bound is not handed on', async () => {
    const [robot, helper] = [await joined('robot'), await joined('helper')]
    const subject = await own(robot)
    const exchange = (subject_token: string) =>
      token({ grant_type: EXCHANGE, client_id: 'helper', subject_token, subject_token_type: ACCESS_TOKEN, scope: 'mcp:read' }, helper)
    assert.equal((await exchange(subject.access_token)).error, 'invalid_grant')
    const { sessions, oauth } = r.home.server.parts
    assert.ok(oauth)
    const live = sessions.list().find(({ id }: LiveSession) => id === robot.session)!
    const { token: unbound } = await r.home.server.parts.tokens.mint({
      kind: 'agent',
      name: 'robot',
      claims: { v: 1, identity: live.principal.identityId, credential: live.principal.credentialId, session: live.id } as never,
      audience: r.resource(),
      notAfter: Date.now() + 60_000,
    })
    const made = await exchange(unbound)
    assert.equal(made.status, 200, JSON.stringify(made))
    assert.equal(made.scope, 'mcp:read')
    assert.equal((await mcp(made.access_token, helper)).status, 200)
    refusedAsInvalid(await mcp(made.access_token, robot))
  })

  test('whoever issued the certificate that the sub-agent shows is named in what it gets, and decides about nothing that it asks for', async () => {
    const { store, tokens, sessions } = r.home.server.parts
    const robot = await joined('robot')
    await own(robot)
    const olga = await r.home.enrol('olga')
    const { profile } = await r.home.join('helper', undefined, olga)
    const live = sessions.list().find(({ id }: LiveSession) => id === robot.session)!
    const { token: unbound } = await tokens.mint({
      kind: 'agent',
      name: 'robot',
      claims: { v: 1, identity: live.principal.identityId, credential: live.principal.credentialId, session: live.id } as never,
      audience: r.resource(),
      notAfter: Date.now() + 60_000,
    })
    const made = await token(
      { grant_type: EXCHANGE, client_id: 'helper', subject_token: unbound, subject_token_type: ACCESS_TOKEN },
      { key: profile.key, cert: profile.certificate },
    )
    assert.equal(made.status, 200, JSON.stringify(made))
    const { chaperone } = claimsOf(made)
    const id = async (name: string) => (await store.db.selectFrom('identities').select('id').where('name', '=', name).executeTakeFirstOrThrow()).id
    const [dana, issuer] = [await id('dana'), await id('olga')]
    assert.equal(chaperone.issuer, issuer)
    assert.equal(r.records.findLast(({ type }) => type === 'credential.issued')?.issuer, issuer)
    const request = { identityId: live.principal.identityId, chain: [], needs: [], sessionId: chaperone.session } as never
    const asker = (await askersOf(store.db, [request]))(request)
    // The one whose token the first one joined with, as well.
    assert.deepEqual(asker.issuers, new Set([issuer, dana]))
  })

  test('given back, it opens nothing, and the session of its certificate goes on (RFC 7009)', async () => {
    const [robot, thief] = [await joined('robot'), await joined('thief')]
    const { access_token } = await own(robot)
    // Of another client it is not taken back.
    await post('/oauth/revoke', { client_id: 'thief', token: access_token }, thief)
    assert.equal((await mcp(access_token, robot)).status, 200)
    assert.equal((await post('/oauth/revoke', { client_id: 'robot', token: access_token }, robot)).status, 200)
    assert.notEqual((await mcp(access_token, robot)).status, 200)
    assert.equal((await mcp((await own(robot)).access_token, robot)).status, 200)
    // Each is a lock, through which every decision looks.
    const statuses: number[] = []
    for (let i = 0; i < 12; i++)
      statuses.push((await post('/oauth/revoke', { client_id: 'robot', token: (await own(robot)).access_token }, robot)).status)
    assert.equal(statuses.filter((status) => status === 200).length, 9)
    assert.equal(statuses.at(-1), 503)
  })
})
