import { createHash } from 'node:crypto'
import { createLocalJWKSet, errors, type JWTPayload, type JWTVerifyOptions, jwtVerify } from 'jose'
import { z } from 'zod'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { parseStrict } from '../../encoding/strict-json.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { IssuerKeys, KeyPlace, OpenFetch } from './method.ts'

/** A key that was fetched is believed for this long without asking again. */
const FRESH_MS = 10 * 60_000
/** While the issuer cannot be reached: a key that it withdrew meanwhile would be believed for as long. */
const STALE_MS = 60 * 60_000
/** An unknown key id asks the issuer again, at most this often: whoever sends made-up ids must not make us knock without end. */
const LOOK_AGAIN_MS = 30_000
const MOST_ISSUERS = 256
const MOST_KEYS = 100
const MOST_BYTES = 256 * 1024

type Jwk = Readonly<Record<string, unknown>>

const keySet = z.object({ keys: z.array(z.record(z.string(), z.unknown())).max(MOST_KEYS) })
const discovered = z.object({ issuer: z.string(), jwks_uri: z.url({ protocol: /^https$/ }) })

interface Known {
  keys: readonly Jwk[]
  /** ms since 1970 */
  fetchedAt: number
  triedAt: number
  underWay: Promise<void> | undefined
}

/** Signing keys of the kinds that are believed. Symmetric keys in a published set are a trap (HS256 with a public value). */
export function usable(key: Jwk): boolean {
  if (key.use !== undefined && key.use !== 'sig') return false
  return key.kty === 'RSA' || (key.kty === 'EC' && key.crv === 'P-256') || (key.kty === 'OKP' && key.crv === 'Ed25519')
}

/** With a `kid` the keys that have it; without one all, of which a signature must then single one out. */
const named = (keys: readonly Jwk[], kid: string | undefined) => (kid === undefined ? keys : keys.filter((key) => key.kid === kid))

export function openIssuerKeys({ open, clock }: { readonly open: OpenFetch; readonly clock: { now(): number } }): IssuerKeys {
  const known = new Map<string, Known>()

  function entryOf(place: KeyPlace): Known {
    const id = createHash('sha256')
      .update(canonicalJson(JSON.parse(JSON.stringify(place))))
      .digest('hex')
    const entry = known.get(id) ?? { keys: [], fetchedAt: Number.NEGATIVE_INFINITY, triedAt: Number.NEGATIVE_INFINITY, underWay: undefined }
    known.delete(id)
    if (known.size >= MOST_ISSUERS) known.delete(known.keys().next().value!)
    known.set(id, entry)
    return entry
  }

  async function look(place: KeyPlace, entry: Known): Promise<void> {
    entry.underWay ??= fetchKeys(open, place)
      .then((keys) => {
        entry.keys = keys
        entry.fetchedAt = clock.now()
      })
      .finally(() => {
        entry.triedAt = clock.now()
        entry.underWay = undefined
      })
    await entry.underWay
  }

  return {
    async of(place, kid) {
      if (place.jwks) return named(place.jwks.keys.filter(usable), kid)
      const entry = entryOf(place)
      const age = clock.now() - entry.fetchedAt
      const lacks = age >= FRESH_MS || named(entry.keys, kid).length === 0
      if (lacks && clock.now() - entry.triedAt >= LOOK_AGAIN_MS) {
        try {
          await look(place, entry)
        } catch (error) {
          if (age >= STALE_MS || named(entry.keys, kid).length === 0) throw unreachable(place, error)
        }
      } else if (age >= STALE_MS) throw unreachable(place, undefined)
      return named(entry.keys, kid)
    },
  }
}

/** Never `none`, and never a shared secret: with HS256 the issuer's public key would be the secret (RFC 8725 sections 2.1 and 3.1). */
export const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'] as const

/** Clocks of two machines that keep time. */
export const TOLERANCE_S = 10

export interface Wanted {
  readonly issuer: string
  readonly audience: string
  /** ms since 1970 */
  readonly now: number
  /** RFC 8725 section 3.11: what the token must call itself; undefined where its caller has looked at that */
  readonly typ?: string
  readonly requiredClaims?: readonly string[]
}

/**
 * A signed token held against the keys of its issuer (`IssuerKeys.of`): signature, issuer, audience, times, type. Throws what jose
 * throws. A token without a key id is tried with each key that could have made it: an issuer that rotates publishes two.
 */
export async function verifyWith(keys: readonly Jwk[], token: string, wants: Wanted): Promise<JWTPayload> {
  const options: JWTVerifyOptions = {
    issuer: wants.issuer,
    audience: wants.audience,
    algorithms: [...ALGORITHMS],
    currentDate: new Date(wants.now),
    clockTolerance: TOLERANCE_S,
    ...(wants.typ === undefined ? {} : { typ: wants.typ }),
    ...(wants.requiredClaims ? { requiredClaims: [...wants.requiredClaims] } : {}),
  }
  try {
    return (await jwtVerify(token, createLocalJWKSet({ keys: keys as { kty: string }[] }), options)).payload
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
    for await (const key of error) {
      try {
        return (await jwtVerify(token, key, options)).payload
      } catch (cause) {
        if (!(cause instanceof errors.JWSSignatureVerificationFailed)) throw cause
      }
    }
    throw new errors.JWSSignatureVerificationFailed()
  }
}

/** Said plainly, because it is nobody's token that is wrong; and without where the issuer is, which a stranger need not know. */
function unreachable({ issuer }: KeyPlace, cause: unknown): ChaperoneError {
  const error = cause === undefined ? undefined : toChaperoneError(cause)
  return new ChaperoneError('upstream_unavailable', 'This Chaperone cannot reach the issuer of the token, so nobody can join by it now.', {
    fix: 'Try again in a minute; where the server has no way out, its administrator pins the keys of the issuer (`jwks`) in the document.',
    detail: `${issuer}: ${error ? `${error.message} ${error.detail ?? ''}` : 'tried a moment ago'}`,
    cause,
  })
}

async function fetchKeys(open: OpenFetch, { issuer, jwksUri, ca, allowPrivate = false }: KeyPlace): Promise<readonly Jwk[]> {
  const name = `the issuer ${issuer}`
  const fetch = open({ name, origin: new URL(jwksUri ?? issuer), ca, allowPrivate })
  const at = jwksUri ?? (await discover(fetch, issuer))
  const { keys } = keySet.parse(await json(await fetch(at, { headers: { accept: 'application/json' } })))
  return keys.filter(usable)
}

/** OpenID Connect Discovery 1.0 section 4: the document must name the issuer it was asked for, or one could speak for another. */
async function discover(fetch: ReturnType<OpenFetch>, issuer: string): Promise<string> {
  const answer = await fetch(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, { headers: { accept: 'application/json' } })
  const document = discovered.parse(await json(answer))
  if (document.issuer !== issuer)
    throw new ChaperoneError('upstream_unavailable', `The issuer calls itself ${JSON.stringify(document.issuer.slice(0, 200))}.`)
  return document.jwks_uri
}

async function json(answer: Response): Promise<unknown> {
  if (answer.status !== 200) throw new ChaperoneError('upstream_unavailable', `It answered with status ${answer.status}.`)
  return parseStrict(Buffer.from(await answer.arrayBuffer()), { maxBytes: MOST_BYTES }).value
}
