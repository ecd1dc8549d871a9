import { hash } from 'node:crypto'
import { errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify, SignJWT } from 'jose'
import { assertClaims } from '../ca/extension.ts'
import type { CredentialClaims } from '../ca/types.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Keyring } from '../keys/types.ts'
import { principalOf } from './credential.ts'
import { makeLru } from './lru.ts'
import { spiffeId } from './names.ts'
import type { ChainLink, Principal } from './types.ts'

export interface MintToken {
  readonly kind: 'user' | 'agent' | 'node'
  readonly name: string
  /** from `claimsOf`, as in a certificate */
  readonly claims: CredentialClaims
  /** The one place where the token opens anything, e.g. `https://host:port` */
  readonly audience: string
  /** ms since 1970 */
  readonly notAfter: number
  /** sha256 of a client certificate, base64url: only with it the token opens anything (RFC 8705 section 3.1) */
  readonly thumbprint?: string
  /** what an OAuth client is told that it holds */
  readonly scope?: string
}

/** Bearer tokens of an identity: what a client shows that cannot do mTLS. Whoever holds one is believed, so they live minutes and open one audience. */
export interface Tokens {
  /** Throws `issue_refused` when `notAfter` is over or too far away. */
  mint(ask: MintToken): Promise<{ readonly token: string; readonly notAfter: number }>
  /** `audience`: one, or any of several. Throws `unauthenticated`, `credential_expired`, `credential_invalid`. */
  verify(token: string, audience: string | readonly string[]): Promise<Principal>
}

export const TOKEN_LONGEST_MS = 15 * 60_000

/** RFC 9068 section 2.1. A token of another `typ` (an ID token, say) is never taken for one of ours. */
const TYP = 'at+jwt'
/** Pinned: a token cannot choose how it is verified (RFC 8725 section 3.1). */
const ALGORITHM = 'ES256'
const OUR_CLAIM = 'chaperone'
const LARGEST = 8192
/** How long a verified token is believed without asking whether its key still is. */
const RECHECK_MS = 5_000
const TOLERANCE_MS = 5_000

interface Verified {
  readonly principal: Principal
  readonly audience: string
  readonly recheckAt: number
}

export function openTokens({
  keyring,
  clock,
  trustDomain,
}: {
  readonly keyring: Keyring
  readonly clock: Clock
  readonly trustDomain: string
}): Tokens {
  const issuer = `spiffe://${trustDomain}`
  const verified = makeLru<Verified>(4096)

  const keyOf: JWTVerifyGetKey = async ({ kid }) => {
    const believed = (await keyring.verifiers('tokens')).find((key) => key.id === kid)
    if (!believed) throw invalid('it names no key that is believed')
    return believed.publicKey
  }

  return {
    async mint({ kind, name, claims, audience, notAfter, thumbprint, scope }) {
      const now = clock.now()
      if (!(notAfter > now && notAfter <= now + TOKEN_LONGEST_MS + TOLERANCE_MS)) {
        throw new ChaperoneError('issue_refused', `A token lives ${TOKEN_LONGEST_MS / 60_000} minutes at the longest.`, {
          fix: 'Ask for a shorter time.',
        })
      }
      const { id: kid, privateKey } = await keyring.signer('tokens')
      const exp = Math.floor(notAfter / 1000)
      const chain = claims.chain ?? [{ identity: claims.identity }]
      const payload: JWTPayload = {
        client_id: spiffeId(trustDomain, kind, name),
        [OUR_CLAIM]: claims,
        ...actOf(chain),
        ...(thumbprint === undefined ? {} : { cnf: { 'x5t#S256': thumbprint } }),
        ...(scope === undefined ? {} : { scope }),
      }
      const token = await new SignJWT(payload)
        .setProtectedHeader({ alg: ALGORITHM, typ: TYP, kid })
        .setIssuer(issuer)
        .setSubject(chain[0]!.identity)
        .setAudience(audience)
        .setJti(claims.credential)
        .setIssuedAt(Math.floor(now / 1000))
        .setExpirationTime(exp)
        .sign(privateKey)
      return { token, notAfter: exp * 1000 }
    },

    async verify(token, audience) {
      if (token === '') throw new ChaperoneError('unauthenticated', 'No token was presented.')
      if (token.length > LARGEST) throw invalid('it is too large')
      const now = clock.now()
      const key = hash('sha256', token, 'base64')
      const wanted = typeof audience === 'string' ? [audience] : audience
      const known = verified.get(key)
      if (known && wanted.includes(known.audience) && now < known.recheckAt) return known.principal
      const found = await verify(token, wanted, now)
      verified.set(key, { ...found, recheckAt: Math.min(found.principal.notAfter, now + RECHECK_MS) })
      return found.principal
    },
  }

  async function verify(token: string, audience: readonly string[], now: number): Promise<Omit<Verified, 'recheckAt'>> {
    const { payload } = await jwtVerify(token, keyOf, {
      algorithms: [ALGORITHM],
      typ: TYP,
      issuer,
      audience: [...audience],
      currentDate: new Date(now),
      requiredClaims: ['exp', 'iat', 'sub', 'jti', 'client_id', OUR_CLAIM],
    }).catch((error: unknown) => {
      if (error instanceof errors.JWTExpired) throw new ChaperoneError('credential_expired', 'The token is past its end.', { fix: 'Get a new one.' })
      throw error instanceof ChaperoneError ? error : error instanceof errors.JOSEError ? invalid(error.message, error) : error
    })
    const claims = payload[OUR_CLAIM]
    assertClaims(claims)
    const principal = principalOf(claims, String(payload.client_id), trustDomain)
    // The standard claims say the same as ours, or a reader of the one would see another actor than a reader of the other.
    const { sub, aud, act, jti, exp, cnf, scope } = payload
    const { act: expected } = actOf(principal.chain)
    if (
      sub !== principal.chain[0]!.identity ||
      jti !== principal.credentialId ||
      typeof aud !== 'string' ||
      JSON.stringify(act) !== JSON.stringify(expected)
    ) {
      throw invalid('its claims contradict each other')
    }
    const bound = cnf === undefined ? {} : { boundTo: thumbprintIn(cnf) }
    const said = typeof scope === 'string' ? { scope } : {}
    return { principal: { ...principal, notAfter: exp! * 1000, proof: 'bearer', ...bound, ...said }, audience: aud }
  }
}

/** A token that is bound to something which is not understood is bound to nothing that could be checked. */
function thumbprintIn(cnf: unknown): string {
  const thumbprint = (cnf as Record<string, unknown> | null)?.['x5t#S256']
  if (typeof thumbprint !== 'string' || !/^[A-Za-z0-9_-]{43}$/.test(thumbprint)) throw invalid('it is bound to something else than a certificate')
  return thumbprint
}

const invalid = (detail: string, cause?: unknown) =>
  new ChaperoneError('credential_invalid', 'The token is malformed, forged, or not for this place.', { detail: `token: ${detail}`, cause })

/** RFC 8693 section 4.1: who acts stands outermost, the actors before it inside; on whose behalf is `sub`. */
interface Act {
  readonly sub: string
  readonly act?: Act
}

function actOf(chain: readonly ChainLink[]): { readonly act?: Act } {
  let inner: { readonly act?: Act } = {}
  for (const { identity } of chain.slice(1)) inner = { act: { sub: identity, ...inner } }
  return inner
}
