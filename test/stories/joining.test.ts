import assert from 'node:assert/strict'
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { AuditDetail, AuditPage } from '../../src/api/audit-contract.ts'
import type { Credential, Document, Invitation, WhoAmI } from '../../src/api/contract.ts'
import type { JoinChallenge, JoinWay } from '../../src/api/join-contract.ts'
import { openApi } from '../../src/client/api.ts'
import { type JoinAs, joinAs } from '../../src/client/joining/join-as.ts'
import type { Profile } from '../../src/client/profile.ts'
import { ChaperoneError } from '../../src/errors.ts'
import { parseInvitation } from '../../src/identity/invitations.ts'
import { fakeAuthority } from '../fakes/authority.ts'
import { type FakeIssuer, fakeIssuer } from '../fakes/issuer.ts'
import { type House, house, keyAndCsr } from '../parts/house.ts'
import { ofFile } from '../parts/of-file.ts'

const AGENT = `kind: role
name: reporter
spec: {}
---
kind: user
name: boris
spec: { roles: [] }
---
kind: agent
name: report-bot
spec: { owner: boris, roles: [reporter] }
`
const indent = (text: string, by = 6) =>
  text
    .trim()
    .split('\n')
    .map((one) => ' '.repeat(by) + one)
    .join('\n')

async function issuerFor(t: TestContext): Promise<FakeIssuer> {
  const issuer = await fakeIssuer()
  t.after(() => issuer.close())
  return issuer
}

const joinDocument = (name: string, method: string, block: string, rest: string) => `kind: join
name: ${name}
spec:
  agent: report-bot
  method: ${method}
  ${method}:
${block}
${rest}
`
const github = (issuer: FakeIssuer, rest = '  allow: [{ repository: octo/app, ref: refs/heads/main }]') =>
  joinDocument('ci', 'github', `    issuer: ${issuer.issuer}\n    allow_private: true\n    ca: |\n${indent(issuer.ca)}`, rest)

const lineOf = async (house: House, name: string) => (await house.dana.api.call<JoinWay>('GET', `/v1/joins/${name}`)).server

async function whoami(t: TestContext, profile: Profile): Promise<WhoAmI> {
  const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
  t.after(() => api.close())
  return await api.call<WhoAmI>('GET', '/v1/whoami')
}

const refusedWith = (code: string, told: RegExp) => (error: unknown) => {
  assert.ok(error instanceof ChaperoneError, String(error))
  assert.equal(`${error.code}: ${error.message}`.match(new RegExp(`^${code}: `)) !== null, true, `${error.code}: ${error.message}`)
  assert.match(error.message, told)
  return true
}

/** The issuer of the tests is believed by this process as GitHub's is by the world. */
function jobOf(issuer: FakeIssuer, claims: Record<string, unknown>, show: (token: string) => Promise<Credential>) {
  return issuer.token(claims).then(show)
}

async function shown(house: House, name: string, token: string): Promise<Credential> {
  const anyone = openApi({ address: house.dana.profile.address, authorities: house.dana.profile.bundles.server })
  try {
    return await anyone.call<Credential>('POST', '/v1/join', { join: name, proof: { token }, csr: keyAndCsr().csr })
  } finally {
    anyone.close()
  }
}
/** Leaves, the newest first. */
async function recordsOf({ dana }: House, type: string): Promise<unknown[]> {
  const { records } = await dana.api.call<AuditPage>('GET', `/v1/audit?type=${type}`)
  return await Promise.all(records.map(async ({ id }) => (await dana.api.call<AuditDetail>('GET', `/v1/audit/records/${id}`)).envelope))
}

/** Of those that leave nothing behind but a document of their own. */
const own = ofFile((t) => house(t))

