import { randomUUID } from 'node:crypto'
import { exportJWK, type JWK, SignJWT } from 'jose'
import type { Clock } from '../clock.ts'
import type { Keyring } from '../keys/types.ts'

/** Who calls, as an upstream is told: a SPIFFE ID for each link of the chain. */
export interface Asserted {
  /** on whose behalf it is: the first of the chain */
  readonly subject: string
  /** who acts for him, each for the one before */
  readonly actors: readonly string[]
  readonly audience: string
  /** the name of the person or agent, for logs of the upstream */
  readonly username: string
}

const ASSERTION_MS = 5 * 60_000

/** Never that of Chaperone's own tokens (`at+jwt`), and signed with a key of another purpose: shown to Chaperone it opens nothing. */
const TYP = 'JWT'
const ALGORITHM = 'ES256'

export interface Assertions {
  /** `https://HOST[:PORT]/identity`: where upstreams find the keys */
  readonly issuer: string
  /** `/identity`, below which the web listener publishes the keys */
  readonly path: string
  /** A token of five minutes. */
  mint(who: Asserted): Promise<{ readonly token: string; readonly id: string; readonly expiresAt: number }>
  /** The public keys that are believed now. */
  keys(): Promise<{ readonly keys: JWK[] }>
}

const ISSUER_PATH = '/identity'
/** Of tokens that agents ask for themselves (JWT-SVIDs): other keys and another issuer, so that an upstream which believes what comes through Chaperone does not believe who comes around it. */
export const SVID_PATH = '/svid'

export function openAssertions({
  keyring,
  clock,
  places,
  purpose = 'assertions',
  path = ISSUER_PATH,
}: {
  readonly keyring: Keyring
  readonly clock: Clock
  /** where people reach the web listener, `host[:port]` */
  readonly places: { readonly web: string }
  readonly purpose?: 'assertions' | 'svids'
  readonly path?: string
}): Assertions {
  return {
    path,
    get issuer() {
      return `https://${places.web}${path}`
    },

    async mint({ subject, actors, audience, username }) {
      const { id: kid, privateKey } = await keyring.signer(purpose)
      const issued = Math.floor(clock.now() / 1000)
      const expires = issued + ASSERTION_MS / 1000
      const id = randomUUID()
      // RFC 8693 section 4.1: who acts now stands outermost, those before him inside.
      const act = actors.reduce<Record<string, unknown> | undefined>((inner, sub) => ({ sub, ...(inner ? { act: inner } : {}) }), undefined)
      const token = await new SignJWT({ preferred_username: username, ...(act ? { act } : {}) })
        .setProtectedHeader({ alg: ALGORITHM, typ: TYP, kid })
        .setIssuer(this.issuer)
        .setSubject(subject)
        .setAudience(audience)
        .setJti(id)
        .setIssuedAt(issued)
        .setNotBefore(issued)
        .setExpirationTime(expires)
        .sign(privateKey)
      return { token, id, expiresAt: expires * 1000 }
    },

    async keys() {
      // The first one is made before anybody asks, so that nobody caches an empty set.
      await keyring.signer(purpose)
      const verifiers = await keyring.verifiers(purpose)
      return {
        keys: await Promise.all(
          verifiers.map(async ({ id, publicKey }) => ({ ...(await exportJWK(publicKey)), kid: id, use: 'sig', alg: ALGORITHM })),
        ),
      }
    },
  }
}
