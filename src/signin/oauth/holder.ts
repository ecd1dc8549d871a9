import { spiffeId } from '../../identity/names.ts'
import type { LiveSession } from '../../identity/types.ts'

/**
 * Who asks over mTLS, with a certificate of ours. What he is given opens nothing without that certificate (RFC 8705 section 3). What
 * lives longer than it, a refresh token, is held to his session: that stays when the certificate is renewed.
 */
export interface Holder {
  /** live, and its chain may act: looked at for this request */
  readonly session: LiveSession
  /** sha256 of the certificate, base64url */
  readonly thumbprint: string
  /** ms since 1970: the end of the certificate */
  readonly notAfter: number
}

/** The SPIFFE ID in his certificate. */
export const uriOf = ({ session: { principal } }: Holder, trustDomain: string): string => spiffeId(trustDomain, principal.kind, principal.name)
