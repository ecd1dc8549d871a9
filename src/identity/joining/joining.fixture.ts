import assert from 'node:assert/strict'
import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto'
import { CompactSign } from 'jose'
import { openIssuerKeys } from './issuer-keys.ts'
import type { Joining } from './joins.ts'
import type { JoinContext } from './method.ts'
import { JoinRefused, UNKNOWN } from './refused.ts'
import { openRevocationLists } from './revocation-lists.ts'

/** For tests of other ways in: there is no `join` document. */
export const noJoining: Joining = {
  challenge: async () => ({ nonce: '', notAfter: 0 }),
  prove: async () => {
    throw new JoinRefused(UNKNOWN, { why: 'unknown document' })
  },
  take: async () => undefined,
  endRevoked: async () => {},
  audienceOf: () => 'https://test',
}

/** A context of a proof, as `joins.ts` would make it; nothing can be fetched, and no nonce is ours. */
export function joinContext(over: Partial<JoinContext> = {}): JoinContext {
  const context: JoinContext = {
    document: 'ci',
    agentId: 'agt_1',
    audience: 'https://test',
    spki: Buffer.from('the key of the certificate'),
    now: NOW,
    open: () => async () => {
      throw new Error('nothing is fetched here')
    },
    keys: openIssuerKeys({ open: (to) => context.open(to), clock: { now: () => context.now } }),
    lists: openRevocationLists({ open: (to) => context.open(to), clock: { now: () => context.now } }),
    challenge: () => undefined,
    servers: async () => [SERVER],
    store: undefined as never,
    ...over,
  }
  return context
}

export const NOW = Date.parse('2026-11-23T10:00:00Z')
export const SERVER = 'a'.repeat(64)

/** The keys and tokens of an issuer, without the issuer. */
export function issuerOf(issuer: string, type: 'rsa' | 'p256' | 'ed25519' = 'p256', kid = 'k1') {
  const { privateKey, publicKey } =
    type === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : type === 'p256'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : generateKeyPairSync('ed25519')
  const alg = type === 'rsa' ? 'RS256' : type === 'p256' ? 'ES256' : 'EdDSA'
  return {
    issuer,
    privateKey,
    publicKey,
    jwks: { keys: [{ ...publicKey.export({ format: 'jwk' }), kid, use: 'sig', alg }] as Record<string, unknown>[] },
    token: (claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}, key: KeyObject = privateKey): Promise<string> =>
      new CompactSign(
        Buffer.from(
          JSON.stringify({
            iss: issuer,
            aud: 'https://test',
            sub: 'workload',
            jti: randomUUID(),
            iat: NOW / 1000,
            nbf: NOW / 1000,
            exp: NOW / 1000 + 300,
            ...claims,
          }),
        ),
      )
        .setProtectedHeader({ alg, kid, typ: 'JWT', ...header })
        .sign(key),
  }
}

/** A refusal: what its caller hears of it, or, where he has proven nothing yet and hears nothing, what the record keeps. */
export const refusedFor = (why: RegExp) => (error: unknown) => {
  assert.ok(error instanceof JoinRefused, String(error))
  assert.equal(error.code, 'join_refused')
  assert.match(error.message.endsWith(UNKNOWN) ? error.facts.why : error.message, why)
  return true
}
