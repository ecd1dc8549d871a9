import { createHash, X509Certificate } from 'node:crypto'

/** RFC 7468. */
export function pemOf(label: 'CERTIFICATE' | 'CERTIFICATE REQUEST', der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** The certificate blocks of a text, in order, each with its line break. */
export function certificateBlocks(pem: string): readonly string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\r?\n?/g) ?? []
}

/** The certificates of a bundle or chain, in order. Throws what OpenSSL throws for one that cannot be read. */
export function readBundle(pem: string): X509Certificate[] {
  return certificateBlocks(pem).map((block) => new X509Certificate(block))
}

/** sha256 hex of the SubjectPublicKeyInfo of each certificate of a bundle. */
export const fingerprintsOf = (pem: string): string[] =>
  readBundle(pem).map(({ publicKey }) =>
    createHash('sha256')
      .update(publicKey.export({ type: 'spki', format: 'der' }))
      .digest('hex'),
  )
