import { createHash, randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose'
import type { Clock } from '../clock.ts'
import { makeLru } from '../identity/lru.ts'
import type { Outbound } from './outbound.ts'

/** Proof of possession (RFC 9449): a token that is bound to a key is worth nothing to whoever has the token alone. */

/** The one algorithm that everybody who knows proofs knows. */
export const PROOF_ALGORITHM = 'ES256'

/** Servers give a proof some seconds or minutes (section 11.1). A clock that is further off than this is a mistake to mend, not to follow. */
const MOST_SKEW_MS = 10 * 60_000
/** `Date` is in whole seconds, and the answer was on its way. */
const LEAST_SKEW_MS = 2_000
/** Authorization server and resource: two; a document may move them. */
const MOST_ORIGINS = 16
const MOST_PROVERS = 10_000

/** What a proof is for: one request. */
export interface Proven {
  readonly method: string
  readonly url: string | URL
  /** the access token that goes with it; none at a token endpoint */
  readonly token?: string
}

/** What an answer says that concerns proofs. */
export interface ProofAnswer {
  /** the code with which a proof was turned down, if that is what happened */
  readonly error: string | undefined
  /** `DPoP-Nonce` */
  readonly nonce: string | null | undefined
  /** `Date` */
  readonly date: string | null | undefined
}

/** One key, and what the servers that it is shown to have said of proofs. */
export interface Prover {
  /** SHA-256 of the public key (RFC 7638): `cnf.jkt` of the tokens that are bound to it */
  readonly thumbprint: string
  /** A proof, for this request and no other; each is new (`jti`). */
  prove(request: Proven): Promise<string>
  /** Told of every answer to a request with a proof. True: it was turned down for what can be put right, so ask once more with another proof. */
  heard(url: string | URL, answer: ProofAnswer): boolean
}

/** An origin's own: a nonce of one server is never shown to another (section 9). */
interface Said {
  nonce?: string
  /** how far its clock is ahead of ours */
  skewMs?: number
}

function proverOf(publicJwk: JWK, thumbprint: string, privateKey: Parameters<SignJWT['sign']>[0], clock: Clock): Prover {
  const origins = makeLru<Said>(MOST_ORIGINS)
  const at = (url: string | URL): Said => {
    const { origin } = new URL(url)
    const known = origins.get(origin) ?? {}
    origins.set(origin, known)
    return known
  }
  return {
    thumbprint,

    prove({ method, url, token }) {
      const { origin, pathname } = new URL(url)
      const { nonce, skewMs = 0 } = at(url)
      return new SignJWT({
        htm: method,
        // Without query and fragment (section 4.2).
        htu: `${origin}${pathname}`,
        ...(token === undefined ? {} : { ath: createHash('sha256').update(token, 'ascii').digest('base64url') }),
        ...(nonce === undefined ? {} : { nonce }),
      })
        .setProtectedHeader({ alg: PROOF_ALGORITHM, typ: 'dpop+jwt', jwk: publicJwk })
        .setJti(randomUUID())
        .setIssuedAt(Math.floor((clock.now() + skewMs) / 1000))
        .sign(privateKey)
    },

    heard(url, { error, nonce, date }) {
      const said = at(url)
      // Any answer may bring the next one (section 8.2). Its form is that of section 8.1; a longer one would make headers that no server takes.
      const given = nonce && /^[\x21\x23-\x5b\x5d-\x7e]{1,1024}$/.test(nonce) ? nonce : undefined
      if (given !== undefined) said.nonce = given
      if (error === 'use_dpop_nonce') return given !== undefined
      if (error !== 'invalid_dpop_proof') return false
      // Two clocks that differ: a server that checks `iat` and asks for no nonce leaves only its own time to go by.
      const skewMs = Date.parse(date ?? '') - clock.now()
      const { skewMs: before = 0 } = said
      if (!(Math.abs(skewMs) <= MOST_SKEW_MS) || Math.abs(skewMs - before) <= LEAST_SKEW_MS) return false
      said.skewMs = skewMs
      return true
    },
  }
}

export interface Provers {
  /** A key that is to be kept with a login, sealed: JWK with its private part. */
  makeKey(): Promise<JWK>
  /** The same prover for the same key, as long as it is in use. */
  of(key: JWK): Promise<Prover>
  /** With a key that nobody can take out of this process, for tokens that are kept in memory alone. */
  fresh(): Promise<Prover>
}

export function openProvers(clock: Clock): Provers {
  const kept = makeLru<Promise<Prover>>(MOST_PROVERS)
  return {
    async makeKey() {
      const { privateKey } = await generateKeyPair(PROOF_ALGORITHM, { extractable: true })
      return await exportJWK(privateKey)
    },

    of(key) {
      const name = `${key.x} ${key.y}`
      const known = kept.get(name)
      if (known) return known
      const made = (async () => {
        const shown = publicOf(key)
        return proverOf(shown, await calculateJwkThumbprint(shown), await importJWK(key, PROOF_ALGORITHM, { extractable: false }), clock)
      })()
      kept.set(name, made)
      return made
    },

    async fresh() {
      const { publicKey, privateKey } = await generateKeyPair(PROOF_ALGORITHM, { extractable: false })
      const shown = publicOf(await exportJWK(publicKey))
      return proverOf(shown, await calculateJwkThumbprint(shown), privateKey, clock)
    },
  }
}

/** Written out, so that no private part can ever be among it. */
const publicOf = ({ kty, crv, x, y }: JWK): JWK => ({ kty, crv, x, y }) as JWK

/** `fetch` with a proof at the token endpoint, and at no other address. What was turned down for its proof was not done: it is asked once more. */
export function provingFetch(fetch: Outbound['fetch'], prover: Prover, endpoint: string): Outbound['fetch'] {
  const { href } = new URL(endpoint)
  return async (to, init) => {
    if (new URL(to).href !== href) return await fetch(to, init)
    const method = init?.method ?? 'GET'
    for (let again = true; ; again = false) {
      const headers = new Headers(init?.headers)
      headers.set('dpop', await prover.prove({ method, url: href }))
      const response = await fetch(to, { ...init, headers })
      const answer = { error: await errorOf(response), nonce: response.headers.get('dpop-nonce'), date: response.headers.get('date') }
      if (!prover.heard(href, answer) || !again) return response
    }
  }
}

/** The code of RFC 6749 section 5.2. */
async function errorOf(response: Response): Promise<string | undefined> {
  if (response.ok) return undefined
  const said: unknown = await response
    .clone()
    .json()
    .catch(() => undefined)
  const error = typeof said === 'object' && said !== null ? (said as { readonly error?: unknown }).error : undefined
  return typeof error === 'string' ? error : undefined
}
