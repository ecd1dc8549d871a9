import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { issuerOf, joinContext, NOW, refusedFor as refused } from './joining.fixture.ts'
import type { JoinRefused } from './refused.ts'
import { claimsOfToken, tokenProof, verifyWorkloadToken } from './workload-token.ts'

const at = issuerOf('https://ci.example')
const place = { issuer: at.issuer, jwks: at.jwks }
const verify = (token: string, over = {}) => verifyWorkloadToken(token, place, joinContext(over), 'oidc')
const b64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

test('rule 1: a token of the issuer for us proves its subject, by each kind of key', async () => {
  for (const type of ['rsa', 'p256', 'ed25519'] as const) {
    const other = issuerOf('https://ci.example', type)
    const { payload, once } = await verifyWorkloadToken(
      await other.token({ repository: 'octo/app' }),
      { issuer: other.issuer, jwks: other.jwks },
      joinContext(),
      'oidc',
    )
    assert.equal(payload.sub, 'workload')
    assert.match(once.key, /^jti /)
    assert.equal(once.until, NOW + 310_000)
  }
})

test('rule 1: a token signed by somebody else is refused, under the same key id too', async () => {
  const thief = issuerOf('https://ci.example')
  await assert.rejects(verify(await thief.token()), refused(/signature of the token does not hold/))
})

test('rule 1: one changed letter of a token is enough to refuse it', async () => {
  const [header, payload, signature] = (await at.token()).split('.')
  const other = b64({ ...JSON.parse(Buffer.from(payload!, 'base64url').toString()), sub: 'admin' })
  await assert.rejects(verify(`${header}.${other}.${signature}`), refused(/signature/))
})

test('rule 1: a token without a signature is refused', async () => {
  const claims = { iss: at.issuer, aud: 'https://test', sub: 'x', iat: NOW / 1000, exp: NOW / 1000 + 60 }
  for (const alg of ['none', 'None', 'NONE']) await assert.rejects(verify(`${b64({ alg, typ: 'JWT' })}.${b64(claims)}.`), refused(/not believed/))
})

test('rule 1: a token signed with the public key as a shared secret (HS256) is refused', async () => {
  const rsa = issuerOf('https://ci.example', 'rsa')
  const secret = rsa.publicKey.export({ type: 'spki', format: 'pem' })
  const head = `${b64({ alg: 'HS256', kid: 'k1', typ: 'JWT' })}.${b64({ iss: rsa.issuer, aud: 'https://test', sub: 'x', iat: NOW / 1000, exp: NOW / 1000 + 60 })}`
  const forged = `${head}.${createHmac('sha256', secret).update(head).digest('base64url')}`
  await assert.rejects(
    verifyWorkloadToken(forged, { issuer: rsa.issuer, jwks: rsa.jwks }, joinContext(), 'oidc'),
    refused(/"HS256" are not believed/),
  )
})

test('rule 1: what is not three parts with a header is no token', async () => {
  const [header, payload, signature] = (await at.token()).split('.')
  const kid = { alg: 'ES256', kid: 'k1' }
  for (const bad of ['', 'x', `${header}.${payload}`, `${header}.${payload}.${signature}.x`, `${b64({ ...kid, alg: 7 })}.${payload}.${signature}`])
    await assert.rejects(verify(bad), refused(/not a signed token/), bad)
  await assert.rejects(verify(`${header}.%%.${signature}`), refused(/signature|cannot be read/))
  assert.deepEqual(
    [1, 16 * 1024, 16 * 1024 + 1, 0].map((length) => tokenProof.safeParse({ token: 'x'.repeat(length) }).success),
    [true, true, false, false],
  )
})

test('rule 1: a symmetric key in a published set is no key', async () => {
  const secret = Buffer.alloc(32, 7)
  const jwks = { keys: [{ kty: 'oct', k: secret.toString('base64url'), kid: 'k1' }] }
  await assert.rejects(verifyWorkloadToken(await at.token(), { issuer: at.issuer, jwks }, joinContext(), 'oidc'), refused(/does not publish/))
})

test('rule 1: a key that the token brings along itself is not believed', async () => {
  const thief = issuerOf('https://ci.example')
  const token = await thief.token({}, { jwk: thief.publicKey.export({ format: 'jwk' }), jku: 'https://evil.example/jwks', kid: 'k1' })
  await assert.rejects(verify(token), refused(/signature/))
})

test('rule 1: a token of another issuer is refused, and told its own', async () => {
  await assert.rejects(verify(await at.token({ iss: 'https://other.example' })), refused(/`iss` is "https:\/\/other.example"/))
})

test('rule 1: a token for somebody else is refused, and told for whom it is; the right one is not named', async () => {
  await assert.rejects(verify(await at.token({ aud: 'https://elsewhere' })), (error: JoinRefused) => {
    assert.match(error.message, /`aud` is "https:\/\/elsewhere"/)
    assert.doesNotMatch(`${error.message} ${error.fix}`, /https:\/\/test/)
    assert.equal(error.facts.rule, 'https://test')
    return true
  })
})

