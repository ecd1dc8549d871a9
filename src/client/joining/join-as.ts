import { createHash, createPrivateKey, createPublicKey } from 'node:crypto'
import type { Credential } from '../../api/contract.ts'
import type { JoinChallenge } from '../../api/join-contract.ts'
import { parseServerLine } from '../../identity/joining/line.ts'
import type { JoinMethodName } from '../../identity/joining/method.ts'
import { type Api, openApi } from '../api.ts'
import { fetchAuthority } from '../first-contact.ts'
import { makeKeyPair } from '../key-pair.ts'
import { type Profile, profileOf } from '../profile.ts'
import { type ObtainOptions, presentProof } from './obtain.ts'

export interface JoinAs extends ObtainOptions {
  /** what `chaperone get join NAME --line` prints */
  readonly server: string
  /** name of the `join` document */
  readonly as: string
  readonly method: JoinMethodName
  readonly purpose?: string | undefined
  /** life of each credential, at most what the document says */
  readonly ttl?: string | undefined
  /** life of the session, at most what the document says */
  readonly for?: string | undefined
}

/** Whether a machine can join again by itself when its session is over. A GitLab job has one token, and that was used. */
export const joinsAgain = (method: JoinMethodName): boolean => method !== 'gitlab'

/**
 * Joins by what this machine is, with a key made here. The server is known by its authority before anything is said to it.
 * May be called again and again where `joinsAgain` says so. Throws `join_refused`, `upstream_unavailable`, `usage`.
 */
export async function joinAs(ask: JoinAs): Promise<Profile> {
  const line = parseServerLine(ask.server)
  const authorities = await fetchAuthority(line)
  const api = openApi({ address: line.address, authorities })
  const pair = makeKeyPair()
  const { purpose, ttl, as, for: life } = ask
  try {
    const credential = await presentProof(ask.method, { ...ask, line, csrKey: spkiHash(pair.key), challenge: () => challenge(api) }, (proof) =>
      api.call<Credential>('POST', '/v1/join', {
        join: as,
        proof,
        csr: pair.csr,
        ...(purpose === undefined ? {} : { purpose }),
        ...(ttl === undefined ? {} : { ttl }),
        ...(life === undefined ? {} : { for: life }),
      }),
    )
    return profileOf(line.address, pair.key, credential)
  } finally {
    api.close()
  }
}

async function challenge(api: Api): Promise<string> {
  return (await api.call<JoinChallenge>('POST', '/v1/join/challenge', {})).nonce
}

/** base64url of the sha256 of the public key that the certificate will be for. */
function spkiHash(key: string): string {
  const spki = createPublicKey(createPrivateKey(key)).export({ type: 'spki', format: 'der' })
  return createHash('sha256').update(spki).digest('base64url')
}
