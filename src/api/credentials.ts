import { z } from 'zod'
import { readCsr } from '../ca/csr.ts'
import { TTL } from '../ca/types.ts'
import { ChaperoneError } from '../errors.ts'
import { claimsOf } from '../identity/credential.ts'
import { clientAgent, findIdentity, type IdentityRecord, lookForClient } from '../identity/directory.ts'
import { formatInvitation, INVITATION_TTL, makeInvitation } from '../identity/invitations.ts'
import { TOKEN_LONGEST_MS } from '../identity/tokens.ts'
import type { ChainLink, LiveSession, Principal } from '../identity/types.ts'
import { isId, newId, timeOfId } from '../ids.ts'
import { issueCredential } from '../signin/issue.ts'
import { reachable } from './address.ts'
import type { ClientAsk, Credential, Invitation, Invite, Issue, Renew, Token, WhoAmI } from './contract.ts'
import { bundles, credentialAnswer } from './credential.ts'
import { assertGrantable } from './grantable.ts'
import type { ApiParts } from './parts.ts'
import { type AskedInSession, type Route, signedIn } from './route.ts'
import { codeText, csrText, duration, nameText, purposeText, ttlText } from './words.ts'

const session = { by: 'session' } as const
const SMALL = 64 * 1024
/** Open sessions of one identity. */
const MOST_SESSIONS = 1000
const nothing = z.strictObject({})

