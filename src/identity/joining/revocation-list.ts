import { createPublicKey, type X509Certificate } from 'node:crypto'
import { AsnConvert } from '@peculiar/asn1-schema'
import {
  AlgorithmIdentifier,
  Certificate,
  CertificateList,
  id_ce_cRLNumber,
  id_ce_keyUsage,
  KeyUsage,
  KeyUsageFlags,
  type Name,
} from '@peculiar/asn1-x509'
import { verifies } from './signature-kinds.ts'

/** 16,000 revoked certificates, which take half a second to read (`list-thread.ts`). */
export const LARGEST_LIST = 512 * 1024
/** The reader's own limit is for single certificates; one entry is about six nodes. */
const MOST_NODES = 200_000

/** What one authority has revoked, as it signed it. */
export interface RevocationList {
  /** hex of the DER of the authority's name */
  readonly issuer: string
  /** ms since 1970 */
  readonly thisUpdate: number
  /** when the next one is due; a list without it is overdue from the beginning */
  readonly nextUpdate: number | undefined
  /** Serial numbers in hex, as `serialOf` says them. */
  has(serial: string): boolean
  /** Whether the key (DER, SPKI) made it. */
  isSignedBy(spki: Uint8Array): boolean
}

/** What was read of one, as a thread can hand it to another. */
export interface ReadList extends Pick<RevocationList, 'issuer' | 'thisUpdate' | 'nextUpdate'> {
  /** serial numbers in hex, each behind a space: one text is handed over at once, and thousands of them one by one */
  readonly revoked: string
  readonly signed: Uint8Array
  readonly signature: Uint8Array
  /** DER */
  readonly signatureAlgorithm: Uint8Array
}

/** A certificate, as a session keeps in mind what it rests on: under which key (base64 of the SPKI) which number. */
export interface Vouched {
  readonly serial: string
  readonly issuer: string
}

const hex = (bytes: ArrayBuffer) => Buffer.from(bytes).toString('hex')
const nameOf = (name: Name) => hex(AsnConvert.serialize(name))
const spkiOf = ({ publicKey }: X509Certificate): Buffer => publicKey.export({ type: 'spki', format: 'der' })

/** Each certificate of a way (`validatePath`) with the key above it; the authority of the document itself is in nobody's list. */
export const vouchedBy = (way: readonly X509Certificate[]): readonly Vouched[] =>
  way.slice(0, -1).map((one, at) => ({
    serial: hex(AsnConvert.parse(one.raw, Certificate).tbsCertificate.serialNumber),
    issuer: spkiOf(way[at + 1]!).toString('base64'),
  }))

/** Reads a list in DER, or in one block of PEM. Throws what makes it unreadable, and for one that says less than all there is. */
export const readRevocationList = (bytes: Uint8Array): RevocationList => listOf(readList(bytes))

/** The first half, which takes long. */
export function readList(bytes: Uint8Array): ReadList {
  if (bytes.length > LARGEST_LIST) throw new Error(`a revocation list is at most ${LARGEST_LIST} bytes long`)
  const list = AsnConvert.parse(derOf(bytes), CertificateList, { berOptions: { maxNodes: MOST_NODES } })
  const { tbsCertList, tbsCertListRaw, signatureAlgorithm, signature } = list
  // Critical ones say that it is about some of the certificates, or of other authorities, or what changed since another (RFC 5280 section 5.2).
  for (const { critical, extnID } of tbsCertList.crlExtensions ?? [])
    if (critical && extnID !== id_ce_cRLNumber) throw new Error(`a revocation list of this kind is not read (${extnID})`)
  let revoked = ''
  for (const { userCertificate, crlEntryExtensions = [] } of tbsCertList.revokedCertificates ?? []) {
    const strange = crlEntryExtensions.find(({ critical }) => critical)
    if (strange) throw new Error(`a revocation list of this kind is not read (${strange.extnID})`)
    revoked += ` ${hex(userCertificate)}`
  }
  if (!tbsCertListRaw) throw new Error('what was signed is not there')
  return {
    issuer: nameOf(tbsCertList.issuer),
    thisUpdate: tbsCertList.thisUpdate.getTime().getTime(),
    nextUpdate: tbsCertList.nextUpdate?.getTime().getTime(),
    revoked,
    signed: new Uint8Array(tbsCertListRaw),
    signature: new Uint8Array(signature),
    signatureAlgorithm: new Uint8Array(AsnConvert.serialize(signatureAlgorithm)),
  }
}