test('rule 1: a token that is for us and for somebody else is refused: he could have handed it on', async () => {
  await assert.rejects(verify(await at.token({ aud: ['https://test', 'https://elsewhere'] })), refused(/for this server alone/))
  await verify(await at.token({ aud: ['https://test'] }))
})

test('rule 4: a token is refused after its end, before its beginning, and when it was made in the future', async () => {
  await assert.rejects(verify(await at.token({ exp: NOW / 1000 - 11 })), refused(/past its end/))
  await assert.rejects(verify(await at.token({ nbf: NOW / 1000 + 60 })), refused(/does not hold yet/))
  await assert.rejects(verify(await at.token({ iat: NOW / 1000 + 60, exp: NOW / 1000 + 300 })), refused(/in the future|iat/))
})

test('rule 4: a token without an end, or with one in a year, is refused', async () => {
  await assert.rejects(verify(await at.token({ exp: undefined })), refused(/`exp` is missing/))
  await assert.rejects(verify(await at.token({ iat: undefined })), refused(/`iat` is missing/))
  await assert.rejects(verify(await at.token({ exp: NOW / 1000 + 365 * 86_400 })), refused(/more than 24 hours/))
})

test('rule 1: access tokens, logout tokens and assertions of the same issuer prove nothing', async () => {
  for (const typ of ['at+jwt', 'logout+jwt', 'oauth-id-jag+jwt', 'chaperone-join+jwt', 'application/at+jwt'])
    await assert.rejects(verify(await at.token({}, { typ })), refused(/proves nothing here/))
  await verify(await at.token({}, { typ: undefined }))
})

test('rule 5: what is no token, or too long for one, is refused without an exception of a library', async () => {
  for (const text of ['', 'x', 'a.b.c', '..', `${b64({ alg: 'ES256' })}..`, `${b64({ alg: 'ES256', crit: ['x'], x: 1 })}.${b64({})}.AA`, '💥.💥.💥'])
    await assert.rejects(verify(text), refused(/./))
})

test('a token without a subject names nobody', async () => {
  await assert.rejects(verify(await at.token({ sub: undefined })), refused(/`sub` is missing/))
  await assert.rejects(verify(await at.token({ sub: '' })), refused(/names nobody/))
})

test('a token without an id is known by what was signed: the second signature of an ECDSA token is no second token', async () => {
  const token = await at.token({ jti: undefined })
  const [header, payload] = token.split('.')
  const again = await at.token({ jti: undefined })
  assert.notEqual(again.split('.')[2], token.split('.')[2])
  assert.equal(`${again.split('.')[0]}.${again.split('.')[1]}`, `${header}.${payload}`)
  assert.equal((await verify(token)).once.key, (await verify(again)).once.key)
})

test('claims are texts, numbers, truths and lists of them; what is nested has no name', () => {
  const claims = claimsOfToken({
    sub: 'a',
    run_id: 7,
    ref_protected: true,
    groups: ['a', 3, {}],
    nested: { repository: 'x' },
    nothing: null,
  } as never)
  assert.deepEqual(claims, { sub: 'a', run_id: '7', ref_protected: 'true', groups: ['a', '3'] })
})

test('a token without a key id is tried with each key that could have made it: an issuer that rotates publishes two', async () => {
  const next = issuerOf('https://ci.example')
  const two = { issuer: at.issuer, jwks: { keys: [...next.jwks.keys, ...at.jwks.keys] } }
  const nameless = await at.token({}, { kid: undefined })
  assert.equal((await verifyWorkloadToken(nameless, two, joinContext(), 'oidc')).payload.sub, 'workload')
  await assert.rejects(
    verifyWorkloadToken(await issuerOf('https://ci.example').token({}, { kid: undefined }), two, joinContext(), 'oidc'),
    refused(/signature/),
  )
  // What is wrong beside the signature is still looked at.
  const over = await at.token({ exp: NOW / 1000 - 60 }, { kid: undefined })
  await assert.rejects(verifyWorkloadToken(over, two, joinContext(), 'oidc'), refused(/past its end/))
})

test('rule 8: who has proven nothing yet hears the same for every fault; the record has each', async () => {
  const thief = issuerOf('https://ci.example')
  const tokens = [
    'a.b.c',
    await thief.token(),
    await thief.token({ exp: 1, aud: 'https://elsewhere' }),
    await at.token({}, { kid: 'k9' }),
    await at.token({}, { typ: 'at+jwt' }),
  ]
  const heard = await Promise.all(
    tokens.map((token) =>
      verify(token).then(
        () => assert.fail(),
        (error: JoinRefused) => [error.message, error.fix, error.facts.why],
      ),
    ),
  )
  assert.equal(new Set(heard.map(([message, fix]) => `${message} ${fix}`)).size, 1)
  assert.equal(new Set(heard.map(([, , why]) => why)).size, 4)
})
