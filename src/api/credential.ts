import type { SignedIn } from '../signin/issue.ts'
import type { Bundles, Credential } from './contract.ts'
import type { ApiParts } from './parts.ts'

export async function bundles({ ca, trustDomain }: Pick<ApiParts, 'ca' | 'trustDomain'>): Promise<Bundles> {
  return { trustDomain, identity: await ca.bundle('identity'), server: await ca.bundle('server') }
}

/** What a client keeps: the certificate, whom to believe, and where to go with it. */
export async function credentialAnswer(parts: Pick<ApiParts, 'ca' | 'trustDomain' | 'listeners'>, signedIn: SignedIn): Promise<Credential> {
  const { identity, session, certificate, notAfter, sessionUntil } = signedIn
  return { identity, session, certificate, notAfter, sessionUntil, bundles: await bundles(parts), listeners: parts.listeners() }
}
