import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import { fakeAuthority } from '../../test/fakes/authority.ts'
import { type FakeOAuth, fakeOAuth } from '../../test/fakes/oauth-server.ts'
import { mcpServerSpec } from '../catalog/mcp-server.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import type { LoginServer, LoginsParts } from './logins.ts'
import { loginsPlace } from './place.fixture.ts'

const REDIRECT = 'http://127.0.0.1:4711/callback'
const by = { actor: { id: 'usr_1', name: 'dana', kind: 'user' } }
const chain = [{ identity: 'usr_1' }, { identity: 'agt_2', delegation: 'dlg_1' }]
const refused = (code: ReasonCode, text?: RegExp) => (error: unknown) =>
  error instanceof ChaperoneError && error.code === code && (text === undefined || text.test(error.message))

async function place(t: TestContext, given: { oauth?: object; fake?: FakeOAuth; more?: Partial<LoginsParts>; spec?: object } = {}) {
  const { open: openAt, advance, ...standing } = await loginsPlace(t, given.fake)
  const { fake } = standing
  const open = (more: Partial<LoginsParts> = {}) => openAt({ reveal: async (name) => `revealed-${name}`, ...given.more, ...more })
  const logins = open()
  const serverWith = (oauth: object, more: object = {}): LoginServer => ({
    id: 'res_1',
    name: 'wiki',
    spec: mcpServerSpec.parse({ url: fake.url, auth: { oauth }, ...given.spec, ...more }),
  })
  const server = serverWith(given.oauth ?? {})
  const begin = (at = server, subject = '*') => logins.begin(at, { subject, identity: 'usr_1', redirect: REDIRECT, by })
  const answer = (url: string) => Object.fromEntries(fake.approve(url)) as { state: string; code: string; iss?: string }
  const logIn = async (at = server, subject = '*') => {
    const { url } = await begin(at, subject)
    await logins.finish(at, answer(url), { identity: 'usr_1', by })
    return new URL(url)
  }
  return { ...standing, advance, logins, open, server, serverWith, begin, answer, logIn }
}

test('a login is begun, finished, used and removed, and each of these is a record without a token (peers R60)', async (t) => {
  const { fake, logins, open, server, logIn, records, secrets, store } = await place(t)
  const login = logins.of(server, chain)
  assert.equal((await login.token())?.value, undefined)
  const url = await logIn()
  assert.equal(url.searchParams.get('code_challenge_method'), 'S256')
  assert.equal(url.searchParams.get('resource'), fake.url)
  assert.equal(url.searchParams.get('scope'), 'read offline_access', 'the challenge says what to ask for')
  const given = new Set([fake.tokens[0]!.access, fake.tokens[0]!.refresh])
  assert.deepEqual(new Set(secrets), given, 'what was given is masked in every record')
  assert.equal((await login.token())?.value, fake.tokens[0]!.access)
  secrets.length = 0
  assert.equal((await open().of(server, chain).token())?.value, fake.tokens[0]!.access)
  assert.deepEqual(new Set(secrets), given, 'on another node too')
  const row = await store.db.selectFrom('upstream_logins').selectAll().executeTakeFirstOrThrow()
  assert.equal(row.issuer, fake.issuer)
  assert.ok(!Buffer.from(row.sealed).includes(fake.tokens[0]!.access))
  assert.deepEqual(await logins.remove(server, { subject: '*', by }), { revoked: true })
  assert.equal(fake.of('/revoke')[0]?.body.get('token'), fake.tokens[0]!.refresh)
  assert.equal((await login.token())?.value, undefined)
  await assert.rejects(logins.remove(server, { subject: '*', by }), refused('not_found'))
  assert.deepEqual(
    records.map(({ type, data }) => [type, data?.what]),
    [
      ['upstream.login', 'begun'],
      ['upstream.login', 'finished'],
      ['upstream.login', 'removed'],
    ],
  )
  assert.doesNotMatch(inspect(records, { depth: 9 }), /access-|refresh-|code-|secret-/)
})

