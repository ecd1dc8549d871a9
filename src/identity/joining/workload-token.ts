import { createHash } from 'node:crypto'
import { decodeProtectedHeader, errors, type JWTPayload } from 'jose'
import { z } from 'zod'
import { readBundle } from '../../ca/pem.ts'
import { toChaperoneError } from '../../errors.ts'
import { ALGORITHMS, TOLERANCE_S, usable, verifyWith } from './issuer-keys.ts'
import type { Claims, JoinContext, KeyPlace } from './method.ts'
import { JoinRefused, shownValue, unproven } from './refused.ts'

/** A GitHub token is 2 KB; a claim of a few hundred groups may be ten times that. */
const LONGEST_TOKEN = 16 * 1024
/** One that is good for weeks is a key, and belongs to the past that joining is to end. */
const LONGEST_LIFE_S = 24 * 3600

export const tokenProof = z.strictObject({ token: z.string().min(1).max(LONGEST_TOKEN) })

/** What the documents of every issuer may say. */
export const issuerBlock = {
  jwks: z
    .object({ keys: z.array(z.record(z.string(), z.unknown())).min(1).max(100) })
    .optional()
    .describe('the keys of the issuer, pinned: nothing is fetched, and a new key of the issuer must be applied here'),
  ca: z.string().max(65_536).optional().describe('PEM of the authority behind the certificate of the issuer, believed beside the public ones'),
  allow_private: z.literal(true).optional().describe('the issuer may lie inside your own network; else only public addresses are asked'),
}

/** What of a place would let nobody in, and say so only to whoever comes; and what must not lie in a document at all. */
export function placeFaults({ jwks, ca }: Pick<KeyPlace, 'jwks' | 'ca'>): readonly PlaceFault[] {
  const faults: PlaceFault[] = []
  if (ca !== undefined && !isBundle(ca))
    faults.push({ path: ['ca'], message: 'This is not a certificate in PEM.', fix: 'Paste the whole block, from -----BEGIN CERTIFICATE----- on.' })
  if (jwks?.keys.some((key) => SECRET_PARTS.some((part) => Object.hasOwn(key, part))))
    faults.push({
      path: ['jwks'],
      message: 'One of these keys is secret: whoever reads this document could make tokens with it.',
      fix: 'Make new keys at the issuer, and paste what it publishes (jwks_uri): without d and k.',
    })
  else if (jwks && !jwks.keys.some(usable))
    faults.push({ path: ['jwks'], message: 'None of these keys can be used: RSA, P-256 and Ed25519 are believed, and keys that sign.' })
  return faults
}

interface PlaceFault {
  readonly path: readonly string[]
  readonly message: string
  readonly fix?: string
}

/** Members of private and symmetric keys (RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1). */
const SECRET_PARTS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

function isBundle(pem: string): boolean {
  try {
    return readBundle(pem).length > 0
  } catch {
    return false
  }
}

export interface Verified {
  readonly payload: JWTPayload
  readonly once: { readonly key: string; readonly until: number }
}

/**
 * A token of a workload, verified: signature, issuer, audience, times, kind. It must be for us alone: one that is also for
 * somebody else could have been handed on by him. Throws JoinRefused, which speaks of nothing but the token, and of that only when
 * its issuer has made it; `upstream_unavailable`.
 */
