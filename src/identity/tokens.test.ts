import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { decodeJwt, decodeProtectedHeader, type JWTHeaderParameters, type JWTPayload, SignJWT } from 'jose'
import type { CredentialClaims } from '../ca/types.ts'
import { manualClock } from '../clock.ts'
import { newId } from '../ids.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import type { Keyring } from '../keys/types.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { openTokens, TOKEN_LONGEST_MS, type Tokens } from './tokens.ts'

const AUDIENCE = 'https://gate.example.org:7444'

describe('a bearer token', () => {
  const clock = manualClock(Date.UTC(2026, 10, 22))
  let store: Store
  let keyring: Keyring
  let tokens: Tokens

  before(async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'chaperone-tokens-'))
    store = await openStore({ dataDir }, { clock })
    keyring = await openKeyring(store, await loadRootKey({ store, createAt: `${dataDir}.key` }), clock)
    tokens = openTokens({ keyring, clock, trustDomain: 'example.org' })
  })
  after(() => store.close())

  const boris = newId('usr')
  const agent = newId('agt')
  const helper = newId('agt')
  const claims: CredentialClaims = {
    v: 1,
    identity: helper,
    credential: newId('crd'),
    session: newId('ses'),
    issuer: boris,
    chain: [{ identity: boris }, { identity: agent, delegation: newId('dlg') }, { identity: helper, delegation: newId('dlg') }],
  }
  const mint = (ms = 3 * 60_000) => tokens.mint({ kind: 'agent', name: 'helper', claims, audience: AUDIENCE, notAfter: clock.now() + ms })

  /** A token as ours, with something changed, signed with the real key unless another is given. */
  async function forged(header: Partial<JWTHeaderParameters>, payload: JWTPayload, key?: Parameters<SignJWT['sign']>[0]): Promise<string> {
    const { token } = await mint()
    const { privateKey } = await keyring.signer('tokens')
    const changed = { ...decodeJwt(token), ...payload }
    for (const name of Object.keys(changed)) if (changed[name] === undefined) delete changed[name]
    return new SignJWT(changed).setProtectedHeader({ ...(decodeProtectedHeader(token) as JWTHeaderParameters), ...header }).sign(key ?? privateKey)
  }

  const invalid = (token: string, what?: string) => assert.rejects(tokens.verify(token, AUDIENCE), { code: 'credential_invalid' }, what)

  test('gives the principal it was made for, as bearer', async () => {
    const { token, notAfter } = await mint()
    assert.deepEqual(await tokens.verify(token, AUDIENCE), {
      identityId: helper,
      kind: 'agent',
      name: 'helper',
      credentialId: claims.credential,
      sessionId: claims.session,
      issuerId: boris,
      chain: claims.chain,
      notAfter,
      proof: 'bearer',
    })
  })

  test('says on whose behalf in the standard words, too (RFC 8693, RFC 9068)', async () => {
    const { token } = await mint()
    const { id } = await keyring.signer('tokens')
    assert.deepEqual(decodeProtectedHeader(token), { alg: 'ES256', typ: 'at+jwt', kid: id })
    const { sub, act, aud, iss, client_id, jti } = decodeJwt(token)
    assert.deepEqual(
      { sub, act, aud, iss, client_id, jti },
      {
        sub: boris,
        act: { sub: helper, act: { sub: agent } },
        aud: AUDIENCE,
        iss: 'spiffe://example.org',
        client_id: 'spiffe://example.org/agent/helper',
        jti: claims.credential,
      },
    )
  })

  test('rule 4: is over at its end, also when it is in the cache', async () => {
    const { token, notAfter } = await mint()
    assert.ok(await tokens.verify(token, AUDIENCE))
    clock.advance(notAfter - clock.now() - 1)
    assert.ok(await tokens.verify(token, AUDIENCE))
    clock.advance(1)
    await assert.rejects(tokens.verify(token, AUDIENCE), { code: 'credential_expired' })
  })

  test('opens one audience only, whatever the cache holds', async () => {
    const { token } = await mint()
    assert.ok(await tokens.verify(token, AUDIENCE))
    await assert.rejects(tokens.verify(token, 'https://other.example.org'), { code: 'credential_invalid' })
    await assert.rejects(tokens.verify(token, ''), { code: 'credential_invalid' })
    await invalid(await forged({}, { aud: [AUDIENCE, 'https://other.example.org'] }), 'a list of audiences')
  })

  test('none is unauthenticated, and noise is invalid', async () => {
    await assert.rejects(tokens.verify('', AUDIENCE), { code: 'unauthenticated' })
    for (const noise of ['x', 'a.b.c', '..', 'e30.e30.', 'x'.repeat(10_000)]) await invalid(noise, noise.slice(0, 20))
  })

  test('cannot choose how it is verified', async () => {
    const { token } = await mint()
    const [, payload] = token.split('.') as [string, string, string]
    const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const { id, publicKey } = await keyring.signer('tokens')
    await invalid(`${encode({ alg: 'none', typ: 'at+jwt', kid: id })}.${payload}.`, 'alg none')
    const head = `${encode({ alg: 'HS256', typ: 'at+jwt', kid: id })}.${payload}`
    const mac = createHmac('sha256', publicKey.export({ type: 'spki', format: 'pem' }))
      .update(head)
      .digest('base64url')
    await invalid(`${head}.${mac}`, 'the public key as HMAC secret')
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    await invalid(await forged({}, {}, other.privateKey), 'another key')
    await invalid(await forged({ jwk: other.publicKey.export({ format: 'jwk' }) as never }, {}, other.privateKey), 'a key that it brings itself')
    await invalid(await forged({ kid: newId('key') }, {}), 'an unknown kid')
    await invalid(await forged({ kid: undefined as never }, {}), 'no kid')
    await invalid(await forged({ typ: 'JWT' }, {}), 'another typ')
  })

  test('whose claims are missing or contradict each other is refused, even with our signature', async () => {
    const changes: Record<string, JWTPayload> = {
      issuer: { iss: 'spiffe://evil.org' },
      subject: { sub: newId('usr') },
      'no subject': { sub: undefined },
      'no end': { exp: undefined },
      'no act': { act: undefined },
      'another actor': { act: { sub: newId('agt'), act: { sub: agent } } },
      'another credential': { jti: newId('crd') },
      'another client': { client_id: 'spiffe://example.org/user/helper' },
      'another trust domain': { client_id: 'spiffe://evil.org/agent/helper' },
      'no claims of ours': { chaperone: undefined },
      'unknown v': { chaperone: { ...claims, v: 2 } },
      'unknown key': { chaperone: { ...claims, admin: true } },
      'shorter chain': { chaperone: { ...claims, chain: claims.chain!.slice(1) } },
    }
    assert.ok(await tokens.verify(await forged({}, {}), AUDIENCE))
    for (const [what, change] of Object.entries(changes)) await invalid(await forged({}, change), what)
  })

  test('lives minutes: longer, or over already, is refused', async () => {
    for (const ms of [0, -1, Number.NaN, TOKEN_LONGEST_MS + 60_000]) await assert.rejects(mint(ms), { code: 'issue_refused' }, String(ms))
  })

  test('of a rotated key is believed for the overlap, and not a moment longer than a recheck after it', async () => {
    const { token } = await mint(10 * 60_000)
    await keyring.rotate('tokens', 60_000)
    assert.ok(await tokens.verify(token, AUDIENCE))
    clock.advance(59_000)
    assert.ok(await tokens.verify(token, AUDIENCE))
    clock.advance(7_000)
    await invalid(token)
    assert.ok(await tokens.verify((await mint()).token, AUDIENCE))
  })
})