test('rule 5: a login serves only who gave it: everybody, or one person and the agents that act for him', async (t) => {
  const { fake, logins, serverWith, logIn } = await place(t)
  const each = serverWith({ for: 'each' })
  await logIn(each, 'usr_1')
  assert.equal((await logins.of(each, chain).token())?.value, fake.tokens[0]!.access)
  assert.equal(
    (await logins.of(each, [{ identity: 'usr_9' }, { identity: 'usr_1' }]).token())?.value,
    undefined,
    'the first link counts, not any link',
  )
  assert.equal((await logins.of(serverWith({}), chain).token())?.value, undefined)
})

test('rule 5: a token is not sent to another server that the document names later, nor used with another registration', async (t) => {
  const { logins, serverWith, logIn } = await place(t)
  await logIn()
  assert.equal((await logins.of(serverWith({}, { url: 'https://elsewhere.test/mcp' }), chain).token())?.value, undefined)
  assert.equal((await logins.of(serverWith({ client_id: 'another' }), chain).token())?.value, undefined)
})

test('a login is removed here also when its authorization server is gone', async (t) => {
  const { fake, logins, server, logIn } = await place(t)
  await logIn()
  await fake.close()
  assert.deepEqual(await logins.remove(server, { subject: '*', by }), { revoked: false })
  assert.equal((await logins.of(server, chain).token())?.value, undefined)
})

test('a state is used once, by whoever began it, within ten minutes, for the server as it was then', async (t) => {
  const { fake, logins, server, serverWith, begin, answer, advance } = await place(t)
  const first = answer((await begin()).url)
  await assert.rejects(logins.finish(server, first, { identity: 'usr_2', by }), refused('not_found'))
  assert.deepEqual(await logins.began(first.state, 'usr_1'), { resource: 'res_1', subject: '*' })
  assert.equal(await logins.began(first.state, 'usr_2'), undefined)
  await logins.finish(server, first, { identity: 'usr_1', by })
  await assert.rejects(logins.finish(server, first, { identity: 'usr_1', by }), refused('not_found'))
  const second = answer((await begin()).url)
  advance(10 * 60_000)
  await assert.rejects(logins.finish(server, second, { identity: 'usr_1', by }), refused('not_found'))
  const third = answer((await begin()).url)
  await assert.rejects(logins.finish(serverWith({ for: 'each' }), third, { identity: 'usr_1', by }), refused('not_found'))
  const fourth = answer((await begin()).url)
  await assert.rejects(logins.finish(serverWith({}, { url: `${fake.url}/other` }), fourth, { identity: 'usr_1', by }), refused('not_found'))
  await assert.rejects(logins.finish(server, { ...second, state: 'guessed' }, { identity: 'usr_1', by }), refused('not_found'))
})

test('a failed answer uses the state up, and repeats nothing that an attacker wrote', async (t) => {
  const { logins, server, begin, answer, records } = await place(t)
  const { state, iss } = answer((await begin()).url)
  await assert.rejects(
    logins.finish(server, { state, iss, error: 'access_denied' }, { identity: 'usr_1', by }),
    refused('upstream_unavailable', /access_denied/),
  )
  await assert.rejects(logins.finish(server, { state, iss, error: 'access_denied' }, { identity: 'usr_1', by }), refused('not_found'))
  assert.equal(records.at(-1)?.data?.what, 'failed')
  const again = answer((await begin()).url)
  await assert.rejects(
    logins.finish(server, { state: again.state, error: 'Call CHEAP-NUMBER' }, { identity: 'usr_1', by }),
    (error: ChaperoneError) => {
      return /names another authorization server, or none/.test(error.message) && !error.message.includes('CHEAP')
    },
  )
})

