import { hash, X509Certificate } from 'node:crypto'
import { ecdsaWithSHA256 } from '@peculiar/asn1-ecc'
import { AsnConvert } from '@peculiar/asn1-schema'
import {
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  type Extension,
  id_ce_authorityKeyIdentifier,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_ce_subjectKeyIdentifier,
  id_kp_clientAuth,
  KeyUsage,
  KeyUsageFlags,
  SubjectAlternativeName,
} from '@peculiar/asn1-x509'
import { isClaimsExtension, readClaims } from '../ca/extension.ts'
import { readBundle } from '../ca/pem.ts'
import type { CredentialClaims } from '../ca/types.ts'
import { ChaperoneError } from '../errors.ts'
import { makeLru } from './lru.ts'
import { isName, spiffeId } from './names.ts'
import type { ChainLink, Principal } from './types.ts'

export interface CertificateContext {
  /** PEM of the identity authorities that are believed, from `ca.bundle('identity')` */
  readonly identityBundle: string
  /** ms since 1970 */
  readonly now: number
  readonly trustDomain: string
}

/** Ours are under 1.5 KB. */
const LARGEST_DER = 8192

interface Checked {
  readonly principal: Principal
  readonly notBefore: number
  readonly identityBundle: string
  readonly trustDomain: string
}

/** Reading and verifying costs about a millisecond, and the data plane asks for every request: what does not depend on the time is kept. */
const checked = makeLru<Checked>(4096)

/**
 * Who a client certificate speaks of: chain, validity, usage, name and claims, all checked here. The TLS stack's own
 * verdict is not enough: on a resumed session Node keeps an expired certificate `authorized` (measured on 24.21 and 26.10).
 * Throws `unauthenticated` (none was shown), `credential_expired`, `credential_invalid`.
 */
export function principalFromCertificate(shown: X509Certificate | Uint8Array | undefined, context: CertificateContext): Principal {
  if (shown === undefined) throw new ChaperoneError('unauthenticated', 'No client certificate was presented.', { fix: 'Sign in or join first.' })
  const der = shown instanceof X509Certificate ? shown.raw : shown
  if (der.byteLength > LARGEST_DER) throw invalid('it is too large')
  const fingerprint = hash('sha256', der, 'base64')
  let found = checked.get(fingerprint)
  if (found?.identityBundle !== context.identityBundle || found.trustDomain !== context.trustDomain) {
    found = check(der, context)
    checked.set(fingerprint, found)
  }
  const { principal, notBefore } = found
  if (context.now >= principal.notAfter)
    throw new ChaperoneError('credential_expired', 'The certificate is past its end.', { fix: 'Renew it, or sign in again.' })
  if (context.now < notBefore) throw invalid('it is not valid yet: compare the clocks')
  return principal
}

const invalid = (detail: string, cause?: unknown) =>
  new ChaperoneError('credential_invalid', 'The certificate is malformed, forged, or from another authority.', {
    detail: `certificate: ${detail}`,
    cause,
  })

function check(der: Uint8Array, { identityBundle, trustDomain, now }: CertificateContext): Checked {
  try {
    const certificate = new X509Certificate(der)
    // OpenSSL stops reading at the end of the certificate and forgives what follows.
    if (!certificate.raw.equals(der)) throw invalid('it is not DER')
    const issuer = assertIssued(certificate, identityBundle, now)
    const { tbsCertificate, signatureAlgorithm } = AsnConvert.parse(der, Certificate)
    if (signatureAlgorithm.algorithm !== ecdsaWithSHA256.algorithm) throw invalid('its signature algorithm is not ours')
    const claims = readExtensions(tbsCertificate.extensions ?? [], trustDomain)
    const { validity } = tbsCertificate
    const notAfter = Math.min(validity.notAfter.getTime().getTime(), Date.parse(issuer.validTo))
    return { principal: { ...claims, notAfter, proof: 'mtls' }, notBefore: validity.notBefore.getTime().getTime(), identityBundle, trustDomain }
  } catch (error) {
    // Whatever a parser throws about bytes of a stranger is the stranger's fault.
    throw error instanceof ChaperoneError ? error : invalid('it cannot be read', error)
  }
}

