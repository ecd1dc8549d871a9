import { createPublicKey, generateKeyPairSync, type KeyObject, verify } from 'node:crypto'
import { CertificationRequestInfo } from '@peculiar/asn1-csr'
import { id_ecdsaWithSHA256 } from '@peculiar/asn1-ecc'
import { AsnConvert, AsnProp, AsnPropTypes } from '@peculiar/asn1-schema'
import { AlgorithmIdentifier } from '@peculiar/asn1-x509'
import { ChaperoneError } from '../errors.ts'

/** A request of ours is about 350 characters; company tools write names and attributes into theirs. */
const LARGEST_PEM = 8192

const PEM = /^-----BEGIN (?<label>(?:NEW )?CERTIFICATE REQUEST)-----\r?\n(?<body>(?:[A-Za-z0-9+/=]{1,76}\r?\n)+)-----END \k<label>-----(?:\r?\n)*$/

/** The outer shape, with the signed part kept as bytes. Its schema is given by calls: decorators are not erasable syntax. */
class SignedRequest {
  info = new ArrayBuffer(0)
  algorithm = new AlgorithmIdentifier()
  signature = new ArrayBuffer(0)
}
AsnProp({ type: AsnPropTypes.Any })(SignedRequest.prototype, 'info')
AsnProp({ type: AlgorithmIdentifier })(SignedRequest.prototype, 'algorithm')
AsnProp({ type: AsnPropTypes.BitString })(SignedRequest.prototype, 'signature')

/**
 * Reads a PKCS#10 request (RFC 2986). All that is taken from it is the P-256 public key, once the signature has proven
 * that the asker holds the private half; the names in it are ignored, since who asks is known by other means.
 * `spki` is DER. Throws `too_large`, `issue_refused`.
 */
export function readCsr(pem: string): { readonly spki: Uint8Array } {
  if (pem.length > LARGEST_PEM) throw new ChaperoneError('too_large', `The certificate request is over ${LARGEST_PEM} characters.`)
  try {
    return readDer(derOf(pem))
  } catch (error) {
    if (error instanceof ChaperoneError) throw error
    throw refused('it cannot be read', error)
  }
}

const refused = (why: string, cause?: unknown) =>
  new ChaperoneError('issue_refused', `The certificate request is not acceptable: ${why}.`, {
    fix: 'Send a PKCS#10 request in PEM for an ECDSA P-256 key, signed with SHA-256.',
    cause,
  })

function derOf(pem: string): Buffer {
  const body = PEM.exec(pem)?.groups?.body?.replace(/[\r\n]/g, '')
  if (body === undefined) throw refused('it is not one PEM block')
  const der = Buffer.from(body, 'base64')
  // Node forgives wrong padding and stray bits after the last byte.
  if (der.toString('base64') !== body) throw refused('its base64 is not canonical')
  return der
}

function readDer(der: Buffer): { readonly spki: Uint8Array } {
  const { info, algorithm, signature } = AsnConvert.parse(der, SignedRequest)
  if (algorithm.algorithm !== id_ecdsaWithSHA256 || algorithm.parameters !== undefined) throw refused('it is not signed with ECDSA and SHA-256')
  // The signature covers `info` only. Writing the rest again shows that no byte outside it has a second reading (trailing data, unused bits, long lengths).
  if (!der.equals(Buffer.from(AsnConvert.serialize(Object.assign(new SignedRequest(), { info, algorithm, signature })))))
    throw refused('it is not DER')
  const { version, subjectPKInfo } = AsnConvert.parse(info, CertificationRequestInfo)
  if (version !== 0) throw refused('its version is unknown')
  const spki = Buffer.from(AsnConvert.serialize(subjectPKInfo))
  const key = p256Key(spki)
  if (!verify('sha256', Buffer.from(info), key, Buffer.from(signature))) throw refused('its signature does not prove possession of the key')
  return { spki }
}

/** How the SPKI of every uncompressed P-256 key begins, taken from one. */
const P256_SPKI = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'der' })
const P256_POINT_BYTES = 64

/**
 * The key of an SPKI, if it is an uncompressed point on P-256 under the curve's name: OpenSSL refuses points that are not
 * on the curve. One key has one SPKI: device keys are found by these bytes, so a compressed point or explicit parameters
 * are no second name for a key. Throws `issue_refused`.
 */
export function p256Key(spki: Uint8Array): KeyObject {
  const before = P256_SPKI.length - P256_POINT_BYTES
  if (spki.length !== P256_SPKI.length || !P256_SPKI.subarray(0, before).equals(spki.subarray(0, before)))
    throw refused('its key is not an ordinary P-256 key')
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  } catch (error) {
    throw refused('its key cannot be read', error)
  }
}