for (const [iss, advertiseIss, works] of [
  ['right', true, true],
  ['right', false, true],
  ['none', false, true],
  ['none', true, false],
  ['wrong', true, false],
  ['wrong', false, false],
] as const) {
  test(`an answer with ${iss === 'none' ? 'no' : `the ${iss}`} issuer, ${advertiseIss ? 'announced' : 'not announced'}, is ${works ? 'taken' : 'refused before the code is used (mix-up)'}`, async (t) => {
    const { fake, logIn } = await place(t)
    Object.assign(fake.knobs, { iss, advertiseIss })
    if (works) await logIn()
    else await assert.rejects(logIn(), refused('upstream_unavailable'))
    assert.equal(fake.of('/token').length, works ? 1 : 0)
  })
}

test('a token is refreshed ahead of its end, once however many ask, and a rotated refresh token is kept', async (t) => {
  const { fake, logins, server, logIn, advance, records } = await place(t)
  await logIn()
  const login = logins.of(server, chain)
  advance((3600 - 61) * 1000)
  assert.equal((await login.token())?.value, fake.tokens[0]!.access)
  advance(2_000)
  const many = await Promise.all(Array.from({ length: 20 }, async () => (await logins.of(server, chain).token())?.value))
  assert.deepEqual(new Set(many), new Set([fake.tokens[1]!.access]))
  assert.equal(fake.of('/token').length, 2)
  advance(3600 * 1000)
  assert.equal((await login.token())?.value, fake.tokens[2]!.access)
  assert.equal(fake.of('/token').at(-1)?.body.get('refresh_token'), fake.tokens[1]!.refresh)
  assert.equal(fake.of('/token').at(-1)?.body.get('resource'), fake.url)
  assert.deepEqual(records.filter(({ data }) => data?.what === 'refreshed').length, 2)
})

test('two nodes refresh one after the other: the second takes what the first was given', async (t) => {
  const { fake, open, server, logIn, advance } = await place(t)
  await logIn()
  advance(3600 * 1000)
  const { promise, resolve } = Promise.withResolvers<void>()
  fake.knobs.beforeToken = promise
  const both = [open(), open()].map(async (node) => (await node.of(server, chain).token())?.value)
  setTimeout(resolve, 100)
  assert.deepEqual(await Promise.all(both), [fake.tokens[1]!.access, fake.tokens[1]!.access])
  assert.equal(fake.of('/token').length, 2)
})

test('while the authorization server fails, a token that still works is used; then the failure is said, and the login stays', async (t) => {
  const { fake, logins, server, logIn, advance } = await place(t)
  await logIn()
  fake.knobs.refreshError = 'server_error'
  fake.knobs.refreshStatus = 500
  advance((3600 - 30) * 1000)
  const login = logins.of(server, chain)
  assert.equal((await login.token())?.value, fake.tokens[0]!.access)
  assert.equal((await login.token())?.value, fake.tokens[0]!.access)
  assert.equal(fake.of('/token').length, 2, 'it is not asked again at once')
  advance(60_000)
  await assert.rejects(login.token(), refused('upstream_unavailable'))
  await assert.rejects(login.token(), refused('upstream_unavailable'))
  fake.knobs.refreshError = undefined
  advance(5_000)
  assert.equal((await login.token())?.value, fake.tokens[1]!.access)
})

test('a login whose refresh token is turned down is over, and says so', async (t) => {
  const { fake, logins, server, logIn, advance, records } = await place(t)
  await logIn()
  fake.knobs.refreshError = 'invalid_grant'
  advance(3600 * 1000)
  const login = logins.of(server, chain)
  assert.equal((await login.token())?.value, undefined)
  await assert.rejects(
    login.refused(401, undefined, undefined),
    (error: ChaperoneError) => error.code === 'upstream_login_required' && error.fix === 'chaperone mcp login wiki',
  )
  assert.equal(fake.of('/token').length, 2, 'and is not tried again')
  assert.equal(records.at(-1)?.data?.what, 'ended')
})