test('a job of GitHub Actions joins by what it is, once a token; the record says by what', async (t) => {
  const issuer = await issuerFor(t)
  await own.apply(`${AGENT}---\n${github(issuer)}`)
  const token = await issuer.token({ sub: 'repo:octo/app:ref:refs/heads/main', repository: 'octo/app', ref: 'refs/heads/main' })
  const credential = await shown(own, 'ci', token)
  assert.equal(credential.identity.name, 'report-bot')
  assert.ok(credential.sessionUntil - Date.now() <= 3_600_000, 'the session is short: what can prove itself again does so')
  await assert.rejects(shown(own, 'ci', token), refusedWith('join_refused', /shown before/))

  const [started] = await recordsOf(own, 'session.started')
  const joined = { method: 'github', document: 'ci', subject: 'repo:octo/app:ref:refs/heads/main' }
  assert.deepEqual((started as { data?: { joined?: unknown } }).data?.joined, joined)
})

test('rule 8: the caller hears of his own claim, the record of the rule too; a document that is not there sounds the same', async (t) => {
  const own = await house(t)
  const issuer = await issuerFor(t)
  await own.apply(`${AGENT}---\n${github(issuer)}`)
  const other = await issuer.token({ repository: 'octo/other', ref: 'refs/heads/main' })
  await assert.rejects(shown(own, 'ci', other), (error: ChaperoneError) => {
    assert.equal(error.code, 'join_refused')
    assert.match(error.message, /`repository` is "octo\/other"/)
    assert.doesNotMatch(JSON.stringify([error.message, error.fix]), /octo\/app/)
    return true
  })
  await assert.rejects(shown(own, 'nowhere', other), refusedWith('join_refused', /no such way to join/))
  const records = JSON.stringify(await recordsOf(own, 'credential.refused'))
  assert.match(records, /octo\/app/)
})

test('a key that its issuer has rotated is found; the old one is no longer believed; made-up key ids do not make us ask without end', async (t) => {
  const own = await house(t)
  const issuer = await issuerFor(t)
  await own.apply(`${AGENT}---\n${github(issuer)}`)
  const claims = { repository: 'octo/app', ref: 'refs/heads/main' }
  await jobOf(issuer, claims, (token) => shown(own, 'ci', token))
  const old = await issuer.token(claims)
  const before = issuer.asked.length
  issuer.rotate()
  // Asked again at a limited rate: the last time was a moment ago.
  for (let i = 0; i < 5; i++) await assert.rejects(shown(own, 'ci', await issuer.token(claims)), refusedWith('join_refused', /no such way/))
  assert.equal(issuer.asked.length, before)
  await shown(own, 'ci', old)
})

test('a server that cannot reach the issuer says so, and not that the token is wrong', async (t) => {
  const own = await house(t)
  const issuer = await issuerFor(t)
  await own.apply(`${AGENT}---\n${github(issuer)}`)
  issuer.down(true)
  await assert.rejects(
    shown(own, 'ci', await issuer.token({ repository: 'octo/app', ref: 'refs/heads/main' })),
    refusedWith('upstream_unavailable', /cannot reach the issuer/),
  )
})

test('rule 11: an agent that joins over and over does not fill the store; its token is not used up by being refused', async (t) => {
  const own = await house(t)
  const issuer = await issuerFor(t)
  await own.apply(`${AGENT}---\n${github(issuer)}`)
  const token = () => issuer.token({ repository: 'octo/app', ref: 'refs/heads/main' })
  await shown(own, 'ci', await token())
  const { store } = own.server.parts
  const row = await store.db.selectFrom('sessions').selectAll().where('how', '=', 'join').executeTakeFirstOrThrow()
  for (let i = 0; i < 10; i++)
    await store.write((trx) =>
      trx
        .insertInto('sessions')
        .values(Array.from({ length: 100 }, (_, at) => ({ ...row, id: `${row.id}-${i}-${at}` })))
        .execute(),
    )
  const next = await token()
  await assert.rejects(shown(own, 'ci', next), refusedWith('too_many', /1000 open sessions/))
  await store.write((trx) => trx.updateTable('sessions').set({ ended_at: 1 }).where('id', 'like', `${row.id}-0-%`).execute())
  await shown(own, 'ci', next)
})

