import { constants, type KeyObject, verify } from 'node:crypto'
import { id_RSASSA_PSS, RsaSaPssParams } from '@peculiar/asn1-rsa'
import { AsnConvert } from '@peculiar/asn1-schema'
import { AlgorithmIdentifier } from '@peculiar/asn1-x509'

/** SHA-256 and longer; SHA-1 and MD5 make two certificates with one signature (RFC 8017, RFC 5758, RFC 8410). Ed25519 hashes by itself. */
const SIGNATURES: Readonly<Record<string, string | null>> = {
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
  '1.3.101.112': null,
}
/** As parameters name them. */
const HASHES: Readonly<Record<string, string>> = {
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
}
const MGF1 = '1.2.840.113549.1.1.8'
const CURVES = new Set(['prime256v1', 'secp384r1', 'secp521r1'])
const SHORTEST_RSA = 2048

/**
 * Whether a signature of this kind is believed. RSA-PSS carries its hash in its parameters, and where they leave it out it is SHA-1
 * (RFC 4055 section 3.1): the name of the algorithm alone says nothing.
 */
export function isBelieved({ algorithm, parameters }: AlgorithmIdentifier): boolean {
  if (algorithm !== id_RSASSA_PSS) return Object.hasOwn(SIGNATURES, algorithm)
  if (!parameters) return false
  const { hashAlgorithm, maskGenAlgorithm } = AsnConvert.parse(parameters, RsaSaPssParams)
  if (!Object.hasOwn(HASHES, hashAlgorithm.algorithm) || maskGenAlgorithm.algorithm !== MGF1 || !maskGenAlgorithm.parameters) return false
  return AsnConvert.parse(maskGenAlgorithm.parameters, AlgorithmIdentifier).algorithm === hashAlgorithm.algorithm
}

/** Whether what is signed with this key is believed: OpenSSL verifies with RSA of 512 bits as gladly. */
export function isStrong({ asymmetricKeyType: type, asymmetricKeyDetails: details = {} }: KeyObject): boolean {
  if (type === 'rsa' || type === 'rsa-pss') return (details.modulusLength ?? 0) >= SHORTEST_RSA
  return type === 'ed25519' || (type === 'ec' && CURVES.has(details.namedCurve ?? ''))
}

/** Verifies what is no certificate (OpenSSL does those by itself). False for a kind that is not believed. */
export function verifies(kind: AlgorithmIdentifier, data: Uint8Array, signature: Uint8Array, key: KeyObject): boolean {
  if (!isBelieved(kind) || !isStrong(key)) return false
  const ofKey = key.asymmetricKeyType
  if (kind.algorithm === id_RSASSA_PSS) {
    if (ofKey !== 'rsa' && ofKey !== 'rsa-pss') return false
    const { hashAlgorithm, saltLength } = AsnConvert.parse(kind.parameters!, RsaSaPssParams)
    return verify(HASHES[hashAlgorithm.algorithm], data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }, signature)
  }
  const wanted = kind.algorithm.startsWith('1.2.840.113549.') ? 'rsa' : kind.algorithm.startsWith('1.2.840.10045.') ? 'ec' : 'ed25519'
  return ofKey === wanted && verify(SIGNATURES[kind.algorithm], data, key, signature)
}
