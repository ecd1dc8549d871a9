import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { CompactSign } from 'jose'
import { PROOF_TYPE, type Statement } from '../../identity/joining/signed-proof.ts'
import { lacking, type Obtaining } from './obtain.ts'

/** What is signed, by whichever method. */
export async function statementOf({ line, as, csrKey, challenge }: Obtaining, joins?: number): Promise<Statement> {
  return { aud: line.audience, ca: line.fingerprint, join: as, nonce: await challenge(), key: csrKey, ...(joins === undefined ? {} : { joins }) }
}

export async function sign(statement: Statement, key: KeyObject): Promise<string> {
  return await new CompactSign(Buffer.from(JSON.stringify(statement))).setProtectedHeader({ alg: algorithmOf(key), typ: PROOF_TYPE }).sign(key)
}

function algorithmOf(key: KeyObject): string {
  if (key.asymmetricKeyType === 'ed25519') return 'EdDSA'
  if (key.asymmetricKeyType === 'rsa') return 'RS256'
  if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return 'ES256'
  throw lacking(`A key of the kind ${key.asymmetricKeyType} is not used here.`, 'Use Ed25519, ECDSA P-256 or RSA.')
}

export const publicPem = (key: KeyObject): string => createPublicKey(key).export({ type: 'spki', format: 'pem' }) as string

export const privateKey = (pem: string): KeyObject => createPrivateKey(pem)