export async function verifyWorkloadToken(token: string, place: KeyPlace, context: JoinContext, method: string): Promise<Verified> {
  const refused = (told: string, why: string, more: { claim?: string; value?: string; rule?: string; cause?: unknown } = {}) => {
    const { cause, ...facts } = more
    return new JoinRefused(told, { why, document: context.document, method, ...facts }, { cause })
  }
  const stranger = (why: string, cause?: unknown) => unproven(why, { document: context.document, method }, cause)
  const header = headerOf(token)
  if (!header) throw stranger('what was shown is not a signed token')
  // RFC 8725 section 3.11: an access token, a logout token or an assertion of the same issuer proves something else.
  if (header.typ !== undefined && !/^jwt$/i.test(header.typ)) throw stranger(`a token of the type ${shownValue(header.typ)} proves nothing here`)
  if (!(ALGORITHMS as readonly string[]).includes(header.alg)) {
    throw stranger(`tokens signed with ${shownValue(header.alg)} are not believed`)
  }
  const keys = await context.keys.of(place, header.kid)
  try {
    const payload = await verifyWith(keys, token, {
      issuer: place.issuer,
      audience: context.audience,
      now: context.now,
      requiredClaims: ['sub', 'iat', 'exp'],
    })
    const { exp = 0, iat = 0, sub, jti, aud } = payload
    if (Array.isArray(aud) && aud.some((one) => one !== context.audience))
      throw refused(`its claim \`aud\` is ${shownValue(aud)}: it must be for this server alone.`, 'several audiences', {
        claim: 'aud',
        value: shownValue(aud),
      })
    if (iat > context.now / 1000 + TOLERANCE_S) throw refused('it was made in the future.', 'iat')
    if (exp - iat > LONGEST_LIFE_S) throw refused(`it lives for more than ${LONGEST_LIFE_S / 3600} hours.`, 'life of the token')
    if (typeof sub !== 'string' || sub === '') throw refused('it names nobody (`sub`).', 'sub')
    // What is signed has one spelling; the signature itself may have two (ECDSA), so it is no name for a token.
    const signed = token.slice(0, token.lastIndexOf('.'))
    const name = typeof jti === 'string' && jti !== '' ? `jti ${jti}` : createHash('sha256').update(signed).digest('hex')
    return { payload, once: { key: name, until: (exp + TOLERANCE_S) * 1000 } }
  } catch (error) {
    if (error instanceof JoinRefused) throw error
    throw asRefusal(error)
  }

  function asRefusal(error: unknown): JoinRefused {
    if (error instanceof errors.JWTExpired) return refused('the token is past its end.', 'expired', { cause: error })
    if (error instanceof errors.JWTClaimValidationFailed) {
      const { claim, reason, payload } = error
      if (reason === 'missing') return refused(`its claim \`${claim}\` is missing.`, 'missing claim', { claim, cause: error })
      if (claim === 'nbf') return refused('the token does not hold yet.', 'nbf', { cause: error })
      const value = shownValue(textOf(payload[claim]))
      const rule = claim === 'aud' ? context.audience : claim === 'iss' ? place.issuer : undefined
      return refused(`its claim \`${claim}\` is ${value}.`, `claim ${claim}`, { claim, value, ...(rule === undefined ? {} : { rule }), cause: error })
    }
    if (error instanceof errors.JWKSNoMatchingKey) return stranger('the token is signed with a key that its issuer does not publish', error)
    if (error instanceof errors.JWSSignatureVerificationFailed) return stranger('the signature of the token does not hold', error)
    if (error instanceof errors.JOSEError) return stranger(`the token cannot be read: ${error.code}`, error)
    // A key that does not go with the algorithm, or is too short: what jose says of it is about the issuer's keys.
    return stranger(`the token cannot be verified: ${toChaperoneError(error).detail ?? String(error)}`, error)
  }
}

function headerOf(token: string): { readonly alg: string; readonly typ: string | undefined; readonly kid: string | undefined } | undefined {
  try {
    const { alg, typ, kid } = decodeProtectedHeader(token)
    if (token.split('.').length !== 3 || typeof alg !== 'string') return undefined
    return { alg, typ: typ === undefined ? undefined : String(typ), kid: typeof kid === 'string' ? kid : undefined }
  } catch {
    return undefined
  }
}

const textOf = (value: unknown): string | readonly string[] | undefined =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? String(value)
    : Array.isArray(value)
      ? value.filter((one) => typeof one === 'string' || typeof one === 'number').map(String)
      : undefined

/** The claims of a token that rules can read: texts, numbers, truths, and lists of them. What is nested has no name here. */
export function claimsOfToken(payload: JWTPayload): Claims {
  return Object.fromEntries(
    Object.entries(payload).flatMap(([name, value]) => {
      const text = textOf(value)
      return text === undefined ? [] : [[name, text] as const]
    }),
  )
}
