import { generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'
import { parseDuration } from '../../../encoding/duration.ts'
import { ChaperoneError } from '../../../errors.ts'
import { ASKS, askedBy, nameOfAsked } from './authentication.ts'
import type { Credential, CredentialParts, LogInAs } from './credential.ts'
import type { ClientCertificate } from './upstream.ts'

const newKey = promisify(generateKeyPair)

/** Databases and users at once; those that come on top push the oldest out. */
const MOST_KEPT = 256

interface Kept {
  readonly certificate: Promise<ClientCertificate>
  readonly madeAt: number
  /** Half of its life is left then, for slow handshakes and clocks that differ. */
  readonly renewAt: number
}

/**
 * Certificates for database users, each with a key that never leaves this process, shared by the connections to one
 * database as one user while they live: a key pair, a signature and a TLS context cost more than the rest of a login.
 *
 * Sharing gives nobody more than he had. A certificate says which database user it is for and nothing of the client; it is
 * shown only by this gateway, behind a connect permit that was judged and recorded for that client; and the server looks at
 * it once, at the login. How long a connection may stand is decided by the session of its client, never by the certificate.
 * It lives as short as before (`credential_ttl`), and another database, user or authority is another certificate.
 */
export class Certificates {
  readonly #kept = new Map<string, Kept>()

  /** Rejects with ChaperoneError when none can be issued; that is not remembered. */
  async for(as: LogInAs, parts: CredentialParts): Promise<ClientCertificate> {
    const { resourceId, user, spec } = as
    const now = parts.clock.now()
    const key = JSON.stringify([resourceId, user, spec.address, spec.credential_ttl, await parts.ca.bundle?.(`database:${resourceId}`)])
    const kept = this.#kept.get(key)
    // A clock that was set back must not lengthen a life either.
    if (kept && kept.madeAt <= now && now < kept.renewAt) return await kept.certificate
    for (const [other, { renewAt }] of this.#kept) if (renewAt <= now || this.#kept.size >= MOST_KEPT) this.#kept.delete(other)
    const life = parseDuration(spec.credential_ttl)
    const made: Kept = { certificate: issue(as, parts, now + life), madeAt: now, renewAt: now + life / 2 }
    this.#kept.set(key, made)
    try {
      return await made.certificate
    } catch (error) {
      if (this.#kept.get(key) === made) this.#kept.delete(key)
      throw error
    }
  }
}

async function issue({ resourceId, user }: LogInAs, { ca }: CredentialParts, notAfter: number): Promise<ClientCertificate> {
  const { publicKey, privateKey } = await newKey('ec', { namedCurve: 'P-256' })
  const issued = await ca.issueDatabase({ spki: publicKey.export({ type: 'spki', format: 'der' }), resourceId, user, notAfter })
  return { cert: issued.certificate, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }
}

/** A certificate for the database user that lives minutes. No password exists. */
export async function certificate(as: LogInAs, parts: CredentialParts): Promise<Credential> {
  return {
    certificate: await (parts.certificates ?? new Certificates()).for(as, parts),
    async answer(frame) {
      const asked = askedBy(frame)
      if (asked === ASKS.nothing) return 'accepted'
      throw new ChaperoneError('upstream_unavailable', `The database asks for ${nameOfAsked(asked)}, and Chaperone shows it a certificate.`, {
        fix: 'Let the database accept client certificates (a `hostssl ... cert` line in pg_hba.conf); `chaperone db setup` prints the lines.',
      })
    },
  }
}
