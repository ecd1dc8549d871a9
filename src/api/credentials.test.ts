import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { principalFromCertificate } from '../identity/credential.ts'
import { parseInvitation } from '../identity/invitations.ts'
import type { LiveSession, Principal } from '../identity/types.ts'
import type { Credential, Invitation, Token, WhoAmI } from './contract.ts'
import type { DelegationRow } from './delegations-contract.ts'
import { csr, openHouse } from './house.fixture.ts'

async function house(t: TestContext) {
  const open = await openHouse(t)
  const { parts, clock, sessions, ask } = open
  async function principalIn({ certificate }: Credential): Promise<Principal> {
    const identityBundle = await parts.ca.bundle('identity')
    return principalFromCertificate(new X509Certificate(certificate), { identityBundle, now: clock.now(), trustDomain: parts.trustDomain })
  }
  /** The session behind an issued certificate, as the listener would find it. */
  const use = async (held: Credential): Promise<LiveSession> => sessions.open(await principalIn(held))
  async function post<T>(session: LiveSession | undefined, path: string, body: unknown): Promise<T> {
    const { status, value, code } = await ask<T>(session, 'POST', path, body)
    assert.equal(status, 200, `${path}: ${code} ${JSON.stringify(value)}`)
    return value
  }
  return { ...open, principalIn, use, post }
}

test('renew gives the same identity, session and chain a new certificate', async (t) => {
  const { use, principalIn, post, signIn, clock } = await house(t)
  const dana = await signIn('dana')
  const held = await post<Credential>(dana, '/v1/issue', { name: 'ci', csr: csr(), ttl: '10m' })
  const first = await principalIn(held)
  clock.advance(60_000)
  const renewed = await post<Credential>(await use(held), '/v1/renew', { csr: csr() })
  const second = await principalIn(renewed)
  assert.notEqual(second.credentialId, first.credentialId)
  assert.equal(first.issuerId, dana.principal.identityId)
  assert.deepEqual(
    [second.identityId, second.sessionId, second.chain, second.issuerId],
    [first.identityId, first.sessionId, first.chain, first.issuerId],
  )
})

test('rule 4: renewing never passes the longest life of the session, however often', async (t) => {
  const { use, post, ask, signIn, clock } = await house(t)
  let held = await post<Credential>(await signIn('dana'), '/v1/issue', { name: 'boris', csr: csr(), ttl: '2m' })
  const end = held.sessionUntil
  let session = await use(held)
  for (let i = 0; i < 5; i++) {
    clock.advance(20_000)
    held = await post<Credential>(session, '/v1/renew', { csr: csr() })
    assert.ok(held.notAfter <= end)
    session = await use(held)
  }
  clock.advance(20_000)
  assert.equal((await ask(session, 'POST', '/v1/renew', { csr: csr() })).code, 'session_ended')
})

test('the life of a credential stays what it was through many renewals', async (t) => {
  const { use, post, signIn, clock } = await house(t)
  const { invitation } = await post<Invitation>(await signIn('dana'), '/v1/invitations', { name: 'ci' })
  let held = await post<Credential>(undefined, '/v1/join', { token: parseInvitation(invitation).secret, csr: csr(), ttl: '44s' })
  for (let i = 0; i < 10; i++) {
    clock.advance(13_337)
    held = await post<Credential>(await use(held), '/v1/renew', { csr: csr() })
    const left = held.notAfter - clock.now()
    assert.ok(left > 43_000 && left <= 44_000, String(left))
  }
})

test('an invitation names address, secret and authority; it is for one use, and in the record without its secret', async (t) => {
  const { post, ask, signIn, records, parts } = await house(t)
  const dana = await signIn('dana')
  const { invitation } = await post<Invitation>(dana, '/v1/invitations', { name: 'boris', ttl: '1h' })
  const line = parseInvitation(invitation)
  assert.equal(line.address, 'chaperone.test:7443')
  assert.equal(line.fingerprint, await parts.ca.fingerprint('server'))
  assert.ok(!JSON.stringify(records).includes(line.secret))
  assert.equal(records.find((record) => record.type === 'invitation.made')?.actor?.name, 'dana')
  assert.equal((await ask(undefined, 'POST', '/v1/join', { token: line.secret, csr: csr() })).code, 'invitation_invalid')
  assert.equal((await ask(undefined, 'POST', '/v1/enrol/begin', { secret: line.secret })).status, 200)
  assert.equal((await ask(dana, 'POST', '/v1/invitations', { name: 'nobody' })).code, 'not_found')
  assert.equal((await ask(dana, 'POST', '/v1/invitations', { name: 'boris', ttl: '30d' })).code, 'usage')
})

