import { createHash, type KeyObject, randomBytes, sign } from 'node:crypto'
import { isIP } from 'node:net'
import { ecdsaWithSHA256 } from '@peculiar/asn1-ecc'
import { AsnConvert, OctetString } from '@peculiar/asn1-schema'
import {
  AttributeTypeAndValue,
  AttributeValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  id_ce_authorityKeyIdentifier,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_ce_subjectKeyIdentifier,
  id_kp_clientAuth,
  id_kp_serverAuth,
  KeyIdentifier,
  KeyUsage,
  KeyUsageFlags,
  Name,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509'
import { ChaperoneError } from '../errors.ts'
import { p256Key } from './csr.ts'
import { claimsExtension } from './extension.ts'
import type { CredentialClaims } from './types.ts'

/** What a leaf is for. */
export type Leaf =
  | {
      readonly use: 'identity'
      readonly trustDomain: string
      readonly kind: 'user' | 'agent' | 'node'
      readonly name: string
      readonly claims: CredentialClaims
    }
  | { readonly use: 'server'; readonly names: readonly string[] }
  | { readonly use: 'database'; readonly user: string }

/** Who signs: what a certificate says of its issuer, and the key. */
export interface Issuer {
  readonly name: Name
  readonly keyIdentifier: Uint8Array
  readonly privateKey: KeyObject
}

/** ms since 1970; written in whole seconds, rounded down, so that nothing ever lives longer than was asked. */
export interface Life {
  readonly notBefore: number
  readonly notAfter: number
}

export interface Signed {
  readonly der: Uint8Array
  /** hex */
  readonly serial: string
}

const extension = (extnID: string, critical: boolean, value: unknown) =>
  new Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) })

const LEAF_CONSTRAINTS = extension(id_ce_basicConstraints, true, new BasicConstraints({ cA: false }))
const LEAF_USAGE = extension(id_ce_keyUsage, true, new KeyUsage(KeyUsageFlags.digitalSignature))
const CLIENT_AUTH = extension(id_ce_extKeyUsage, false, new ExtendedKeyUsage([id_kp_clientAuth]))
const SERVER_AUTH = extension(id_ce_extKeyUsage, false, new ExtendedKeyUsage([id_kp_serverAuth]))
/** No authority below this one, except its own successor (RFC 5280 section 4.2.1.9 does not count self-issued certificates). */
const AUTHORITY_CONSTRAINTS = extension(id_ce_basicConstraints, true, new BasicConstraints({ cA: true, pathLenConstraint: 0 }))
const AUTHORITY_USAGE = extension(id_ce_keyUsage, true, new KeyUsage(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign))

const OID_COMMON_NAME = '2.5.4.3'
const OID_ORGANIZATION = '2.5.4.10'

/** RFC 5280 appendix A: ub-common-name. A longer name stands in the SAN only, which is critical for that reason. */
const LONGEST_COMMON_NAME = 64

/** A leaf under `issuer`. Throws `issue_refused` for names, keys or claims that cannot be written. */
export function signLeaf(issuer: Issuer, spki: Uint8Array, leaf: Leaf, life: Life): Signed {
  p256Key(spki)
  const { subject, extensions } = partsOf(leaf)
  return signCertificate(issuer, subject, spki, life, [LEAF_CONSTRAINTS, LEAF_USAGE, ...extensions])
}

/**
 * An authority's certificate. Signed with its own key it is a root; signed by the authority before it, with the same
 * name, it is the link from the old root to the new one (RFC 4210 section 4.4, "NewWithOld").
 */
export function signAuthority(issuer: Issuer, spki: Uint8Array, life: Life): Signed {
  return signCertificate(issuer, issuer.name, spki, life, [AUTHORITY_CONSTRAINTS, AUTHORITY_USAGE])
}

/** All authorities of one purpose have one name; they differ by key identifier. */
export function authorityName(trustDomain: string, purpose: string): Name {
  return nameOf([OID_ORGANIZATION, trustDomain], [OID_COMMON_NAME, `Chaperone ${purpose}`.slice(0, LONGEST_COMMON_NAME)])
}

/** RFC 7093 section 2, method 1: the first 160 bits of the SHA-256 of the public key. */
export function keyIdentifierOf(spki: Uint8Array): Uint8Array {
  const { subjectPublicKey } = AsnConvert.parse(spki, SubjectPublicKeyInfo)
  return createHash('sha256').update(new Uint8Array(subjectPublicKey)).digest().subarray(0, 20)
}

