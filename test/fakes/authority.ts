import { createHash, generateKeyPairSync, type KeyObject, webcrypto, X509Certificate } from 'node:crypto'
import 'reflect-metadata' // first: @peculiar/x509 does not load without it
import * as x509 from '@peculiar/x509'

x509.cryptoProvider.set(webcrypto as never)
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

export interface FakeAuthority {
  /** PEM */
  readonly certificate: string
  /** sha256 hex of the SPKI, as an invitation carries it */
  readonly fingerprint: string
  /** A leaf for these names, or for a client when there are none. PEM: key, and the leaf followed by the authority. */
  issue(
    names?: readonly string[],
    life?: { readonly notBefore: Date; readonly notAfter: Date },
  ): Promise<{ readonly key: string; readonly certificate: string; readonly chain: string }>
  /** A list of what it has revoked (serial numbers in hex), due again at `until`. PEM. */
  revoked(serials: readonly string[], until: number): Promise<string>
}

const toWebKeys = async (pair: { privateKey: KeyObject; publicKey: KeyObject }) => ({
  privateKey: await webcrypto.subtle.importKey('pkcs8', pair.privateKey.export({ type: 'pkcs8', format: 'der' }), algorithm, true, ['sign']),
  publicKey: await webcrypto.subtle.importKey('spki', pair.publicKey.export({ type: 'spki', format: 'der' }), algorithm, true, ['verify']),
})

const DAY = 86_400_000

/** An authority made by another library than ours, for tests that need TLS. */
export async function fakeAuthority(name = 'fake'): Promise<FakeAuthority> {
  const now = Date.now()
  const life = { notBefore: new Date(now - DAY), notAfter: new Date(now + DAY) }
  const keys = await toWebKeys(generateKeyPairSync('ec', { namedCurve: 'P-256' }))
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    ...life,
    serialNumber: '01',
    name: `CN=${name}`,
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  })
  const certificate = root.toString('pem')
  const spki = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' })
  return {
    certificate,
    fingerprint: createHash('sha256').update(spki).digest('hex'),
    async revoked(serials, until) {
      const list = await x509.X509CrlGenerator.create({
        ...{ issuer: root.subject, thisUpdate: new Date(now - 60_000), nextUpdate: new Date(until) },
        ...{ signingAlgorithm: algorithm, signingKey: keys.privateKey },
        entries: serials.map((serialNumber) => ({ serialNumber, revocationDate: new Date(now) })),
      })
      return list.toString('pem').replaceAll(/(?<=BEGIN|END) CRL/g, ' X509 CRL')
    },
    async issue(names = [], own = life) {
      const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const web = await toWebKeys(pair)
      const alternative = names.map((text) => ({ type: /^[\d.]+$/.test(text) ? ('ip' as const) : ('dns' as const), value: text }))
      const leaf = await x509.X509CertificateGenerator.create({
        ...own,
        serialNumber: String(Math.trunc(Math.random() * 1e9) + 2),
        subject: 'CN=leaf',
        issuer: root.subject,
        publicKey: web.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        extensions: alternative.length > 0 ? [new x509.SubjectAlternativeNameExtension(alternative)] : [],
      })
      const pem = leaf.toString('pem')
      return { key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, certificate: pem, chain: `${pem}\n${certificate}` }
    },
  }
}