/** The second half, which takes a few milliseconds. */
export function listOf({ issuer, thisUpdate, nextUpdate, revoked, signed, signature, signatureAlgorithm }: ReadList): RevocationList {
  const serials = new Set(revoked.split(' ').slice(1))
  const algorithm = AsnConvert.parse(signatureAlgorithm, AlgorithmIdentifier)
  const known = new Map<string, boolean>()
  return {
    issuer,
    thisUpdate,
    nextUpdate,
    has: (serial) => serials.has(serial),
    isSignedBy(spki) {
      const key = Buffer.from(spki).toString('base64')
      const answer =
        known.get(key) ?? verifies(algorithm, signed, signature, createPublicKey({ key: Buffer.from(spki), type: 'spki', format: 'der' }))
      if (known.size < MOST_KEYS) known.set(key, answer)
      return answer
    },
  }
}
const MOST_KEYS = 20

const BLOCK = /^\s*-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+)-----END X509 CRL-----\s*$/
function derOf(bytes: Uint8Array): Uint8Array {
  if (bytes[0] === 0x30) return bytes
  const body = BLOCK.exec(Buffer.from(bytes).toString('latin1'))?.[1]
  if (body === undefined) throw new Error('this is no revocation list in DER or PEM')
  return Buffer.from(body, 'base64')
}

/** The clock of an authority may be a little ahead. */
const TOLERANCE_MS = 5 * 60_000

/**
 * What the lists say of a way: nothing against it, that something on it was revoked, or that they do not say (there is none of some
 * authority, or it is overdue and `overdue` is not believed). Pure.
 */
export function askLists(
  way: readonly X509Certificate[],
  lists: readonly RevocationList[],
  { now, overdue }: { readonly now: number; readonly overdue: 'refuse' | 'believe' },
): 'good' | 'revoked' | 'unknown' {
  let answer: 'good' | 'unknown' = 'good'
  for (const [at, { serial, issuer }] of vouchedBy(way).entries()) {
    const of = lists.filter((list) => isOf(list, way[at + 1]!, Buffer.from(issuer, 'base64')))
    // What an old list says stays true: a number is not given out again.
    if (of.some((list) => list.has(serial))) return 'revoked'
    const current = (list: RevocationList) => list.thisUpdate <= now + TOLERANCE_MS && (overdue === 'believe' || (list.nextUpdate ?? 0) > now)
    if (!of.some(current)) answer = 'unknown'
  }
  return answer
}

function isOf(list: RevocationList, authority: X509Certificate, spki: Buffer): boolean {
  const { subject, extensions = [] } = AsnConvert.parse(authority.raw, Certificate).tbsCertificate
  if (nameOf(subject) !== list.issuer) return false
  const usage = extensions.find(({ extnID }) => extnID === id_ce_keyUsage)?.extnValue.buffer
  if (usage !== undefined && (AsnConvert.parse(usage, KeyUsage).toNumber() & KeyUsageFlags.cRLSign) === 0) return false
  return list.isSignedBy(spki)
}

/** Whether one of these was revoked since; a list that is overdue accuses as well as another. */
export const revokedSince = (vouched: readonly Vouched[], lists: readonly RevocationList[]): boolean =>
  vouched.some(({ serial, issuer }) => lists.some((list) => list.has(serial) && list.isSignedBy(Buffer.from(issuer, 'base64'))))