test('an issuer inside the network is asked only where the document says that it may be', async (t) => {
  const own = await house(t)
  const issuer = await issuerFor(t)
  await own.apply(`${AGENT}---\n${github(issuer).replace('    allow_private: true\n', '')}`)
  await assert.rejects(shown(own, 'ci', await issuer.token({ repository: 'octo/app' })), refusedWith('upstream_unavailable', /cannot reach/))
  assert.deepEqual(issuer.asked, [])
})

test('a disabled agent does not join, and neither does a locked one; its token is not used up', async (t) => {
  const own = await house(t)
  const issuer = await issuerFor(t)
  await own.apply(`${AGENT}---\n${github(issuer)}`)
  const token = await issuer.token({ repository: 'octo/app', ref: 'refs/heads/main' })
  const lock = await own.dana.api.call<{ id: string }>('POST', '/v1/locks', { kind: 'identity', target: 'report-bot', reason: 'looking' })
  await assert.rejects(shown(own, 'ci', token), refusedWith('locked', /./))
  await own.dana.api.call('DELETE', `/v1/locks/${lock.id}`)
  await shown(own, 'ci', token)
  await own.dana.api.call('POST', '/v1/identities/report-bot/state', { state: 'disabled' })
  await assert.rejects(
    shown(own, 'ci', await issuer.token({ repository: 'octo/app', ref: 'refs/heads/main' })),
    refusedWith('identity_disabled', /./),
  )
})

const bound = (more: string) => joinDocument('machine', 'bound-key', `    ${more}`, '')

async function machine(t: TestContext, more = 'register: true'): Promise<{ own: House; file: string; ask: JoinAs; token(): Promise<string> }> {
  const own = await house(t)
  await own.apply(`${AGENT}---\n${bound(more)}`)
  const file = join(own.dir, 'key.json')
  const ask: JoinAs = { server: await lineOf(own, 'machine'), as: 'machine', method: 'bound-key', keyFile: file }
  const token = async () =>
    parseInvitation((await own.dana.api.call<Invitation>('POST', '/v1/invitations', { name: 'report-bot' })).invitation).secret
  return { own, file, ask, token }
}

test('a machine makes its key known with a token, and joins by it from then on; whoever made the token is the issuer each time', async (t) => {
  const { ask, token, own } = await machine(t)
  await assert.rejects(joinAs(ask), refusedWith('usage', /no key file/))
  const first = await joinAs({ ...ask, register: await token() })
  assert.equal((await whoami(t, first)).name, 'report-bot')
  const second = await joinAs(ask)
  assert.notEqual(second.session, first.session)
  const rows = await own.server.parts.store.db.selectFrom('sessions').select(['issuer_id', 'how']).where('how', '=', 'join').execute()
  assert.deepEqual(
    rows.map((row) => row.issuer_id),
    [own.dana.profile.identity.id, own.dana.profile.identity.id],
  )
})

test('rule 9: of two who hold one key the second is found out: the key opens nothing any more, what it opened is over, and it is on record', async (t) => {
  const { ask, token, file, own } = await machine(t)
  const honest = await joinAs({ ...ask, register: await token() })
  await whoami(t, honest)
  const stolen = join(own.dir, 'stolen.json')
  await copyFile(file, stolen)
  const thief = await joinAs({ ...ask, keyFile: stolen })
  await whoami(t, thief)
  await assert.rejects(joinAs(ask), refusedWith('join_refused', /shown by two/))
  for (const profile of [honest, thief]) await assert.rejects(whoami(t, profile), refusedWith('session_ended', /./))
  await assert.rejects(joinAs({ ...ask, keyFile: stolen }), refusedWith('join_refused', /opens nothing/))
  await assert.rejects(joinAs({ ...ask, register: await token() }), refusedWith('join_refused', /opens nothing/))
  const { records } = await own.dana.api.call<AuditPage>('GET', '/v1/audit?type=credential.copied')
  assert.equal(records.length, 1)
  // Nor by another document, which never saw it.
  const { ensureKeyFile } = await import('../../src/client/joining/bound-key.ts')
  const { publicKey } = await ensureKeyFile(stolen, 'machine')
  await own.apply(bound(`keys:\n      - |\n${indent(publicKey, 8)}`).replace('name: machine', 'name: second'))
  await assert.rejects(
    joinAs({ ...ask, as: 'second', server: await lineOf(own, 'second'), keyFile: stolen }),
    refusedWith('join_refused', /opens nothing/),
  )
  // The machine gets a new key, and nobody else was touched.
  await joinAs({ ...ask, keyFile: join(own.dir, 'new.json'), register: await token() })
})