test('a token that the server turns down is refreshed once; one that was just given is not', async (t) => {
  const { fake, logins, server, logIn, advance } = await place(t)
  await logIn()
  const login = logins.of(server, chain)
  const used = (await login.token())?.value
  await assert.rejects(login.refused(401, undefined, used), refused('upstream_login_required'))
  advance(10_000)
  assert.equal(await login.refused(401, undefined, used), true)
  const next = (await login.token())?.value
  assert.equal(next, fake.tokens[1]!.access)
  assert.equal(await login.refused(401, undefined, used), true, 'somebody else has it already')
  await assert.rejects(login.refused(401, undefined, next), refused('upstream_login_required'))
  assert.equal(fake.of('/token').length, 2)
})

test('a request for more scopes is an error that says so; the next login asks for the old and the new', async (t) => {
  const { fake, logins, server, logIn } = await place(t)
  await logIn()
  const login = logins.of(server, chain)
  const used = (await login.token())?.value
  assert.equal(await login.refused(403, undefined, used), false, 'forbidden for another reason: no login would help')
  assert.equal(await login.refused(403, 'Bearer error="access_denied"', used), false)
  await assert.rejects(
    login.refused(403, 'Bearer error="insufficient_scope", scope="write admin"', used),
    refused('upstream_login_required', /write admin/),
  )
  assert.equal((await login.token())?.value, used, 'what it may do already goes on')
  assert.deepEqual(new Set((await logIn()).searchParams.get('scope')?.split(' ')), new Set(['read', 'write', 'admin', 'offline_access']))
  await assert.rejects(
    login.refused(403, 'Bearer error="insufficient_scope", scope="write"', fake.tokens[1]!.access),
    refused('upstream_unavailable', /every scope/),
    'what it has already cannot be asked for again',
  )
})

test('the document decides the scopes where it names some', async (t) => {
  const { logIn } = await place(t, { oauth: { scopes: ['only'] } })
  assert.equal((await logIn()).searchParams.get('scope'), 'only')
})

test('without a challenge everything that the server lists is asked for', async (t) => {
  const { fake, logIn } = await place(t)
  fake.knobs.challenge = false
  assert.equal((await logIn()).searchParams.get('scope'), 'read write offline_access')
})

test('registration: beforehand, else by metadata document, else dynamically; a second login uses the same', async (t) => {
  const { fake, logins, serverWith, logIn, open, answer } = await place(t)
  await logIn()
  await logIn()
  const registered = fake.of('/register')
  assert.equal(registered.length, 1)
  const { redirect_uris, application_type, grant_types, token_endpoint_auth_method } = JSON.parse(registered[0]!.text)
  assert.deepEqual(
    { redirect_uris, application_type, grant_types, token_endpoint_auth_method },
    {
      redirect_uris: [REDIRECT],
      application_type: 'native',
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'none',
    },
  )
  fake.knobs.clientDocuments = true
  const hosted = open({ clientDocument: 'https://chaperone.test/client.json' })
  const { url } = await hosted.begin(serverWith({}), { subject: 'usr_3', identity: 'usr_1', redirect: REDIRECT, by })
  assert.equal(new URL(url).searchParams.get('client_id'), 'https://chaperone.test/client.json')
  fake.knobs.methods = ['client_secret_basic']
  const known = serverWith({ client_id: 'ours', client_secret: { secret: 'wiki-client' } })
  const begun = await hosted.begin(known, { subject: '*', identity: 'usr_1', redirect: REDIRECT, by })
  assert.equal(new URL(begun.url).searchParams.get('client_id'), 'ours')
  await logins.finish(known, answer(begun.url), { identity: 'usr_1', by })
  assert.equal(fake.of('/token').at(-1)?.headers.authorization, `Basic ${Buffer.from('ours:revealed-wiki-client').toString('base64')}`)
  assert.equal(fake.of('/register').length, 1)
})

