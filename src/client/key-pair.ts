import { generateKeyPairSync } from 'node:crypto'
import { makeCsr } from '../ca/make-csr.ts'

/** A key made here, and the request that proves we hold it. The CA takes nothing else from a request: names come from who asks. */
export interface KeyPair {
  /** PEM, PKCS #8 */
  readonly key: string
  /** PEM, PKCS #10 */
  readonly csr: string
}

export function makeKeyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, csr: makeCsr(privateKey, publicKey) }
}