test('an answer that gets lost locks nobody: the machine asks again, and what nobody used is over', async (t) => {
  const { ask, token, file, own } = await machine(t)
  await whoami(t, await joinAs({ ...ask, register: await token() }))
  const before = await readFile(file, 'utf8')
  const lost = await joinAs(ask)
  await writeFile(file, before)
  const again = await joinAs(ask)
  await whoami(t, again)
  await assert.rejects(whoami(t, lost), refusedWith('session_ended', /./))
  await whoami(t, await joinAs(ask))
  assert.equal((await own.dana.api.call<AuditPage>('GET', '/v1/audit?type=credential.copied')).records.length, 0)
})

test('a store that was set back to a backup locks nobody', async (t) => {
  const { ask, token, own } = await machine(t)
  await joinAs({ ...ask, register: await token() })
  const backup = await own.server.parts.store.db.selectFrom('join_keys').selectAll().executeTakeFirstOrThrow()
  for (let i = 0; i < 3; i++) await whoami(t, await joinAs(ask))
  await own.server.parts.store.write((trx) => trx.updateTable('join_keys').set({ joins: backup.joins }).execute())
  await joinAs(ask)
  await joinAs(ask)
})

test('a machine that was away comes back as often as its document says, and a token gives it more', async (t) => {
  const { ask, token, own } = await machine(t, 'register: true\n    recoveries: 1')
  const first = await joinAs({ ...ask, register: await token() })
  const end = (profile: Profile) => own.server.parts.sessions.end(profile.session, 'killed')
  await joinAs(ask).then(end)
  await end(first)
  const back = await joinAs(ask)
  await end(back)
  await assert.rejects(joinAs(ask), refusedWith('join_refused', /away too often/))
  await end(await joinAs({ ...ask, register: await token() }))
  await joinAs(ask)
})

test('a key that the document names needs no token; another key does not get in, and a token adds none where that is off', async (t) => {
  const { ensureKeyFile } = await import('../../src/client/joining/bound-key.ts')
  const file = join(own.dir, 'key.json')
  const { publicKey } = await ensureKeyFile(file, 'machine')
  await own.apply(`${AGENT}---\n${bound(`keys:\n      - |\n${indent(publicKey, 8)}`)}`)
  const ask: JoinAs = { server: await lineOf(own, 'machine'), as: 'machine', method: 'bound-key', keyFile: file }
  await whoami(t, await joinAs(ask))
  const other = join(own.dir, 'other.json')
  await ensureKeyFile(other, 'machine')
  await assert.rejects(joinAs({ ...ask, keyFile: other }), refusedWith('join_refused', /no such way/))
  const { invitation } = await own.dana.api.call<Invitation>('POST', '/v1/invitations', { name: 'report-bot' })
  await assert.rejects(
    joinAs({ ...ask, keyFile: other, register: parseInvitation(invitation).secret }),
    refusedWith('join_refused', /not made known by a token/),
  )
})

