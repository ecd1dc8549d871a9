import type { X509Certificate } from 'node:crypto'
import { AsnConvert } from '@peculiar/asn1-schema'
import {
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_kp_clientAuth,
  KeyUsage,
  KeyUsageFlags,
  SubjectAlternativeName,
} from '@peculiar/asn1-x509'
import { isBelieved, isStrong } from './signature-kinds.ts'

/** A leaf, and an authority or two between it and the root. */
const LONGEST_PATH = 5

/** Critical extensions that are read here. RFC 5280 section 4.2: whatever else is critical must be understood, or the certificate refused. */
const UNDERSTOOD = new Set([id_ce_basicConstraints, id_ce_keyUsage, id_ce_extKeyUsage, id_ce_subjectAltName])
const NAME_CONSTRAINTS = '2.5.29.30'
const ANY_PURPOSE = '2.5.29.37.0'

interface Read {
  readonly x509: X509Certificate
  readonly asn: Certificate
  readonly pathLength: number | undefined
  readonly usage: number | undefined
  readonly purposes: readonly string[] | undefined
}

/** What is wrong with a chain, for the record and for whoever showed it. */
export class PathFault extends Error {
  override readonly name = 'PathFault'
}

function read(x509: X509Certificate): Read {
  const asn = AsnConvert.parse(x509.raw, Certificate)
  const extensions = asn.tbsCertificate.extensions ?? []
  const value = (oid: string) => extensions.find(({ extnID }) => extnID === oid)?.extnValue.buffer
  const [basic, usage, purposes] = [value(id_ce_basicConstraints), value(id_ce_keyUsage), value(id_ce_extKeyUsage)]
  const strange = extensions.find(({ critical, extnID }) => critical && !UNDERSTOOD.has(extnID))
  if (strange) throw new PathFault(`a certificate has a critical extension that is not read here (${strange.extnID})`)
  // Not critical it would be a mistake of its authority; skipped it would be one of ours.
  if (extensions.some(({ extnID }) => extnID === NAME_CONSTRAINTS)) throw new PathFault('an authority with name constraints is not supported')
  // RFC 5280 section 4.2: one of a kind. Of two, one would be judged and the other believed.
  if (new Set(extensions.map(({ extnID }) => extnID)).size < extensions.length) throw new PathFault('a certificate has an extension twice')
  // That the one in what is signed is the same, OpenSSL sees to where it verifies.
  if (!isBelieved(asn.signatureAlgorithm)) throw new PathFault('a certificate is signed with an algorithm that is not believed')
  if (!isStrong(x509.publicKey)) throw new PathFault('a certificate is of a key that is too weak, or of a kind that is not used here')
  return {
    x509,
    asn,
    pathLength: basic === undefined ? undefined : AsnConvert.parse(basic, BasicConstraints).pathLenConstraint,
    usage: usage === undefined ? undefined : AsnConvert.parse(usage, KeyUsage).toNumber(),
    purposes: purposes === undefined ? undefined : [...AsnConvert.parse(purposes, ExtendedKeyUsage)],
  }
}

const holds = (x509: X509Certificate, now: number) => now >= x509.validFromDate.getTime() && now <= x509.validToDate.getTime()

const signs = (issuer: Read, subject: Read): boolean => subject.x509.checkIssued(issuer.x509) && subject.x509.verify(issuer.x509.publicKey)

/**
 * Path validation as RFC 5280 section 6 has it, for what companies have: names and signatures, times, who may sign and how far,
 * client authentication. What is not read here (name constraints, policies, anything else that is critical) is refused, never
 * skipped. Whether something was revoked is asked by revocation-list.ts. `chain`: the leaf first. Throws PathFault. Returns the way from
 * the leaf to the authority of the document, both included.
 */
export function validatePath(
  chain: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
  now: number,
): readonly [X509Certificate, ...X509Certificate[]] {
  const [leaf, ...between] = chain.map(read)
  if (!leaf || chain.length > LONGEST_PATH) throw new PathFault(`a chain has one to ${LONGEST_PATH} certificates`)
  if (!holds(leaf.x509, now)) throw new PathFault(`the certificate holds from ${leaf.x509.validFrom} to ${leaf.x509.validTo}`)
  if (leaf.x509.ca) throw new PathFault('an authority itself does not join')
  if (leaf.usage !== undefined && (leaf.usage & KeyUsageFlags.digitalSignature) === 0) throw new PathFault('the certificate is not for signing')
  if (leaf.purposes && !leaf.purposes.includes(id_kp_clientAuth) && !leaf.purposes.includes(ANY_PURPOSE))
    throw new PathFault('the certificate is not for client authentication')

  const roots = authorities.map(read)
  const way: [X509Certificate, ...X509Certificate[]] = [leaf.x509]
  let at = leaf
  for (const [depth, next] of [...between, undefined].entries()) {
    // The shortest way to what the document names; what the client sent beyond is of no use.
    const root = roots.find((one) => mayHaveIssued(one, at, depth, now))
    if (root) return [...way, root.x509]
    if (!next || !mayHaveIssued(next, at, depth, now)) break
    at = next
    way.push(next.x509)
  }
  throw new PathFault('no authority of the document stands behind the certificate')
}

/** `below`: how many authorities already lie between `issuer` and the leaf. */
function mayHaveIssued(issuer: Read, subject: Read, below: number, now: number): boolean {
  const { x509, pathLength, usage, purposes } = issuer
  return (
    x509.ca &&
    holds(x509, now) &&
    (pathLength === undefined || below <= pathLength) &&
    (usage === undefined || (usage & KeyUsageFlags.keyCertSign) !== 0) &&
    (purposes === undefined || purposes.includes(id_kp_clientAuth) || purposes.includes(ANY_PURPOSE)) &&
    signs(issuer, subject)
  )
}

/** Subject and alternative names of a certificate, from its DER: text forms of them can be made to read as something else (CVE-2021-44532). */
export function namesOf(x509: X509Certificate) {
  const { tbsCertificate } = AsnConvert.parse(x509.raw, Certificate)
  const attributes = Array.from(tbsCertificate.subject).flatMap((set) => Array.from(set))
  const all = (oid: string) => attributes.filter(({ type }) => type === oid).map(({ value }) => value.toString())
  const der = tbsCertificate.extensions?.find(({ extnID }) => extnID === id_ce_subjectAltName)?.extnValue.buffer
  const alternatives = der === undefined ? [] : [...AsnConvert.parse(der, SubjectAlternativeName)]
  const texts = (values: readonly (string | undefined)[]) => values.filter((one) => one !== undefined)
  return {
    common_name: all('2.5.4.3'),
    organization: all('2.5.4.10'),
    unit: all('2.5.4.11'),
    dns: texts(alternatives.map(({ dNSName }) => dNSName)),
    uri: texts(alternatives.map(({ uniformResourceIdentifier }) => uniformResourceIdentifier)),
    email: texts(alternatives.map(({ rfc822Name }) => rfc822Name)),
  }
}