test("a client of a person is his agent: his delegation, three minutes, within his session's life", async (t) => {
  const { use, post, signIn, parts, clock } = await house(t)
  const boris = await signIn('boris', { lifeMs: 3_600_000 })
  const held = await post<Credential>(boris, '/v1/clients', { client: 'claude-code', csr: csr(), purpose: 'look around' })
  assert.equal(held.identity.name, 'boris/claude-code')
  assert.deepEqual(Object.keys(held.identity).sort(), ['id', 'kind', 'name'])
  assert.ok(held.notAfter - clock.now() <= 180_000)
  assert.equal(held.sessionUntil, boris.startedAt + 3_600_000)
  const agent = await use(held)
  assert.deepEqual(
    parts.state
      .current()
      .links(agent.principal.chain, clock.now())
      .map((link) => link.identity.name),
    ['boris', 'boris/claude-code'],
  )
  const again = await post<Credential>(boris, '/v1/clients', { client: 'claude-code', csr: csr() })
  assert.equal(again.identity.id, held.identity.id)
  assert.notEqual(again.session, held.session)
})

test('rule 11: a person has a hundred clients at most: each name is an identity for ever', async (t) => {
  const { ask, post, signIn } = await house(t)
  const boris = await signIn('boris')
  for (let i = 0; i < 100; i++) await post<Credential>(boris, '/v1/clients', { client: `tool-${i}`, csr: csr() })
  assert.equal((await ask(boris, 'POST', '/v1/clients', { client: 'one-more', csr: csr() })).code, 'too_many')
  await post<Credential>(boris, '/v1/clients', { client: 'tool-7', csr: csr() })
})

test('rule 7: only a person with his own credential makes clients: no agent, no client of a client', async (t) => {
  const { use, post, ask, signIn } = await house(t)
  const held = await post<Credential>(await signIn('boris'), '/v1/clients', { client: 'cursor', csr: csr() })
  assert.equal((await ask(await use(held), 'POST', '/v1/clients', { client: 'other', csr: csr() })).code, 'issue_refused')
  assert.equal((await ask(await signIn('ci'), 'POST', '/v1/clients', { client: 'other', csr: csr() })).code, 'issue_refused')
  assert.equal((await ask(await signIn('boris'), 'POST', '/v1/clients', { client: '../dana', csr: csr() })).code, 'usage')
})

test('nobody issues or invites an identity with more administration than his own', async (t) => {
  const { post, ask, signIn } = await house(t)
  const dana = await signIn('dana')
  const documents =
    'kind: role\nname: issuer\nspec: { allow: [{ chaperone: any, verbs: [issue] }] }\n---\nkind: user\nname: iris\nspec: { roles: [issuer] }\n---\nkind: agent\nname: bot\nspec: { owner: iris }\n'
  await post(dana, '/v1/apply', { files: [{ path: 'a.yaml', text: documents }] })
  const iris = await signIn('iris')
  for (const name of ['dana', 'ci']) {
    assert.equal((await ask(iris, 'POST', '/v1/issue', { name, csr: csr() })).code, 'issue_refused')
    assert.equal((await ask(iris, 'POST', '/v1/invitations', { name })).code, 'issue_refused')
  }
  const mine = await post<Credential>(iris, '/v1/issue', { name: 'bot', csr: csr() })
  assert.equal(mine.identity.name, 'bot')
})