test('a certificate of an authority that a company has already lets in by its names', async (t) => {
  const company = await fakeAuthority('company')
  await own.apply(
    `${AGENT}---\n${joinDocument('fleet', 'x509', `    authority: |\n${indent(company.certificate)}`, '  allow: [{ dns: "*.bots.example.com" }]')}`,
  )
  const issue = async (names: string[], by = company) => {
    const { key, certificate } = await by.issue(names)
    const [keyFile, certFile] = [join(own.dir, `${randomUUID()}.key`), join(own.dir, `${randomUUID()}.pem`)]
    await writeFile(keyFile, key)
    await writeFile(certFile, certificate)
    return { keyFile, certFile }
  }
  const ask: JoinAs = { server: await lineOf(own, 'fleet'), as: 'fleet', method: 'x509' }
  const good = await issue(['a.bots.example.com'])
  assert.equal((await whoami(t, await joinAs({ ...ask, ...good }))).name, 'report-bot')
  await assert.rejects(joinAs({ ...ask, ...(await issue(['a.people.example.com'])) }), refusedWith('join_refused', /`dns` is "a.people.example.com"/))
  await assert.rejects(
    joinAs({ ...ask, ...(await issue(['a.bots.example.com'], await fakeAuthority('company'))) }),
    refusedWith('join_refused', /no such way/),
  )
  // The certificate is no secret; without its key it is nothing.
  await assert.rejects(
    joinAs({ ...ask, certFile: good.certFile, keyFile: (await issue(['x.bots.example.com'])).keyFile }),
    refusedWith('join_refused', /no such way/),
  )
})

