import { generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'
import { parseDuration } from '../../../encoding/duration.ts'
import { ChaperoneError } from '../../../errors.ts'
import { ASKS, askedBy, nameOfAsked } from './authentication.ts'
import type { Credential, CredentialParts, LogInAs } from './credential.ts'

const newKey = promisify(generateKeyPair)

/** A certificate for the database user that lives minutes, with a key that never leaves this process. No password exists. */
export async function certificate({ resourceId, user, spec }: LogInAs, { ca, clock }: CredentialParts): Promise<Credential> {
  const { publicKey, privateKey } = await newKey('ec', { namedCurve: 'P-256' })
  const notAfter = clock.now() + parseDuration(spec.credential_ttl)
  const issued = await ca.issueDatabase({ spki: publicKey.export({ type: 'spki', format: 'der' }), resourceId, user, notAfter })
  return {
    certificate: { cert: issued.certificate, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string },
    async answer(frame) {
      const asked = askedBy(frame)
      if (asked === ASKS.nothing) return 'accepted'
      throw new ChaperoneError('upstream_unavailable', `The database asks for ${nameOfAsked(asked)}, and Chaperone shows it a certificate.`, {
        fix: 'Let the database accept client certificates (a `hostssl ... cert` line in pg_hba.conf); `chaperone db setup` prints the lines.',
      })
    },
  }
}
