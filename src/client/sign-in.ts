import { createPrivateKey, createPublicKey } from 'node:crypto'
import type { Credential, EnrolOffer } from '../api/contract.ts'
import { makeCsr } from '../ca/make-csr.ts'
import { parseInvitation } from '../identity/invitations.ts'
import { openApi } from './api.ts'
import { fetchAuthority } from './first-contact.ts'
import { makeKeyPair } from './key-pair.ts'
import { type Profile, profileOf } from './profile.ts'

/** The ways to a first credential. The key is made here; of it only the public half goes to the server. */
export interface Enrolment {
  /** who is invited, and the secret for the authenticator app */
  readonly offer: EnrolOffer
  /** Uses the invitation up. May be tried again with another code when the first was wrong. */
  finish(code: string): Promise<Profile>
  close(): void
}

async function contact(invitation: string) {
  const first = parseInvitation(invitation)
  const authorities = await fetchAuthority(first)
  return { first, api: openApi({ address: first.address, authorities }) }
}

/** A person's first sign-in, by an invitation: enrols the second factor and this machine's key. */
export async function beginEnrolment(invitation: string): Promise<Enrolment> {
  const { first, api } = await contact(invitation)
  const pair = makeKeyPair()
  try {
    const offer = await api.call<EnrolOffer>('POST', '/v1/enrol/begin', { secret: first.secret })
    return {
      offer,
      finish: async (code) =>
        profileOf(first.address, pair.key, await api.call<Credential>('POST', '/v1/enrol/finish', { secret: first.secret, csr: pair.csr, code })),
      close: () => api.close(),
    }
  } catch (error) {
    api.close()
    throw error
  }
}

/** An agent's first sign-in, by a join token that works once. */
export async function join(
  token: string,
  more: { readonly as?: string; readonly purpose?: string; readonly ttl?: string; readonly for?: string } = {},
): Promise<Profile> {
  const { first, api } = await contact(token)
  const pair = makeKeyPair()
  try {
    return profileOf(first.address, pair.key, await api.call<Credential>('POST', '/v1/join', { token: first.secret, csr: pair.csr, ...more }))
  } finally {
    api.close()
  }
}

/** A person signs in again: the key that was enrolled, and a code. */
export async function signInAgain(profile: Profile, code: string): Promise<Profile> {
  const privateKey = createPrivateKey(profile.key)
  const csr = makeCsr(privateKey, createPublicKey(privateKey))
  const api = openApi({ address: profile.address, authorities: profile.bundles.server })
  try {
    return profileOf(profile.address, profile.key, await api.call<Credential>('POST', '/v1/login', { name: profile.identity.name, csr, code }))
  } finally {
    api.close()
  }
}
