import type { TLSSocket } from 'node:tls'
import type { CertificateAuthority } from '../../../ca/types.ts'
import type { PostgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { awsToken } from './aws-token.ts'
import { type Certificates, certificate } from './certificate.ts'
import { sealedPassword } from './sealed-password.ts'
import type { ClientCertificate } from './upstream.ts'

/** How one connection says who it is. */
export interface Credential {
  /** Shown while TLS begins. */
  readonly certificate?: ClientCertificate
  /** What the server gets to know that no message of ours may repeat, when it sends it back. */
  readonly secret?: string
  /** The answer to an Authentication message; `accepted` when nothing more is asked. Throws ChaperoneError. */
  answer(frame: Buffer, socket: TLSSocket): Promise<Buffer | 'accepted' | undefined>
}

export interface CredentialParts {
  readonly ca: Pick<CertificateAuthority, 'issueDatabase'> & Partial<Pick<CertificateAuthority, 'bundle'>>
  readonly clock: Clock
  /** A sealed secret by its name. Who gives this sees to it that the value is masked in records. Throws `not_found`. */
  readonly reveal?: ((secret: string) => Promise<string>) | undefined
  /** Shared with other connections; default: one for this connection alone. */
  readonly certificates?: Certificates
}

export interface LogInAs {
  readonly resourceId: string
  readonly user: string
  readonly spec: PostgresDatabaseSpec
}

/** As the document says: `auth`. A database that asks for anything else is not answered. */
export async function credentialFor(as: LogInAs, parts: CredentialParts): Promise<Credential> {
  const { auth } = as.spec
  if (auth === 'certificate' || auth === undefined) return await certificate(as, parts)
  if ('aws_iam' in auth) return await awsToken(as, auth.aws_iam.region)
  const sealed = Object.hasOwn(auth.password, as.user) ? auth.password[as.user] : undefined
  if (!sealed || !parts.reveal) {
    throw new ChaperoneError('upstream_unavailable', `No password is sealed for the database user ${as.user}.`, {
      fix: 'An administrator adds it to `auth.password` in the document of this database.',
    })
  }
  return sealedPassword(await parts.reveal(sealed.secret))
}
