import { readCsr } from '../ca/csr.ts'
import { TTL } from '../ca/types.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { lookAtInvitation, useInvitation } from '../identity/invitations.ts'
import type { Joining } from '../identity/joining/joins.ts'
import { JoinRefused } from '../identity/joining/refused.ts'
import { assertSessionsLeft } from '../identity/session-limits.ts'
import type { SigninParts } from './enrol.ts'
import { invited, nameOf } from './invited.ts'
import { assertTtl, issueCredential, type SignedIn } from './issue.ts'
import { knocksFrom } from './knocking.ts'
import { recordRefusals } from './recorded.ts'

const LONGEST_PURPOSE = 500

interface Common {
  readonly csr: string
  /** life of each certificate */
  readonly ttlMs?: number
  /** of the session, at most what it may live anyway: nothing renews past it */
  readonly lifeMs?: number
  readonly purpose?: string
}
/** By a one-time token. */
export interface JoinByToken extends Common {
  readonly token: string
  /** whose token the caller takes it to be */
  readonly as?: string
}
/** By what a document wants shown. */
export interface JoinByProof extends Common {
  /** its name */
  readonly join: string
  readonly proof: unknown
}

export type JoinedIn = SignedIn & { readonly joins?: number }

type JoinParts = Pick<SigninParts, 'store' | 'ca' | 'sessions' | 'audit' | 'clock'> & { readonly joining: Joining }

/** How an agent comes in: whichever way, the same session, the same record, the same issuer rule. */
export function openJoin(parts: JoinParts): (ask: JoinByToken | JoinByProof) => Promise<JoinedIn> {
  const { store, sessions, audit, clock, joining } = parts
  const recorded = recordRefusals(audit)

  return async (ask) => {
    if ('token' in ask) return await recorded('credential.refused', { data: { how: 'join' } }, () => byToken(ask))
    try {
      return await byProof(ask)
    } catch (error) {
      await audit.append(refusalOf(error, ask.join))
      throw error
    }
  }

  async function byToken({ token, as, csr, ttlMs = TTL.agentMs, lifeMs = TTL.longestMs, purpose }: JoinByToken): Promise<SignedIn> {
    assertTtl(ttlMs)
    assertPurpose(purpose)
    const { spki } = readCsr(csr)
    const invitation = await lookAtInvitation(store.db, token, 'join', clock.now())
    const agent = await invited(store, invitation, 'agent')
    // Before anything is used up: whoever mixed two tokens up still has both. It tells nothing that joining would not.
    if (as !== undefined && as !== agent.name)
      throw new ChaperoneError('join_refused', `The token is for ${agent.name}, not for ${as}.`, {
        fix: `Name it: --as ${agent.name}. The token is still good.`,
      })
    const chain = [{ identity: agent.id }]
    await sessions.mayStart(chain)
    await audit.append({ type: 'invitation.used', actor: nameOf(agent), data: { invitation: invitation.id, how: 'join' } })
    await store.write((trx) => useInvitation(trx, token, 'join', clock.now()))
    // Whoever made the token could have joined with it himself: he is the issuer, as of a credential that he issues.
    const issuer = invitation.createdBy === undefined ? {} : { issuerId: invitation.createdBy }
    const session = await sessions.start({
      identityId: agent.id,
      chain,
      how: 'join',
      lifeMs: Math.min(lifeMs, TTL.longestMs),
      ...issuer,
      ...(purpose === undefined ? {} : { purpose }),
    })
    return await issueCredential(parts, { identity: nameOf(agent), session, chain, spki, ttlMs, how: 'join', ...issuer })
  }

  async function byProof({ join, proof, csr, ttlMs: wanted, lifeMs, purpose }: JoinByProof): Promise<JoinedIn> {
    if (wanted !== undefined) assertTtl(wanted)
    assertPurpose(purpose)
    const { spki } = readCsr(csr)
    const joined = await joining.prove({ join, proof, spki })
    const { agent, document, method, subject, longestMs } = joined
    const chain = [{ identity: agent.id }]
    // A lock is lifted again; a proof that was used up for nothing is not given back.
    await sessions.mayStart(chain)
    await assertSessionsLeft(parts, agent, END_SOME)
    const counted = await joining.take(joined)
    const issuer = counted?.issuerId === undefined ? {} : { issuerId: counted.issuerId }
    const session = await sessions.start({
      identityId: agent.id,
      chain,
      how: 'join',
      joined: { method, document, subject: subject.slice(0, 512) },
      ...(joined.proven.certificates ? { certificates: joined.proven.certificates } : {}),
      lifeMs: Math.min(lifeMs ?? longestMs, longestMs),
      ...issuer,
      ...(purpose === undefined ? {} : { purpose }),
      ...(counted ? { instead: counted.instead, counted: counted.session } : {}),
    })
    const ttlMs = Math.min(wanted ?? joined.ttlMs, joined.ttlMs)
    const signedIn = await issueCredential(parts, {
      identity: nameOf(agent),
      session,
      chain,
      spki,
      ttlMs,
      how: 'join',
      ...issuer,
      ...(counted ? { credentialId: counted.session.credential } : {}),
    })
    if (!counted) return signedIn
    if (counted.instead.length > 0) await sessions.end(counted.instead, 'lost')
    return { ...signedIn, joins: counted.joins }
  }
}

const END_SOME = 'End some (chaperone sessions kill), or let them live for less: `longest` in the join document.'

function assertPurpose(purpose: string | undefined): void {
  if (purpose !== undefined && purpose.length > LONGEST_PURPOSE)
    throw new ChaperoneError('usage', `A purpose has at most ${LONGEST_PURPOSE} characters.`)
}

/** The whole of it: what did not match, and what the rule wants. The caller is told of his own proof only. */
function refusalOf(error: unknown, join: string) {
  const { code, detail } = toChaperoneError(error)
  const from = knocksFrom()
  const facts =
    error instanceof JoinRefused ? error.facts : { document: join.slice(0, 64), ...(detail === undefined ? {} : { why: detail.slice(0, 500) }) }
  return {
    type: 'credential.refused' as const,
    outcome: { status: 'refused' as const, reason: code },
    data: { how: 'join', ...facts, reason: code, ...(from === undefined ? {} : { from }) },
  }
}