function partsOf(leaf: Leaf): { readonly subject: Name; readonly extensions: readonly Extension[] } {
  switch (leaf.use) {
    case 'identity': {
      const uri = identityUri(leaf)
      const subject = leaf.name.length > LONGEST_COMMON_NAME ? new Name() : nameOf([OID_COMMON_NAME, leaf.name])
      const names = extension(id_ce_subjectAltName, true, new SubjectAlternativeName([new GeneralName({ uniformResourceIdentifier: uri })]))
      return { subject, extensions: [CLIENT_AUTH, names, claimsExtension(leaf.claims)] }
    }
    case 'server': {
      const [first] = leaf.names
      if (first === undefined || leaf.names.length > 100) throw refused('it needs between 1 and 100 names')
      const names = extension(id_ce_subjectAltName, false, new SubjectAlternativeName(leaf.names.map(hostName)))
      return { subject: first.length > LONGEST_COMMON_NAME ? new Name() : nameOf([OID_COMMON_NAME, first]), extensions: [SERVER_AUTH, names] }
    }
    case 'database':
      // PostgreSQL compares the CN with the user (clientcert, cert authentication); its names have at most 63 bytes.
      if (!/^[^\p{Cc}]+$/u.test(leaf.user) || Buffer.byteLength(leaf.user) > 63) throw refused('the database user cannot be a common name')
      return { subject: nameOf([OID_COMMON_NAME, leaf.user]), extensions: [CLIENT_AUTH] }
  }
}

const refused = (why: string) => new ChaperoneError('issue_refused', `The certificate cannot be issued: ${why}.`)

/** SPIFFE-ID section 2: no percent-encoding, no empty or dotted segments. Stricter than that, names are lower case. */
const SPIFFE_PATH = /^[a-z0-9][a-z0-9._-]*(?:\/[a-z0-9][a-z0-9._-]*)*$/
const TRUST_DOMAIN = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/

export function isTrustDomain(text: string): boolean {
  return TRUST_DOMAIN.test(text)
}

/** The one URI of an identity's certificate. Throws `issue_refused`. */
function identityUri({ trustDomain, kind, name }: { readonly trustDomain: string; readonly kind: string; readonly name: string }): string {
  if (!isTrustDomain(trustDomain) || !SPIFFE_PATH.test(name) || name.length > 127) throw refused('the name cannot be a SPIFFE ID')
  return `spiffe://${trustDomain}/${kind}/${name}`
}

function hostName(name: string): GeneralName {
  if (isIP(name) !== 0) return new GeneralName({ iPAddress: name })
  if (name.length > 253 || !/^[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}))*$/.test(name))
    throw refused(`${JSON.stringify(name.slice(0, 60))} is not a host name`)
  return new GeneralName({ dNSName: name })
}

function nameOf(...attributes: readonly (readonly [type: string, value: string])[]): Name {
  return new Name(
    attributes.map(
      ([type, value]) => new RelativeDistinguishedName([new AttributeTypeAndValue({ type, value: new AttributeValue({ utf8String: value }) })]),
    ),
  )
}

function signCertificate(issuer: Issuer, subject: Name, spki: Uint8Array, life: Life, extensions: readonly Extension[]): Signed {
  if (!(life.notAfter > life.notBefore)) throw refused('its life would be over before it began')
  const serial = randomSerial()
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: serial.buffer,
    signature: ecdsaWithSHA256,
    issuer: issuer.name,
    validity: new Validity({ notBefore: new Date(life.notBefore), notAfter: new Date(life.notAfter) }),
    subject,
    subjectPublicKeyInfo: AsnConvert.parse(spki, SubjectPublicKeyInfo),
    extensions: new Extensions([
      ...extensions,
      extension(id_ce_authorityKeyIdentifier, false, new AuthorityKeyIdentifier({ keyIdentifier: new KeyIdentifier(issuer.keyIdentifier) })),
      extension(id_ce_subjectKeyIdentifier, false, new SubjectKeyIdentifier(keyIdentifierOf(spki))),
    ]),
  })
  const signature = sign('sha256', Buffer.from(AsnConvert.serialize(tbsCertificate)), issuer.privateKey)
  const certificate = new Certificate({ tbsCertificate, signatureAlgorithm: ecdsaWithSHA256, signatureValue: new Uint8Array(signature).buffer })
  return { der: new Uint8Array(AsnConvert.serialize(certificate)), serial: Buffer.from(serial).toString('hex') }
}

/** 126 random bits in 128, the first bits `01`: positive, never shortened, well over the 64 that RFC 5280 and the CA/Browser Forum ask. */
function randomSerial(): Uint8Array<ArrayBuffer> {
  const serial = new Uint8Array(randomBytes(16))
  serial[0] = (serial[0]! & 0x3f) | 0x40
  return serial
}
