import type { AuditLog, Draft } from '../audit/record.ts'
import { type CertificateAuthority, TTL } from '../ca/types.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { claimsOf } from '../identity/credential.ts'
import { loadChain } from '../identity/delegation/delegations.ts'
import type { ChainLink } from '../identity/types.ts'
import { newId } from '../ids.ts'
import type { Store } from '../store/store.ts'

/** A certificate of an identity, ready to be handed out, and recorded. */
export interface SignedIn {
  readonly identity: { readonly id: string; readonly name: string; readonly kind: 'user' | 'agent' | 'node' }
  readonly session: string
  readonly credential: string
  /** PEM */
  readonly certificate: string
  /** ms since 1970 */
  readonly notAfter: number
  /** the session's longest life */
  readonly sessionUntil: number
}

export interface IssueCredential {
  readonly identity: SignedIn['identity']
  readonly session: { readonly id: string; readonly expiresAt: number }
  readonly chain: readonly ChainLink[]
  /** DER, from `readCsr` */
  readonly spki: Uint8Array
  readonly ttlMs: number
  /** id of the operator, when one issued it */
  readonly issuerId?: string
  /** why: `enrol`, `renew`, `client` ... */
  readonly how: string
  /** made beforehand, where the session keeps count of its credentials */
  readonly credentialId?: string
}

interface IssueParts {
  readonly store: Pick<Store, 'db'>
  readonly ca: Pick<CertificateAuthority, 'issueIdentity'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
}

/** Throws `issue_refused` unless the life asked for is one that credentials may have. */
export function assertTtl(ttlMs: number): void {
  if (!(ttlMs >= TTL.shortestMs && ttlMs <= TTL.longestMs)) {
    throw new ChaperoneError('issue_refused', 'A credential lives between 30 seconds and 12 hours.', {
      fix: 'Ask for a time in between; a running session renews it.',
    })
  }
}

/**
 * Issues a certificate inside a session: at sign-in, join, renewal, for a client, by an operator. It never outlives the
 * session, and it is recorded before anybody holds it. Throws `issue_refused`, `session_ended`, `audit_unavailable`.
 */
export async function issueCredential({ store, ca, audit, clock }: IssueParts, ask: IssueCredential): Promise<SignedIn> {
  assertTtl(ask.ttlMs)
  const now = clock.now()
  const { identity, session, chain } = ask
  if (session.expiresAt <= now)
    throw new ChaperoneError('session_ended', 'The session has reached its longest life.', { fix: 'Sign in or join again.' })
  const credentialId = ask.credentialId ?? newId('crd', now)
  const claims = claimsOf({
    identityId: identity.id,
    credentialId,
    sessionId: session.id,
    chain,
    ...(ask.issuerId === undefined ? {} : { issuerId: ask.issuerId }),
  })
  const issued = await ca.issueIdentity({
    spki: ask.spki,
    kind: identity.kind,
    name: identity.name,
    claims,
    notAfter: Math.min(now + ask.ttlMs, session.expiresAt),
  })
  const draft: Draft = {
    type: 'credential.issued',
    actor: identity,
    session: session.id,
    credential: credentialId,
    ...(ask.issuerId === undefined ? {} : { issuer: ask.issuerId }),
    ...(chain.length > 1 ? { chain: await loadChain(store.db, chain) } : {}),
    data: { how: ask.how, form: 'certificate', serial: issued.serial, notAfter: issued.notAfter },
  }
  await audit.append(draft)
  return {
    identity,
    session: session.id,
    credential: credentialId,
    certificate: issued.certificate,
    notAfter: issued.notAfter,
    sessionUntil: session.expiresAt,
  }
}