test('an owner makes join tokens of his own agents without any verb; nobody else does, and what acts for him neither', async (t) => {
  const own = await house(t)
  await own.apply(`${AGENT}---\nkind: user\nname: ines\nspec: { roles: [] }\n`)
  const boris = await own.enrol('boris')
  const ines = await own.enrol('ines')
  const ask = (api: House['dana']['api']) => api.call<Invitation>('POST', '/v1/invitations', { name: 'report-bot' })
  const { invitation } = await ask(boris.api)
  assert.match(invitation, /^chaperone:\/\//)
  await assert.rejects(ask(ines.api), refusedWith('no_rule', /./))
  const { key, csr } = keyAndCsr()
  const tool = await boris.api.call<Credential>('POST', '/v1/clients', { client: 'claude-code', csr })
  const acting = openApi({
    address: boris.profile.address,
    authorities: boris.profile.bundles.server,
    identity: { key, certificate: tool.certificate },
  })
  t.after(() => acting.close())
  await assert.rejects(ask(acting), refusedWith('no_rule', /./))
  await assert.rejects(boris.api.call('POST', '/v1/invitations', { name: 'ines' }), refusedWith('no_rule', /./))
  // Whoever has his certificate alone, or runs as him, makes none.
  const live = own.server.parts.sessions.list().find(({ principal }) => principal.name === 'boris')
  Object.assign(live!, { factorAt: 1 })
  await assert.rejects(ask(boris.api), refusedWith('factor_required', /./))
})

test('a nonce is good for one proof', async (t) => {
  const { own, ask, token } = await machine(t)
  const { presentProof } = await import('../../src/client/joining/obtain.ts')
  const { parseServerLine } = await import('../../src/identity/joining/line.ts')
  await joinAs({ ...ask, register: await token() })
  const anyone = openApi({ address: own.dana.profile.address, authorities: own.dana.profile.bundles.server })
  t.after(() => anyone.close())
  const { nonce } = await anyone.call<JoinChallenge>('POST', '/v1/join/challenge', {})
  const { csr } = keyAndCsr()
  const { createHash } = await import('node:crypto')
  const { readCsr } = await import('../../src/ca/csr.ts')
  const csrKey = createHash('sha256').update(readCsr(csr).spki).digest('base64url')
  let proof: unknown
  await presentProof('bound-key', { ...ask, line: parseServerLine(ask.server), csrKey, challenge: async () => nonce }, (one) => {
    proof = one
    return anyone.call<Credential>('POST', '/v1/join', { join: 'machine', proof: one, csr })
  })
  await assert.rejects(anyone.call('POST', '/v1/join', { join: 'machine', proof, csr }), refusedWith('join_refused', /shown before/))
  await assert.rejects(anyone.call('POST', '/v1/join', { join: 'machine', proof, csr: keyAndCsr().csr }), refusedWith('join_refused', /another key/))
})

test('documents that would let in strangers are refused before they are applied', async () => {
  await own.apply(AGENT)
  const wrong: readonly (readonly [string, RegExp])[] = [
    ['method: github\n  allow: [{ ref: refs/heads/main }]', /does not say whose it is/],
    ['method: github\n  allow: [{ repository: "*" }]', /does not say whose it is/],
    ['method: github\n  allow: [{ repository: "octo*" }]', /does not say whose it is/],
    ['method: github\n  allow: [{ sub: "environment:prod" }]', /does not say whose it is/],
    ['method: github\n  allow: [{ repo: octo/app, repository_owner: octo }]', /no claim `repo`/],
    ['method: github', /Without a rule nobody joins/],
    ['method: aws\n  allow: [{ role: reporter }]', /does not say whose it is/],
    ['method: oidc\n  allow: [{ sub: x }]', /needs a block/],
    ['method: bound-key', /nobody could join/],
    ['method: github\n  longest: 3d\n  allow: [{ repository: octo/app }]', /between 30s and 12h/],
    ['method: github\n  gitlab: {}\n  allow: [{ repository: octo/app }]', /is not read/],
  ]
  for (const [text, told] of wrong)
    await assert.rejects(own.apply(`kind: join\nname: x\nspec:\n  agent: report-bot\n  ${text}\n`), (error: ChaperoneError) => {
      assert.match(`${error.message}`, told, text)
      return true
    })
  await assert.rejects(
    own.apply('kind: join\nname: x\nspec:\n  agent: boris\n  method: github\n  allow: [{ repository: octo/app }]\n'),
    /is no agent/,
  )
  await own.apply('kind: join\nname: x\nspec:\n  agent: report-bot\n  method: github\n  allow: [{ repository: octo/*, ref: refs/heads/main }]\n')
  const { yaml } = await own.dana.api.call<Document>('GET', '/v1/documents/join/x')
  assert.match(yaml, /token.actions.githubusercontent.com|octo\/\*/)
})

test('keys of a cluster that are pinned need no way to it', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'sa', alg: 'RS256', use: 'sig' }
  await own.apply(
    `${AGENT}---\n${joinDocument('pod', 'kubernetes', `    jwks: ${JSON.stringify({ keys: [jwk] })}`, '  allow: [{ namespace: agents, service_account: reporter }]')}`,
  )
  const { CompactSign } = await import('jose')
  const now = Math.floor(Date.now() / 1000)
  const tokenOf = (namespace: string, more = {}) =>
    new CompactSign(
      Buffer.from(
        JSON.stringify({
          iss: 'https://kubernetes.default.svc.cluster.local',
          aud: ['https://chaperone.internal'],
          sub: `system:serviceaccount:${namespace}:reporter`,
          iat: now,
          exp: now + 3600,
          'kubernetes.io': { namespace, serviceaccount: { name: 'reporter', uid: 'u1' }, pod: { name: 'p', uid: 'u2' } },
          ...more,
        }),
      ),
    )
      .setProtectedHeader({ alg: 'RS256', kid: 'sa' })
      .sign(privateKey)
  const file = join(own.dir, 'token')
  await writeFile(file, await tokenOf('agents'))
  const ask: JoinAs = { server: await lineOf(own, 'pod'), as: 'pod', method: 'kubernetes', tokenFile: file }
  await whoami(t, await joinAs(ask))
  // The kubelet keeps a token for a while, and a pod that starts again has the same one.
  await whoami(t, await joinAs(ask))
  await writeFile(file, await tokenOf('default'))
  await assert.rejects(joinAs(ask), refusedWith('join_refused', /`namespace` is "default"/))
  await writeFile(file, await tokenOf('agents', { aud: ['https://kubernetes.default.svc'] }))
  await assert.rejects(joinAs(ask), refusedWith('join_refused', /`aud`/))
})