/** Credentials of those who have one already, and those an operator makes for others. */
export function credentialRoutes(parts: ApiParts): readonly Route[] {
  const { sessions, signin, store, state, clock } = parts
  return [
    signedIn<Renew>({
      method: 'POST',
      path: '/v1/renew',
      who: session,
      limit: SMALL,
      body: z.strictObject({ csr: csrText }),
      handle: (asked) => renew(parts, asked),
    }),
    // The proof is the certificate of this very connection: `sessions.open` has moved the deadline already.
    signedIn({ method: 'POST', path: '/v1/prove', who: session, body: nothing, handle: async ({ session }) => ({ until: session.provenUntil }) }),
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
    signedIn<Issue>({
      method: 'POST',
      path: '/v1/issue',
      who: { by: 'verbs', anyOf: ['issue'] },
      limit: SMALL,
      body: z
        .strictObject({
          name: nameText,
          csr: csrText.optional(),
          token: z.strictObject({ audience: z.url({ protocol: /^https$/ }).max(256) }).optional(),
          ttl: ttlText.optional(),
          purpose: purposeText.optional(),
        })
        .refine((ask) => (ask.csr === undefined) !== (ask.token === undefined), { message: 'write exactly one of `csr` and `token`' }),
      summary: ({ body }) => `issue a ${body.token ? 'token' : 'certificate'} for ${body.name}`,
      handle: (asked) => issue(parts, asked),
    }),
    signedIn<Invite>({
      method: 'POST',
      path: '/v1/invitations',
      who: { by: 'verbs', anyOf: ['issue'] },
      limit: SMALL,
      body: z.strictObject({ name: nameText, ttl: ttlText.optional() }),
      summary: ({ body }) => `invite ${body.name}`,
      handle: (asked) => invite(parts, asked),
    }),
  ]

  function whoami({ trustDomain }: ApiParts, { id, how, startedAt, purpose, factorAt, principal }: LiveSession): WhoAmI {
    const links = state.current().links(principal.chain, clock.now())
    const self = links.at(-1)!.identity
    return {
      id: self.id,
      name: self.name,
      kind: self.kind,
      roles: self.roles,
      traits: self.traits,
      session: { id, how, startedAt, ...(purpose === undefined ? {} : { purpose }), ...(factorAt === undefined ? {} : { factorAt }) },
      chain: links.map((link) => ({ name: link.identity.name })),
      notAfter: principal.notAfter,
      trustDomain,
    }
  }

  async function invite({ audit, ca, listeners }: ApiParts, { body, session, permit, host }: AskedInSession<Invite>): Promise<Invitation> {
    const identity = await target(body.name)
    assertGrantable(parts, session, identity)
    const ttlMs = body.ttl === undefined ? INVITATION_TTL.defaultMs : duration(body.ttl, INVITATION_TTL, 'An invitation')
    const kind = identity.kind === 'user' ? 'invitation' : 'join'
    await audit.append({
      ...actorOf(session),
      type: 'invitation.made',
      ...(permit ? { permit: permit.id } : {}),
      data: { kind, for: { id: identity.id, name: identity.name }, ttlMs },
    })
    const made = await store.write((trx) =>
      makeInvitation(trx, { kind, identityId: identity.id, ttlMs, createdBy: session.principal.identityId, now: clock.now() }),
    )
    const line = formatInvitation({ address: reachable(listeners().data, host), secret: made.secret, fingerprint: await ca.fingerprint('server') })
    return { invitation: line, expiresAt: made.expiresAt }
  }

  /** An active user or agent. */
  async function target(name: string): Promise<IdentityRecord> {
    const identity = await findIdentity(store.db, { name })
    if (!identity || identity.state === 'deleted')
      throw new ChaperoneError('not_found', `There is no identity ${name}.`, { fix: 'Apply a document of kind user or agent first.' })
    if (identity.kind === 'node') throw new ChaperoneError('usage', 'Nodes get their credentials by themselves.')
    if (identity.state !== 'active') throw new ChaperoneError('identity_disabled', `${name} is disabled.`)
    return identity
  }

  async function issue({ audit, tokens }: ApiParts, { body, session, permit }: AskedInSession<Issue>): Promise<Credential | Token> {
    const identity = await target(body.name)
    assertGrantable(parts, session, identity)
    const longestMs = body.token ? TOKEN_LONGEST_MS : TTL.longestMs
    const ttlMs = body.ttl === undefined ? TTL.agentMs : duration(body.ttl, { shortestMs: TTL.shortestMs, longestMs }, 'Such a credential')
    const spki = body.csr === undefined ? undefined : readCsr(body.csr).spki
    const chain = await chainOf(identity)
    await state.see(chain)
    await assertRoom(parts, identity)
    const issuerId = session.principal.identityId
    // The session is as long as the credential: what was issued for minutes is not renewed for hours.
    const made = await sessions.start({
      identityId: identity.id,
      chain,
      how: 'issue',
      issuerId,
      lifeMs: ttlMs,
      ...(body.purpose === undefined ? {} : { purpose: body.purpose }),
    })
    if (spki)
      return credentialAnswer(
        parts,
        await issueCredential(parts, { identity: shown(identity), session: made, chain, spki, ttlMs, issuerId, how: 'issue' }),
      )

    const credentialId = newId('crd', clock.now())
    const { audience } = body.token!
    const notAfter = Math.min(clock.now() + ttlMs, made.expiresAt)
    await audit.append({
      type: 'credential.issued',
      actor: { id: identity.id, name: identity.name, kind: identity.kind },
      session: made.id,
      credential: credentialId,
      issuer: issuerId,
      ...(permit ? { permit: permit.id } : {}),
      data: { form: 'token', audience, notAfter },
    })
    const claims = claimsOf({ identityId: identity.id, credentialId, sessionId: made.id, issuerId, chain })
    const minted = await tokens.mint({ kind: identity.kind, name: identity.name, claims, audience, notAfter })
    return { ...minted, session: made.id }
  }

  /** A client of a person acts for him, whoever issued its credential. */
  async function chainOf(identity: IdentityRecord): Promise<readonly ChainLink[]> {
    const client = identity.name.split('/')[1]
    if (client === undefined || identity.ownerId === undefined) return [{ identity: identity.id }]
    const owner = await findIdentity(store.db, { id: identity.ownerId })
    if (!owner) throw new ChaperoneError('identity_disabled', 'The owner of this agent is gone.')
    const { delegationId } = await store.write((trx) => clientAgent(trx, owner, client, clock.now()))
    return [{ identity: owner.id }, { identity: identity.id, delegation: delegationId }]
  }
}

