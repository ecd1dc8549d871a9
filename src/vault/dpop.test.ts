import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import { manualClock } from '../clock.ts'
import { readChallenge } from './challenge.ts'
import { openProvers, provingFetch } from './dpop.ts'

const NOW = 1_795_400_000_000
const TOKEN_ENDPOINT = 'https://login.test/token'
const answer = (error: string | undefined, more: { nonce?: string; date?: string } = {}) => ({ error, nonce: undefined, date: undefined, ...more })

test('a proof is for one method, address and token, and shows the public key alone (RFC 9449 section 4.2)', async () => {
  const provers = openProvers(manualClock(NOW))
  const key = await provers.makeKey()
  assert.equal(typeof key.d, 'string', 'kept with the login')
  const prover = await provers.of(key)
  const proof = await prover.prove({ method: 'POST', url: 'https://mcp.test:8443/mcp?a=1#b', token: 'abc' })
  const { jwk, ...header } = decodeProtectedHeader(proof)
  assert.deepEqual([header, Object.keys(jwk!)], [{ alg: 'ES256', typ: 'dpop+jwt' }, ['kty', 'crv', 'x', 'y']])
  const { payload } = await jwtVerify(proof, jwk!, { currentDate: new Date(NOW) })
  const { jti, ...claims } = payload
  assert.match(jti!, /^[0-9a-f-]{36}$/)
  // printf abc | openssl dgst -sha256 -binary | basenc --base64url
  assert.deepEqual(claims, { htm: 'POST', htu: 'https://mcp.test:8443/mcp', ath: 'ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0', iat: NOW / 1000 })
  assert.equal(await provers.of(JSON.parse(JSON.stringify(key))), prover, 'its nonces are kept with it')
  assert.equal(decodeJwt(await prover.prove({ method: 'POST', url: TOKEN_ENDPOINT })).ath, undefined)
})

test('a nonce is shown to the origin that gave it and to no other, and what is none is not kept', async () => {
  const prover = await openProvers(manualClock(NOW)).fresh()
  const nonceAt = async (url: string) => decodeJwt(await prover.prove({ method: 'GET', url })).nonce
  assert.equal(prover.heard('https://a.test/x', answer('use_dpop_nonce', { nonce: 'n1' })), true)
  assert.equal(prover.heard('https://b.test', answer('use_dpop_nonce')), false, 'without one there is nothing to do better')
  assert.deepEqual(
    [await nonceAt('https://a.test/y'), await nonceAt('https://a.test:444/'), await nonceAt('https://b.test/')],
    ['n1', undefined, undefined],
  )
  for (const nonce of ['a b', 'a"b', 'a\\b', 'é', 'x'.repeat(1025)])
    assert.equal(prover.heard('https://a.test', answer('use_dpop_nonce', { nonce })), false)
  assert.equal(await nonceAt('https://a.test/'), 'n1')
  assert.equal(prover.heard('https://a.test', answer(undefined, { nonce: 'n2' })), false)
  assert.equal(await nonceAt('https://a.test/'), 'n2')
})

test('the time of a server is followed within ten minutes, and only where it turned a proof down', async () => {
  const prover = await openProvers(manualClock(NOW)).fresh()
  const url = 'https://a.test'
  const iat = async () => (decodeJwt(await prover.prove({ method: 'GET', url })).iat! * 1000 - NOW) / 60_000
  const at = (minutes: number) => ({ date: new Date(NOW + minutes * 60_000).toUTCString() })
  assert.equal(prover.heard(url, answer(undefined, at(5))), false)
  assert.equal(await iat(), 0)
  for (const [minutes, again] of [
    [0, false],
    [11, false],
    [-11, false],
    [5, true],
    [5, false],
    [-9, true],
  ] as const)
    assert.equal(prover.heard(url, answer('invalid_dpop_proof', at(minutes))), again, `${minutes}`)
  assert.equal(await iat(), -9)
  for (const date of [undefined, '', 'never'])
    assert.equal(prover.heard(url, answer('invalid_dpop_proof', date === undefined ? {} : { date })), false)
})

test('a proof goes to the token endpoint alone, once more at the most, and each time it is another', async () => {
  const prover = await openProvers(manualClock(NOW)).fresh()
  const seen: { url: string; proof: string | null; body: unknown }[] = []
  const fetch = async (to: string | URL, init?: RequestInit) => {
    seen.push({ url: String(to), proof: new Headers(init?.headers).get('dpop'), body: init?.body })
    return Response.json({ error: 'use_dpop_nonce' }, { status: 400, headers: { 'dpop-nonce': `n${seen.length}` } })
  }
  const proving = provingFetch(fetch, prover, TOKEN_ENDPOINT)
  const last = await proving(TOKEN_ENDPOINT, { method: 'POST', body: 'code=1' })
  assert.deepEqual(await last.json(), { error: 'use_dpop_nonce' }, 'the caller reads the answer that remains')
  assert.deepEqual(
    seen.map(({ proof, body }) => [decodeJwt(proof!).nonce, body]),
    [
      [undefined, 'code=1'],
      ['n1', 'code=1'],
    ],
  )
  assert.notEqual(decodeJwt(seen[0]!.proof!).jti, decodeJwt(seen[1]!.proof!).jti)
  for (const other of ['https://login.test/revoke', 'https://elsewhere.test/token', 'https://login.test/token?x']) {
    await proving(other)
    assert.deepEqual([seen.at(-1)?.url, seen.at(-1)?.proof], [other, null])
  }
})

test('a challenge says that it takes bound tokens, beside Bearer or alone', () => {
  assert.deepEqual(readChallenge('DPoP algs="ES256 PS256", error="use_dpop_nonce", resource_metadata="https://a/b"'), {
    metadata: 'https://a/b',
    error: 'use_dpop_nonce',
    dpop: true,
  })
  assert.deepEqual(readChallenge('Bearer scope="a", error="invalid_token", DPoP algs="PS256", error="invalid_dpop_proof"'), {
    scope: 'a',
    error: 'invalid_dpop_proof',
  })
  assert.deepEqual(readChallenge('DPoP'), { dpop: true })
  assert.deepEqual(readChallenge('Bearer scope="a", DPoP, Bearer scope="b", DPoP scope="c"'), { scope: 'a', dpop: true })
  assert.equal(readChallenge('Basic realm="DPoP"'), undefined)
})
