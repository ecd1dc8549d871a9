import { createPrivateKey, type KeyObject, randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import { ChaperoneError } from '../errors.ts'

/** How Chaperone proves to an authorization server which client it is. */
export interface ClientProof {
  readonly clientId: string
  readonly secret?: string | undefined
  /** PEM */
  readonly privateKey?: string | undefined
  readonly keyId?: string | undefined
}

const ASSERTION_S = 60
const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/**
 * Puts the proof into a token request. A signed assertion names the issuer as its audience, not the endpoint, which somebody
 * else may have published (the audience injection of 2025, draft-ietf-oauth-rfc7523bis). A secret goes into the header
 * unless the server takes it only in the body.
 */
export async function proveClient(
  { clientId, secret, privateKey, keyId }: ClientProof,
  at: { readonly issuer: string; readonly methods: readonly string[] | undefined; readonly now: number },
  body: URLSearchParams,
): Promise<Record<string, string>> {
  if (privateKey !== undefined) {
    body.set('client_id', clientId)
    body.set('client_assertion_type', ASSERTION_TYPE)
    body.set('client_assertion', await assertion(clientId, keyOf(privateKey), keyId, at.issuer, at.now))
    return {}
  }
  if (secret !== undefined && at.methods?.includes('client_secret_basic') === false && at.methods.includes('client_secret_post')) {
    body.set('client_id', clientId)
    body.set('client_secret', secret)
    return {}
  }
  if (secret !== undefined) return { authorization: `Basic ${Buffer.from(`${form(clientId)}:${form(secret)}`).toString('base64')}` }
  body.set('client_id', clientId)
  return {}
}

/** RFC 6749 section 2.3.1: as a form would write it. */
const form = (text: string) => new URLSearchParams({ x: text }).toString().slice(2)

async function assertion(clientId: string, key: KeyObject, keyId: string | undefined, audience: string, now: number): Promise<string> {
  const issued = Math.floor(now / 1000)
  return await new SignJWT({})
    .setProtectedHeader({ alg: algorithmOf(key), typ: 'JWT', ...(keyId === undefined ? {} : { kid: keyId }) })
    .setIssuer(clientId)
    .setSubject(clientId)
    .setAudience(audience)
    .setJti(randomUUID())
    .setIssuedAt(issued)
    .setExpirationTime(issued + ASSERTION_S)
    .sign(key)
}

function keyOf(pem: string): KeyObject {
  try {
    return createPrivateKey(pem)
  } catch {
    throw new ChaperoneError('upstream_unavailable', 'The secret that should be a private key is no PEM of one.', {
      fix: 'Seal the whole block, from -----BEGIN PRIVATE KEY----- on.',
    })
  }
}

const CURVES: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' }

function algorithmOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): string {
  const curve = CURVES[details?.namedCurve ?? '']
  if (type === 'ec' && curve !== undefined) return curve
  if (type === 'ed25519') return 'EdDSA'
  if (type === 'rsa' && (details?.modulusLength ?? 0) >= 2048) return 'RS256'
  throw new ChaperoneError('upstream_unavailable', 'The private key is of a kind that no authorization server takes.', {
    fix: 'Use P-256, Ed25519, or RSA of 2048 bits or more.',
  })
}