test('what an operator issues for a client of a person acts for that person all the same', async (t) => {
  const { principalIn, post, signIn } = await house(t)
  const own = await post<Credential>(await signIn('boris'), '/v1/clients', { client: 'cursor', csr: csr() })
  const issued = await post<Credential>(await signIn('dana'), '/v1/issue', { name: 'boris/cursor', csr: csr() })
  assert.deepEqual((await principalIn(issued)).chain, (await principalIn(own)).chain)
})

test('an operator who issues for a client that acts under nothing any more makes a delegation that can be read like every other', async (t) => {
  const { post, ask, signIn, records } = await house(t)
  const boris = await signIn('boris')
  await post<Credential>(boris, '/v1/clients', { client: 'cursor', csr: csr() })
  const standing = async () => (await ask<{ delegations: DelegationRow[] }>(boris, 'GET', '/v1/delegations')).value.delegations
  await ask(boris, 'DELETE', `/v1/delegations/${(await standing())[0]!.id}`)
  await post<Credential>(await signIn('dana'), '/v1/issue', { name: 'boris/cursor', csr: csr() })
  const [made] = await standing()
  assert.match(made?.words ?? '', /^boris\/cursor may act on behalf of boris\./)
  const { actor, data } = records.findLast(({ type }) => type === 'delegation.made')!
  assert.equal(actor?.name, 'dana')
  assert.deepEqual([data?.how, data?.words], ['client', made!.words])
})

test('a token is bound to its audience and lives minutes; the issuer stands in it and in the record', async (t) => {
  const { post, ask, signIn, clock, records } = await house(t)
  const dana = await signIn('dana')
  const made = await post<Token>(dana, '/v1/issue', { name: 'ci', token: { audience: 'https://chaperone.test:7444' }, ttl: '5m' })
  const payload = JSON.parse(Buffer.from(made.token.split('.')[1]!, 'base64url').toString()) as { aud: string; chaperone: { issuer: string } }
  assert.equal(payload.aud, 'https://chaperone.test:7444')
  assert.equal(payload.chaperone.issuer, dana.principal.identityId)
  assert.ok(made.notAfter <= clock.now() + 300_000)
  const record = records.find((one) => one.type === 'credential.issued')
  assert.equal(record?.issuer, dana.principal.identityId)
  assert.ok(!JSON.stringify(records).includes(made.token.split('.')[2]!))
  assert.equal((await ask(dana, 'POST', '/v1/issue', { name: 'ci', token: { audience: 'https://x' }, ttl: '1h' })).code, 'usage')
  assert.equal((await ask(dana, 'POST', '/v1/issue', { name: 'ci', token: { audience: 'https://x' }, csr: csr() })).code, 'usage')
})

test('a certificate request that proves nothing brings nothing, and no session begins', async (t) => {
  const { ask, signIn, records } = await house(t)
  const dana = await signIn('dana')
  records.length = 0
  const broken = csr().replace(/A/g, 'B')
  for (const path of ['/v1/renew', '/v1/clients', '/v1/issue']) {
    const body = { csr: broken, ...(path === '/v1/clients' ? { client: 'x' } : path === '/v1/issue' ? { name: 'ci' } : {}) }
    assert.equal((await ask(dana, 'POST', path, body)).code, 'issue_refused', path)
  }
  assert.ok(!records.some((record) => record.type === 'session.started'))
})

test('whoami says who acts, for whom and until when; prove and logout do what they say', async (t) => {
  const { use, post, ask, signIn } = await house(t)
  const boris = await signIn('boris')
  const held = await post<Credential>(boris, '/v1/clients', { client: 'cursor', csr: csr() })
  const agent = await use(held)
  const { value } = await ask<WhoAmI>(agent, 'GET', '/v1/whoami')
  assert.deepEqual(
    [value.name, value.kind, value.chain.map((link) => link.name), value.notAfter],
    ['boris/cursor', 'agent', ['boris', 'boris/cursor'], held.notAfter],
  )
  assert.equal((await post<{ until: number }>(agent, '/v1/prove', {})).until, held.notAfter)
  await post(agent, '/v1/logout', {})
  assert.equal((await ask(agent, 'GET', '/v1/whoami')).code, 'session_ended')
  assert.equal((await ask(boris, 'GET', '/v1/whoami')).status, 200)
})