test('a server that registers nobody is said to be one, with what to do', async (t) => {
  const { fake, begin } = await place(t)
  fake.knobs.registration = false
  await assert.rejects(begin(), (error: ChaperoneError) => error.code === 'upstream_unavailable' && /client_id/.test(error.fix ?? ''))
})

for (const [what, knobs] of [
  ['metadata that speaks of another resource', { resourceMetadata: (document: object) => ({ ...document, resource: 'https://other.test/mcp' }) }],
  ['metadata of another issuer', { serverMetadata: (document: object) => ({ ...document, issuer: 'https://other.test' }) }],
  ['a server without PKCE', { serverMetadata: (document: object) => ({ ...document, code_challenge_methods_supported: undefined }) }],
  ['a page for the browser that is a program', { serverMetadata: (document: object) => ({ ...document, authorization_endpoint: 'file:///bin/sh' }) }],
  [
    'a page for the browser without TLS elsewhere',
    { serverMetadata: (document: object) => ({ ...document, authorization_endpoint: 'http://login.test/' }) },
  ],
  [
    'a token endpoint at the metadata service of a cloud',
    { serverMetadata: (document: object) => ({ ...document, token_endpoint: 'http://169.254.169.254/token' }) },
  ],
  [
    'an authorization server at the metadata service of a cloud',
    { resourceMetadata: (document: object) => ({ ...document, authorization_servers: ['https://169.254.169.254'] }) },
  ],
] as const) {
  test(`${what} leads nowhere`, async (t) => {
    const { fake, logIn } = await place(t)
    Object.assign(fake.knobs, knobs)
    await assert.rejects(logIn(), refused('upstream_unavailable'))
    assert.deepEqual(fake.tokens, [])
  })
}

test('the redirect of a login is on the machine of the person who logs in', async (t) => {
  const { logins, server } = await place(t)
  for (const redirect of [
    'https://evil.test/callback',
    'http://127.0.0.1:1/other',
    'http://127.0.0.1:1/callback?x=1',
    'http://127.0.0.1@evil.test:1/callback',
  ])
    await assert.rejects(logins.begin(server, { subject: '*', identity: 'usr_1', redirect, by }), refused('usage'))
})

test('over TLS with names: the company authority of the document is believed, and nothing without it', async (t) => {
  const authority = await fakeAuthority()
  const leaf = await authority.issue(['mcp.test', 'login.test'])
  const fake = await fakeOAuth({ tls: { key: leaf.key, cert: leaf.chain }, hosts: { mcp: 'mcp.test', login: 'login.test' } })
  const resolve = async () => [{ address: '127.0.0.1', family: 4 }]
  const { logins, server, logIn, serverWith, begin, advance } = await place(t, { fake, more: { resolve }, spec: { ca: authority.certificate } })
  await logIn()
  assert.equal((await logins.of(server, chain).token())?.value, fake.tokens[0]!.access)
  advance(3600 * 1000)
  assert.equal((await logins.of(server, chain).token())?.value, fake.tokens[1]!.access, 'where the server lies is remembered for the refresh')
  await assert.rejects(begin(serverWith({}, { ca: undefined })), refused('upstream_unavailable'))
})

test('SEP-2352: a client that was registered by hand is not brought to another authorization server than before', async (t) => {
  const { fake, begin, logIn, logins, server } = await place(t, { oauth: { client_id: 'ours', client_secret: { secret: 'ours' } } })
  fake.knobs.methods = ['client_secret_post']
  await logIn()
  const thief = await fakeOAuth()
  t.after(() => thief.close())
  fake.knobs.resourceMetadata = (document) => ({ ...document, authorization_servers: [thief.issuer] })
  await assert.rejects(begin(), refused('upstream_unavailable', /wants the login at .* by now; the last one was at/))
  assert.deepEqual(thief.of('/token'), [])
  await logins.remove(server, { subject: '*', by })
  assert.match((await begin()).url, new RegExp(`^${thief.issuer}/authorize`), 'whoever says so by a logout goes there')
})
