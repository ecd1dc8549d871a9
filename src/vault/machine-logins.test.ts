import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import { mcpServerSpec } from '../catalog/mcp-server.ts'
import { ChaperoneError } from '../errors.ts'
import { openTokens } from '../identity/tokens.ts'
import { openAssertions } from './assertions.ts'
import type { LoginServer } from './logins.ts'
import { loginsPlace } from './place.fixture.ts'

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const SECRETS: Readonly<Record<string, string>> = {
  word: 'hunter2 & ü%',
  key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  broken: 'no key at all',
}
const CHAIN = [{ identity: 'usr_1' }, { identity: 'agt_2', delegation: 'dlg_1' }, { identity: 'agt_3', delegation: 'dlg_2' }]

async function place(t: TestContext) {
  const { fake, keyring, clock, records, secrets, open, advance } = await loginsPlace(t)
  const assertions = openAssertions({ keyring, clock, places: { web: 'chaperone.test' } })
  const logins = open({
    reveal: async (name) => SECRETS[name] ?? '',
    machine: { assertions, identify: (id) => (id === 'gone' ? undefined : { spiffe: `spiffe://acme.test/x/${id}`, name: `name-${id}` }) },
  })
  const server = (auth: object): LoginServer => ({ id: 'res_1', name: 'wiki', spec: mcpServerSpec.parse({ url: fake.url, auth }) })
  const challenge = `Bearer scope="read", resource_metadata="${new URL(fake.url).origin}/.well-known/oauth-protected-resource/mcp"`
  /** As the gateway does it: asks, is refused, and asks again. */
  const tokenAt = async (at: LoginServer, chain = CHAIN) => {
    const login = logins.of(at, chain)
    const first = (await login.token())?.value
    if (first !== undefined) return first
    assert.equal(await login.refused(401, challenge, undefined), true)
    return (await login.token())?.value
  }
  return { fake, keyring, clock, assertions, logins, server, tokenAt, challenge, records, secrets, advance }
}

const unavailable = (text: RegExp) => (error: unknown) =>
  error instanceof ChaperoneError &&
  error.code === 'upstream_unavailable' &&
  text.test(error.message) &&
  !inspect(error, { depth: 9 }).includes('hunter2')

test('Chaperone logs in for itself with a secret, asks what the server named, and does so once for all', async (t) => {
  const { fake, server, tokenAt, secrets, records, advance } = await place(t)
  const at = server({ client_credentials: { client_id: 'chap:one', client_secret: { secret: 'word' } } })
  const token = await tokenAt(at)
  assert.equal(token, fake.tokens[0]!.access)
  const [asked] = fake.of('/token')
  assert.deepEqual(Object.fromEntries(asked!.body), { grant_type: 'client_credentials', scope: 'read', resource: fake.url })
  const basic = Buffer.from(asked!.headers.authorization!.replace('Basic ', ''), 'base64').toString()
  assert.equal(basic, 'chap%3Aone:hunter2+%26+%C3%BC%25', 'RFC 6749 section 2.3.1')
  assert.ok(secrets.includes(SECRETS.word!) && secrets.includes(token!))
  assert.deepEqual(await Promise.all([1, 2, 3].map(() => tokenAt(at, [{ identity: 'usr_9' }]))), [token, token, token])
  assert.equal(fake.of('/token').length, 1)
  assert.deepEqual(
    records.map(({ type, data }) => [type, data?.what]),
    [['upstream.login', 'granted']],
  )
  advance(3_600_000)
  assert.equal(await tokenAt(at), fake.tokens[1]!.access, 'over, so another one')
})

