import { z } from 'zod'
import { FACTOR_FRESH_MS, hasFreshFactor } from '../access/administration.ts'
import { readCsr } from '../ca/csr.ts'
import { TTL } from '../ca/types.ts'
import { ChaperoneError } from '../errors.ts'
import { actAsClient } from '../identity/delegation/act-for.ts'
import { agentOfClient } from '../identity/delegation/own-agent.ts'
import { findIdentity } from '../identity/directory.ts'
import type { LiveSession, Principal } from '../identity/types.ts'
import { isId, timeOfId } from '../ids.ts'
import { limitsInWords } from '../policy/narrowing-words.ts'
import { nameOf } from '../signin/invited.ts'
import { issueCredential } from '../signin/issue.ts'
import { actorOf } from './caller.ts'
import type { ClientAsk, Credential, Renew, WhoAmI } from './contract.ts'
import { bundles, credentialAnswer } from './credential.ts'
import { parentSession } from './parent-session.ts'
import type { ApiParts } from './parts.ts'
import { type AskedInSession, type Route, signedIn } from './route.ts'
import { codeText, csrText, purposeText } from './words.ts'

const session = { by: 'session' } as const
const SMALL = 64 * 1024
const nothing = z.strictObject({})

/** What somebody who is signed in does with his own credential. */
export function credentialRoutes(parts: ApiParts): readonly Route[] {
  const { sessions, signin, state, clock } = parts
  return [
    signedIn<Renew>({
      method: 'POST',
      path: '/v1/renew',
      who: session,
      keepsAlive: true,
      limit: SMALL,
      body: z.strictObject({ csr: csrText }),
      handle: (asked) => renew(parts, asked),
    }),
    // The proof is the certificate of this very connection: `sessions.open` has moved the deadline already.
    signedIn({
      method: 'POST',
      path: '/v1/prove',
      who: session,
      keepsAlive: true,
      body: nothing,
      handle: async ({ session }) => ({ until: session.provenUntil }),
    }),
    signedIn({
      method: 'POST',
      path: '/v1/logout',
      who: session,
      body: nothing,
      async handle({ session }) {
        await sessions.end(session.id, 'logout')
        return {}
      },
    }),
    signedIn<{ code: string }>({
      method: 'POST',
      path: '/v1/factor',
      who: session,
      limit: SMALL,
      body: z.strictObject({ code: codeText }),
      handle: ({ session, body }) => signin.factor(session, body.code),
    }),
    signedIn({ method: 'GET', path: '/v1/whoami', who: session, handle: async ({ session }) => whoami(parts, session) }),
    signedIn({ method: 'GET', path: '/v1/bundle', who: session, handle: () => bundles(parts) }),
    signedIn<ClientAsk>({
      method: 'POST',
      path: '/v1/clients',
      who: session,
      limit: SMALL,
      body: z.strictObject({ client: z.string().min(1).max(63), csr: csrText, purpose: purposeText.optional() }),
      handle: (asked) => client(parts, asked),
    }),
  ]

  function whoami({ trustDomain }: ApiParts, live: LiveSession): WhoAmI {
    const { id, how, startedAt, purpose, factorAt, factorBy, principal } = live
    const factor =
      factorAt !== undefined && hasFreshFactor(live, clock.now())
        ? { factor: { ...(factorBy === undefined ? {} : { by: factorBy }), until: factorAt + FACTOR_FRESH_MS } }
        : {}
    const links = state.current().links(principal.chain, clock.now())
    const self = links.at(-1)!.identity
    return {
      id: self.id,
      name: self.name,
      kind: self.kind,
      roles: self.roles,
      traits: self.traits,
      session: { id, how, startedAt, ...(purpose === undefined ? {} : { purpose }), ...(factorAt === undefined ? {} : { factorAt }), ...factor },
      chain: links.map((link) => ({
        name: link.identity.name,
        ...(link.delegationId === undefined ? {} : { delegation: link.delegationId }),
        ...(link.limits ? { leaves: limitsInWords(link.limits) } : {}),
      })),
      notAfter: principal.notAfter,
      trustDomain,
    }
  }
}

/**
 * The same identity, session and chain, with a new key and a later end; never past the session's longest life. Nothing
 * else changes by renewing: not the rights, not the name, not who issued it.
 */
async function renew(parts: ApiParts, { body, session, connection }: AskedInSession<Renew>): Promise<Credential> {
  const { principal } = session
  // Before anything else is looked at: a request that fails for another reason would let a copy try until it does not (peers R66).
  const credentialId = await parts.sessions.renew(session, connection?.credentialId ?? principal.credentialId)
  const { spki } = readCsr(body.csr)
  const row = await parentSession(parts, session.id)
  // Throws when a link was disabled or a delegation ended: a credential that opens nothing is not made.
  parts.state.current().links(principal.chain, parts.clock.now())
  const signedIn = await issueCredential(parts, {
    identity: { id: principal.identityId, name: principal.name, kind: principal.kind },
    session: { id: session.id, expiresAt: row.expires_at },
    chain: principal.chain,
    spki,
    ttlMs: lifeOf(principal),
    how: 'renew',
    credentialId,
    ...(principal.issuerId === undefined ? {} : { issuerId: principal.issuerId }),
  })
  return credentialAnswer(parts, signedIn)
}

/** How long the credential that asks was made for: its id holds when it was made. Certificates end on whole seconds, cut down. */
function lifeOf({ credentialId, notAfter, kind }: Principal): number {
  const usual = kind === 'user' ? TTL.userMs : TTL.agentMs
  if (!isId('crd', credentialId)) return usual
  const life = Math.ceil((notAfter - timeOfId(credentialId)) / 1000) * 1000
  return life >= TTL.shortestMs && life <= TTL.longestMs ? life : usual
}

/** `boris/<client>`: what a person's tools get instead of his own credential (design 3.3). */
async function client(parts: ApiParts, { body, session, remote }: AskedInSession<ClientAsk>): Promise<Credential> {
  const { store, state, sessions, audit, clock } = parts
  const { principal } = session
  // An agent that could make agents would outlive its own lock; and a person's client makes no clients.
  if (principal.kind !== 'user' || principal.chain.length !== 1) {
    throw new ChaperoneError('issue_refused', 'Only a person, with his own credential, gives a client a name.', {
      fix: 'Run chaperone login as the person.',
    })
  }
  const { spki } = readCsr(body.csr)
  const owner = await findIdentity(store.db, { id: principal.identityId })
  if (!owner) throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
  const agent = await agentOfClient(parts, { by: actorOf(session), owner, client: body.client, why: 'first use of a client' })
  const parent = await parentSession(parts, session.id)
  return actAsClient(
    { store, audit, clock, sessions, see: (chain) => state.see(chain) },
    {
      ...{ agreed: session, from: owner, to: agent },
      start: {
        ...{ how: 'client', client: body.client, cameFrom: remote, parentId: session.id },
        // The person's session bounds his clients': who signed out for good has no tool that is still signed in tomorrow.
        lifeMs: Math.max(1, parent.expires_at - clock.now()),
        ...(body.purpose === undefined ? {} : { purpose: body.purpose }),
      },
    },
    async ({ chain, session: made }) => {
      const issuer = session.issuerId === undefined ? {} : { issuerId: session.issuerId }
      return credentialAnswer(
        parts,
        await issueCredential(parts, { identity: nameOf(agent), session: made, chain, spki, ttlMs: TTL.agentMs, how: 'client', ...issuer }),
      )
    },
  )
}
