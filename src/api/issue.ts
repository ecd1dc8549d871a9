import { z } from 'zod'
import { readCsr } from '../ca/csr.ts'
import { TTL } from '../ca/types.ts'
import { ChaperoneError } from '../errors.ts'
import { claimsOf } from '../identity/credential.ts'
import { actAsClient } from '../identity/delegation/act-for.ts'
import { findIdentity, type IdentityRecord } from '../identity/directory.ts'
import { enrolLink, formatInvitation, INVITATION_TTL, makeInvitation } from '../identity/invitations.ts'
import { assertSessionsLeft } from '../identity/session-limits.ts'
import { TOKEN_LONGEST_MS } from '../identity/tokens.ts'
import type { ChainLink, StartSession } from '../identity/types.ts'
import { newId } from '../ids.ts'
import { nameOf } from '../signin/invited.ts'
import { issueCredential } from '../signin/issue.ts'
import { reachable } from './address.ts'
import { actorOf } from './caller.ts'
import type { Credential, Invitation, Invite, Issue, Token } from './contract.ts'
import { credentialAnswer } from './credential.ts'
import { exactlyFor } from './exactly-for.ts'
import { assertGrantable } from './grantable.ts'
import { ownsAgent } from './owned.ts'
import type { ApiParts } from './parts.ts'
import { type AskedInSession, type Route, signedIn } from './route.ts'
import { csrText, duration, nameText, purposeText, ttlText } from './words.ts'

const SMALL = 64 * 1024

/** What an operator makes for others. The issuer is named in the credential and in every record of its session. */
export function issueRoutes(parts: ApiParts): readonly Route[] {
  const { store, state, sessions, audit, clock } = parts
  return [
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
      // A key is made anew by each command, and nobody who says yes could tell one from another.
      async exactly({ body: { csr, ...body } }) {
        return exactlyFor(parts, body.name, { ...body, ...(csr === undefined ? {} : { certificate: true }) })
      },
      handle: (asked) => issue(parts, asked),
    }),
    signedIn<Invite>({
      method: 'POST',
      path: '/v1/invitations',
      who: {
        by: 'verbs',
        anyOf: ['issue'],
        own: { when: 'otherwise', factor: true, test: (asked) => ownsAgent(parts, asked, (asked.body as Invite).name) },
      },
      limit: SMALL,
      body: z.strictObject({ name: nameText, ttl: ttlText.optional() }),
      summary: ({ body }) => `invite ${body.name}`,
      exactly: ({ body }) => exactlyFor(parts, body.name, { ...body }),
      handle: (asked) => invite(parts, asked),
    }),
  ]

  async function invite({ ca, listeners, places }: ApiParts, { body, session, permit, host }: AskedInSession<Invite>): Promise<Invitation> {
    const identity = await target(body.name)
    assertGrantable(parts, session, identity, 'issue')
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
    return { invitation: line, expiresAt: made.expiresAt, ...(kind === 'invitation' ? { browser: enrolLink(places.web, made.secret) } : {}) }
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

  async function issue({ tokens }: ApiParts, asked: AskedInSession<Issue>): Promise<Credential | Token> {
    const { body, session, permit } = asked
    const identity = await target(body.name)
    assertGrantable(parts, session, identity, 'issue')
    const longestMs = body.token ? TOKEN_LONGEST_MS : TTL.longestMs
    const ttlMs = body.ttl === undefined ? TTL.agentMs : duration(body.ttl, { shortestMs: TTL.shortestMs, longestMs }, 'Such a credential')
    const spki = body.csr === undefined ? undefined : readCsr(body.csr).spki
    const issuerId = session.principal.identityId
    // The session is as long as the credential: what was issued for minutes is not renewed for hours.
    const start: Omit<StartSession, 'identityId' | 'chain'> = {
      ...{ how: 'issue', issuerId, cameFrom: asked.remote, lifeMs: ttlMs },
      ...(body.purpose === undefined ? {} : { purpose: body.purpose }),
    }
    return inSession(identity, asked, start, async (made, chain) => {
      if (spki)
        return credentialAnswer(
          parts,
          await issueCredential(parts, { identity: nameOf(identity), session: made, chain, spki, ttlMs, issuerId, how: 'issue' }),
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
    })
  }

  /** A client of a person acts for him, whoever issued its credential. */
  async function inSession<T>(
    identity: IdentityRecord,
    { session }: AskedInSession<Issue>,
    start: Omit<StartSession, 'identityId' | 'chain'>,
    give: (made: { readonly id: string; readonly expiresAt: number }, chain: readonly ChainLink[]) => Promise<T>,
  ): Promise<T> {
    const see = (chain: readonly ChainLink[]) => state.see(chain)
    const owner = identity.name.includes('/') && identity.ownerId !== undefined ? await findIdentity(store.db, { id: identity.ownerId }) : undefined
    if (owner)
      return actAsClient({ store, audit, clock, sessions, see }, { agreed: session, from: owner, to: identity, start }, (made) =>
        give(made.session, made.chain),
      )
    const chain = [{ identity: identity.id }]
    await see(chain)
    await assertSessionsLeft(parts, identity)
    return give(await sessions.start({ ...start, identityId: identity.id, chain }), chain)
  }
}
