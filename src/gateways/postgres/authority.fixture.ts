import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { authorityName, type Issuer, keyIdentifierOf, type Leaf, signAuthority, signLeaf } from '../../ca/certificate.ts'
import { pemOf } from '../../ca/pem.ts'

const DAY = 86_400_000

interface Pair {
  readonly cert: string
  readonly key: string
}

export function makeAuthority(name: string) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const issuer: Issuer = { name: authorityName('test', name), keyIdentifier: keyIdentifierOf(spki), privateKey }
  const life = { notBefore: Date.now() - DAY, notAfter: Date.now() + 10 * DAY }
  const cert = pemOf('CERTIFICATE', signAuthority(issuer, spki, life).der)
  const sign = (of: Uint8Array, leaf: Leaf, notAfter = Date.now() + DAY) =>
    pemOf('CERTIFICATE', signLeaf(issuer, of, leaf, { notBefore: Date.now() - 60_000, notAfter }).der)
  return {
    cert,
    sign,
    pair(leaf: Leaf, notAfter?: number): Pair {
      const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      return { cert: sign(keys.publicKey.export({ type: 'spki', format: 'der' }), leaf, notAfter), key: pem(keys.privateKey) }
    },
  }
}

const pem = (key: KeyObject) => key.export({ type: 'pkcs8', format: 'pem' }) as string