test('with a key nothing secret is sent: the assertion names the client, the issuer, and one minute', async (t) => {
  const { fake, server, tokenAt, clock } = await place(t)
  await tokenAt(server({ client_credentials: { client_id: 'chap', private_key: { secret: 'key' }, key_id: 'k1', scopes: ['a', 'b'] } }))
  const [asked] = fake.of('/token')
  assert.equal(asked!.headers.authorization, undefined)
  assert.equal(asked!.body.get('scope'), 'a b')
  assert.equal(asked!.body.get('client_assertion_type'), 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer')
  const { payload, protectedHeader } = await jwtVerify(asked!.body.get('client_assertion')!, pair.publicKey, {
    audience: fake.issuer,
    issuer: 'chap',
    subject: 'chap',
  })
  assert.deepEqual([protectedHeader.alg, protectedHeader.kid], ['ES256', 'k1'])
  assert.ok(payload.exp! - clock.now() / 1000 <= 60)
})

test('a secret that is no key, and an authorization server that says no, are told without their words', async (t) => {
  const { fake, server, tokenAt } = await place(t)
  await assert.rejects(tokenAt(server({ client_credentials: { client_id: 'c', private_key: { secret: 'broken' } } })), unavailable(/no PEM/))
  fake.knobs.refreshError = 'invalid_client'
  await assert.rejects(
    tokenAt(server({ client_credentials: { client_id: 'c2', client_secret: { secret: 'word' } } })),
    unavailable(/it said invalid_client/),
  )
  fake.knobs.refreshError = '<hunter2>'
  await assert.rejects(tokenAt(server({ client_credentials: { client_id: 'c3', client_secret: { secret: 'word' } } })), unavailable(/it said no\./))
})

test('an upstream is told who calls, on whose behalf, by a token that it verifies with the published keys', async (t) => {
  const { server, tokenAt, assertions, records, secrets, fake } = await place(t)
  const token = (await tokenAt(server({ identity: { audience: 'https://crm.test' } })))!
  const { payload, protectedHeader } = await jwtVerify(token, createLocalJWKSet(await assertions.keys()), {
    issuer: 'https://chaperone.test/identity',
    audience: 'https://crm.test',
    algorithms: ['ES256'],
    typ: 'JWT',
  })
  const { iat, nbf, exp, jti, ...said } = payload
  assert.deepEqual(said, {
    iss: 'https://chaperone.test/identity',
    aud: 'https://crm.test',
    sub: 'spiffe://acme.test/x/usr_1',
    preferred_username: 'name-usr_1',
    act: { sub: 'spiffe://acme.test/x/agt_3', act: { sub: 'spiffe://acme.test/x/agt_2' } },
  })
  assert.equal(exp! - iat!, 300)
  assert.equal(nbf, iat)
  assert.ok(protectedHeader.kid)
  assert.ok(secrets.includes(token), 'masked before it is used')
  assert.deepEqual(
    records.map(({ data }) => [data?.what, data?.subject, data?.audience, data?.token]),
    [['minted', 'usr_1', 'https://crm.test', jti]],
  )
  assert.doesNotMatch(inspect(records, { depth: 9 }), /eyJ/)
  assert.deepEqual(fake.of('/token'), [])
})

test('rule 3: a minted identity opens nothing at Chaperone, and holds no private key in what is published', async (t) => {
  const { keyring, clock, assertions, server, tokenAt } = await place(t)
  const tokens = openTokens({ keyring, clock, trustDomain: 'acme.test' })
  for (const audience of ['https://acme.test', 'https://chaperone.test/mcp']) {
    const token = (await tokenAt(server({ identity: { audience } })))!
    await assert.rejects(tokens.verify(token, audience), (error) => error instanceof ChaperoneError && error.code === 'credential_invalid')
  }
  const { keys } = await assertions.keys()
  assert.deepEqual(
    keys.map((key) => Object.keys(key).sort()),
    [['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']],
  )
  const own = await keyring.verifiers('tokens')
  assert.ok(!own.some(({ id }) => keys.some(({ kid }) => kid === id)), 'a key of its own')
})

test('every chain has a token of its own, kept for less than its life', async (t) => {
  const { server, tokenAt, advance } = await place(t)
  const at = server({ identity: { audience: 'a' } })
  const one = await tokenAt(at)
  assert.equal(await tokenAt(at), one)
  const alone = (await tokenAt(at, [{ identity: 'usr_1' }]))!
  assert.equal(decodeJwt(alone).act, undefined)
  const other = await tokenAt(at, [{ identity: 'usr_1' }, { identity: 'agt_2', delegation: 'dlg_9' }])
  assert.equal(new Set([one, alone, other]).size, 3)
  advance(271_000)
  assert.notEqual(await tokenAt(at), one)
  await assert.rejects(tokenAt(at, [{ identity: 'gone' }]), (error) => error instanceof ChaperoneError && error.code === 'identity_disabled')
})

test('a token that is turned down is replaced once, not for ever', async (t) => {
  const { server, logins, challenge, advance } = await place(t)
  const login = logins.of(server({ identity: { audience: 'a' } }), CHAIN)
  const token = (await login.token())?.value
  assert.equal(await login.refused(401, challenge, token), false, 'it was just made')
  advance(6_000)
  assert.equal(await login.refused(401, challenge, token), true)
  assert.notEqual((await login.token())?.value, token)
  assert.equal(await login.refused(403, challenge, (await login.token())?.value), false)
})

test('the minted identity is exchanged at the authorization server of the upstream: RFC 8693 or RFC 7523', async (t) => {
  const { fake, server, tokenAt } = await place(t)
  const exchange = (by: string) =>
    server({ identity: { audience: fake.issuer, exchange: { by, client_id: 'chap', client_secret: { secret: 'word' } } } })
  assert.equal(await tokenAt(exchange('token-exchange')), fake.tokens[0]!.access)
  assert.equal(await tokenAt(exchange('jwt-bearer')), fake.tokens[1]!.access)
  const [first, second] = fake.of('/token').map(({ body }) => Object.fromEntries(body))
  assert.equal(first!.subject_token_type, 'urn:ietf:params:oauth:token-type:jwt')
  for (const token of [first!.subject_token!, second!.assertion!]) {
    assert.equal(decodeJwt(token).aud, fake.issuer)
    assert.equal(decodeProtectedHeader(token).typ, 'JWT')
  }
})

test('a document says one way to log in, and all that it needs', () => {
  const parse = (auth: unknown) => mcpServerSpec.safeParse({ url: 'https://x.test', auth }).success
  const secret = { secret: 's' }
  assert.ok(parse({ client_credentials: { client_id: 'c', client_secret: secret } }))
  for (const wrong of [
    {},
    { oauth: {}, identity: { audience: 'a' } },
    { client_credentials: { client_id: 'c' } },
    { client_credentials: { client_id: 'c', client_secret: secret, private_key: secret } },
    { client_credentials: { client_id: 'c', client_secret: 'in clear' } },
    { identity: {} },
    { identity: { audience: 'a', exchange: { by: 'token-exchange', client_secret: secret } } },
    { identity: { audience: 'a', exchange: { by: 'token-exchange', identity_provider: { token_endpoint: 'https://i.test', client_id: 'c' } } } },
  ])
    assert.equal(parse(wrong), false, JSON.stringify(wrong))
})