/**
 * The same identity, session and chain, with a new key and a later end; never past the session's longest life. Nothing
 * else changes by renewing: not the rights, not the name, not who issued it.
 */
async function renew(parts: ApiParts, { body, session }: AskedInSession<Renew>): Promise<Credential> {
  const { principal } = session
  const { spki } = readCsr(body.csr)
  const row = await sessionRow(parts, session.id)
  // Throws when a link was disabled or a delegation ended: a credential that opens nothing is not made.
  parts.state.current().links(principal.chain, parts.clock.now())
  const signedIn = await issueCredential(parts, {
    identity: { id: principal.identityId, name: principal.name, kind: principal.kind },
    session: { id: session.id, expiresAt: row.expires_at },
    chain: principal.chain,
    spki,
    ttlMs: lifeOf(principal),
    how: 'renew',
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
async function client(parts: ApiParts, { body, session }: AskedInSession<ClientAsk>): Promise<Credential> {
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
  const { name, known } = await lookForClient(store.db, owner, body.client)
  if (!known)
    await audit.append({
      ...actorOf(session),
      type: 'identity.changed',
      data: { op: 'create', kind: 'agent', name, owner: owner.name, why: 'first use of a client' },
    })
  const { agent, delegationId } = await store.write((trx) => clientAgent(trx, owner, body.client, clock.now()))
  const chain = [{ identity: owner.id }, { identity: agent.id, delegation: delegationId }]
  await state.see(chain)
  await assertRoom(parts, agent)
  const parent = await sessionRow(parts, session.id)
  const made = await sessions.start({
    identityId: agent.id,
    chain,
    how: 'client',
    client: body.client,
    // The person's session bounds his clients': who signed out for good has no tool that is still signed in tomorrow.
    lifeMs: Math.max(1, parent.expires_at - clock.now()),
    ...(body.purpose === undefined ? {} : { purpose: body.purpose }),
  })
  return credentialAnswer(
    parts,
    await issueCredential(parts, { identity: shown(agent), session: made, chain, spki, ttlMs: TTL.agentMs, how: 'client' }),
  )
}

/** A shim that starts over and over must not fill the store (rule 11). Throws `too_many`. */
async function assertRoom({ store, clock }: Pick<ApiParts, 'store' | 'clock'>, { id, name }: IdentityRecord): Promise<void> {
  const { count } = await store.db
    .selectFrom('sessions')
    .select((is) => is.fn.countAll<number>().as('count'))
    .where('identity_id', '=', id)
    .where('ended_at', 'is', null)
    .where('expires_at', '>', clock.now())
    .executeTakeFirstOrThrow()
  if (count >= MOST_SESSIONS) {
    throw new ChaperoneError('too_many', `${name} has ${MOST_SESSIONS} open sessions.`, {
      fix: 'End some: chaperone sessions ls, chaperone sessions kill.',
    })
  }
}

/** Not the whole record: this goes into the answer and the record of it. */
const shown = ({ id, name, kind }: IdentityRecord) => ({ id, name, kind })

async function sessionRow({ store }: Pick<ApiParts, 'store'>, id: string) {
  const row = await store.db.selectFrom('sessions').select(['expires_at', 'ended_at']).where('id', '=', id).executeTakeFirst()
  if (!row || row.ended_at !== null) throw new ChaperoneError('session_ended', 'The session is over.')
  return row
}

/** Who did it, for a record. */
export const actorOf = ({ id, principal }: LiveSession) => ({
  actor: { id: principal.identityId, name: principal.name, kind: principal.kind },
  session: id,
  credential: principal.credentialId,
})
