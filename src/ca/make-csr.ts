import { type KeyObject, sign } from 'node:crypto'
import { pemOf } from './pem.ts'

/**
 * DER by hand (X.690): one request with one kind of key and no names needs no library, and what runs at the user (the shim,
 * and the bundle that carries it) then needs none at all.
 */
const der = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const content = Buffer.concat(parts)
  const { length } = content
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}

const INTEGER = 0x02
const BIT_STRING = 0x03
const SEQUENCE = 0x30
const ATTRIBUTES = 0xa0
const VERSION_1 = der(INTEGER, Buffer.from([0]))
const NO_UNUSED_BITS = Buffer.from([0])
/** ecdsa-with-SHA256, 1.2.840.10045.4.3.2 (RFC 5758) */
const ECDSA_SHA256 = der(SEQUENCE, Buffer.from('06082a8648ce3d040302', 'hex'))

/** A request (PKCS #10, RFC 2986) for a key of one's own, in PEM: no names, no attributes. For the client; both keys are P-256. */
export function makeCsr(privateKey: KeyObject, publicKey: KeyObject): string {
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const info = der(SEQUENCE, VERSION_1, der(SEQUENCE), spki, der(ATTRIBUTES))
  const signature = sign('sha256', info, privateKey)
  return pemOf('CERTIFICATE REQUEST', der(SEQUENCE, info, ECDSA_SHA256, der(BIT_STRING, NO_UNUSED_BITS, signature)))
}
