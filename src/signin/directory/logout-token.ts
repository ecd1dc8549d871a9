import { decodeProtectedHeader, errors, type JWTPayload } from 'jose'
import { ChaperoneError } from '../../errors.ts'
import { ALGORITHMS, TOLERANCE_S, verifyWith } from '../../identity/joining/issuer-keys.ts'

/** Whom a provider has signed out: its session, its person, or that session of that person. */
export interface SignedOut {
  readonly sid?: string
  readonly subject?: string
  /** the token's name, and until when (ms since 1970) one of that name could be believed */
  readonly once: { readonly key: string; readonly until: number }
}

export interface LogoutWanted {
  readonly issuer: string
  readonly clientId: string
  /** ms since 1970 */
  readonly now: number
  /** The keys of the issuer. Throws `upstream_unavailable`. */
  readonly keys: (kid: string | undefined) => Promise<readonly Readonly<Record<string, unknown>>[]>
}

const EVENT = 'http://schemas.openid.net/event/backchannel-logout'
/** As long as its name is kept, at the least: an older one could have been used up before. */
const OLDEST_S = 10 * 60
export const LONGEST_LOGOUT_TOKEN = 16 * 1024
/** OpenID Connect Core 2: at most 255 ASCII characters. */
const isName = (value: unknown): value is string => typeof value === 'string' && /^[\x20-\x7e]{1,255}$/.test(value)

/** OpenID Connect Back-Channel Logout 1.0, section 2.6. Throws `directory_refused`, `upstream_unavailable`. */
export async function readLogoutToken(token: string, { issuer, clientId, now, keys }: LogoutWanted): Promise<SignedOut> {
  if (token.length > LONGEST_LOGOUT_TOKEN) throw invalid('it is too long')
  const { alg, typ, kid } = headerOf(token)
  if (typeof alg !== 'string' || !(ALGORITHMS as readonly string[]).includes(alg)) throw invalid('it is signed in a way that is not believed')
  // RFC 8725 section 3.11: what says that it is an access token is none. An ID token says JWT as well; what follows tells the two apart.
  if (typ !== undefined && !/^(?:application\/)?(?:logout\+jwt|jwt)$/i.test(String(typ))) throw invalid('it calls itself something else')
  const claims = await verified(await keys(typeof kid === 'string' ? kid : undefined), token, { issuer, audience: clientId, now })
  const { iat = 0, exp = 0, jti, sub, sid, events } = claims
  if (iat > now / 1000 + TOLERANCE_S) throw invalid('it was made in the future')
  if (iat < now / 1000 - OLDEST_S) throw invalid('it is too old')
  if (!isName(jti)) throw invalid('it has no name (`jti`)')
  const event = isObject(events) && Object.hasOwn(events, EVENT) ? events[EVENT] : undefined
  if (!isObject(event)) throw invalid('it tells of no logout')
  // Section 2.4: so that no ID token is ever taken for one.
  if (Object.hasOwn(claims, 'nonce')) throw invalid('it has a nonce, as tokens of a sign-in have')
  if (sub === undefined && sid === undefined) throw invalid('it says of nobody that he is signed out')
  if ((sub !== undefined && !isName(sub)) || (sid !== undefined && !isName(sid))) throw invalid('`sub` or `sid` is no name')
  return {
    ...(sid === undefined ? {} : { sid: sid as string }),
    ...(sub === undefined ? {} : { subject: sub }),
    once: { key: jti, until: (Math.min(exp, iat + OLDEST_S) + 2 * TOLERANCE_S) * 1000 },
  }
}

async function verified(
  keys: readonly Readonly<Record<string, unknown>>[],
  token: string,
  wanted: { readonly issuer: string; readonly audience: string; readonly now: number },
): Promise<JWTPayload> {
  try {
    return await verifyWith(keys, token, { ...wanted, requiredClaims: ['iat', 'exp', 'jti'] })
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw invalid('it is past its end', error)
    if (error instanceof errors.JWTClaimValidationFailed) throw invalid(`its \`${error.claim}\` is not as it must be`, error)
    if (error instanceof errors.JWKSNoMatchingKey) throw invalid('it is signed with a key that the provider does not publish', error)
    if (error instanceof errors.JWSSignatureVerificationFailed) throw invalid('its signature does not hold', error)
    throw invalid('it cannot be read', error)
  }
}

function headerOf(token: string): { readonly alg?: unknown; readonly typ?: unknown; readonly kid?: unknown } {
  try {
    return decodeProtectedHeader(token)
  } catch (error) {
    throw invalid('it cannot be read', error)
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value)

const invalid = (why: string, cause?: unknown) =>
  new ChaperoneError('directory_refused', `The logout token is not valid: ${why}.`, cause === undefined ? {} : { detail: String(cause), cause })