/** The authority of the bundle that signed it. The bundle holds roots only, and each is judged by its key, not by its name. */
function assertIssued(leaf: X509Certificate, bundle: string, now: number): X509Certificate {
  const issuer = readBundle(bundle).find((root) => leaf.checkIssued(root) && leaf.verify(root.publicKey))
  if (!issuer?.ca) throw invalid('no authority that is believed signed it')
  if (now >= Date.parse(issuer.validTo)) throw invalid('its authority is over')
  if (leaf.ca || leaf.publicKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw invalid('it is not one of our leaves')
  return issuer
}

function readExtensions(extensions: readonly Extension[], trustDomain: string): Omit<Principal, 'notAfter' | 'proof'> {
  // RFC 5280 section 4.2: at most one instance of each.
  if (new Set(extensions.map(({ extnID }) => extnID)).size !== extensions.length) throw invalid('an extension stands twice')
  const unknown = extensions.find((extension) => extension.critical && !KNOWN.has(extension.extnID))
  if (unknown) throw invalid(`unknown critical extension ${unknown.extnID}`)
  const value = (id: string) => {
    const extension = extensions.find(({ extnID }) => extnID === id)
    if (!extension) throw invalid(`extension ${id} is missing`)
    return extension.extnValue.buffer
  }
  if (AsnConvert.parse(value(id_ce_basicConstraints), BasicConstraints).cA) throw invalid('it is an authority')
  if (AsnConvert.parse(value(id_ce_keyUsage), KeyUsage).toNumber() !== KeyUsageFlags.digitalSignature) throw invalid('its key usage')
  const usages = AsnConvert.parse(value(id_ce_extKeyUsage), ExtendedKeyUsage)
  if (usages.length !== 1 || usages[0] !== id_kp_clientAuth) throw invalid('its extended key usage')
  const names = AsnConvert.parse(value(id_ce_subjectAltName), SubjectAlternativeName)
  const uri = names.length === 1 ? names[0]?.uniformResourceIdentifier : undefined
  if (uri === undefined) throw invalid('it needs exactly one name, a URI')
  const own = extensions.find(isClaimsExtension)
  if (!own) throw invalid('our extension is missing')
  return principalOf(readClaims(new Uint8Array(own.extnValue.buffer)), uri, trustDomain)
}

const KNOWN: ReadonlySet<string> = new Set([
  id_ce_basicConstraints,
  id_ce_keyUsage,
  id_ce_extKeyUsage,
  id_ce_subjectAltName,
  id_ce_authorityKeyIdentifier,
  id_ce_subjectKeyIdentifier,
])

const KINDS = { usr: 'user', agt: 'agent', nod: 'node' } as const

/** Claims and SPIFFE ID as one principal, if they speak of the same identity. Throws `credential_invalid`. */
export function principalOf(claims: CredentialClaims, uri: string, trustDomain: string): Omit<Principal, 'notAfter' | 'proof'> {
  const kind = KINDS[claims.identity.slice(0, 3) as keyof typeof KINDS]
  const prefix = spiffeId(trustDomain, kind, '')
  const name = uri.slice(prefix.length)
  if (!uri.startsWith(prefix) || !isName(kind, name)) throw invalid('its name and its claims speak of different identities')
  return {
    identityId: claims.identity,
    kind,
    name,
    credentialId: claims.credential,
    sessionId: claims.session,
    ...(claims.issuer === undefined ? {} : { issuerId: claims.issuer }),
    chain: claims.chain ?? [{ identity: claims.identity }],
  }
}

/** The claims of a credential; the chain is left out when nobody else is involved. */
export function claimsOf(ask: {
  readonly identityId: string
  readonly credentialId: string
  readonly sessionId: string
  readonly issuerId?: string
  readonly chain: readonly ChainLink[]
}): CredentialClaims {
  return {
    v: 1,
    identity: ask.identityId,
    credential: ask.credentialId,
    session: ask.sessionId,
    ...(ask.issuerId === undefined ? {} : { issuer: ask.issuerId }),
    ...(ask.chain.length > 1 ? { chain: ask.chain } : {}),
  }
}
