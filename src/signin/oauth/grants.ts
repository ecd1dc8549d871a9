import { decodeJwt, errors } from 'jose'
import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, REASONS } from '../../errors.ts'
import { claimsOf } from '../../identity/credential.ts'
import { loadChain } from '../../identity/delegation/delegations.ts'
import { findIdentity } from '../../identity/directory.ts'
import { assertSessionsLeft } from '../../identity/session-limits.ts'
import type { Tokens } from '../../identity/tokens.ts'
import type { ChainLink, LiveSession, Principal, Sessions } from '../../identity/types.ts'
import { newId } from '../../ids.ts'
import type { Store } from '../../store/store.ts'
import { holdSignInOf } from '../directory/sign-ins.ts'
import type { Holder } from './holder.ts'
import { openRecords } from './records.ts'
import { readResource, type Scope } from './resources.ts'

/** An access token lives so long; what is longer is the refresh token's business. */
const ACCESS_TOKEN_MS = 10 * 60_000
/** However long somebody stays signed in: what he agreed to for a client ends by then (SECURITY.md). */
export const LONGEST_GRANT_MS = 8 * 3_600_000

/** What stands behind a grant of the OAuth server: on whose behalf, by which agent, until when. Its session begins with the first token. */
export interface HouseGrant {
  readonly client: string
  readonly chain: readonly ChainLink[]
  /** ms since 1970: the end of the person's own sign-in, or earlier */
  readonly until: number
  /** It ends with this session of the person. */
  readonly parent?: string
  /** the session in which he agreed: a lock on it falls on what came of it */
  readonly givenIn?: string
  /** Only with a certificate of this session it is refreshed: the one with which its client came (RFC 8705 section 4). */
  readonly holder?: string
  readonly session?: string
  /** of the newest access token */
  readonly credential?: string
}

export interface Minted {
  readonly token: string
  /** ms since 1970 */
  readonly notAfter: number
}

interface GrantsParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly sessions: Sessions
  readonly tokens: Tokens
  /** Locks a session of which somebody holds a copy. */
  readonly copied: (session: LiveSession, credential: string) => Promise<void>
  /** Locks one credential until its end. */
  readonly stopCredential: (principal: Principal, reason: string) => Promise<void>
  readonly places: { readonly web: string }
}

/** Who asks, and for what. */
export interface MintFor {
  readonly audience: string
  /** what the client is told that it holds */
  readonly scope?: Scope
  /** Only with his certificate the token opens anything. */
  readonly holder?: Holder
}

/** The house's side of what the OAuth server hands out: sessions, and tokens as everybody else's. */
export interface Grants {
  keep(grantId: string, grant: HouseGrant): Promise<void>
  find(grantId: string): Promise<HouseGrant | undefined>
  /** Begins its session, at the first time, and mints. Throws what `sessions.start` and `sessions.open` throw. */
  mint(grantId: string, ask: MintFor): Promise<Minted>
  /** For an agent that comes by itself: a session as long as its token. */
  mintForAgent(name: string, client: string, ask: MintFor): Promise<Minted>
  /** One more credential of the session whose certificate is shown: its chain, its end, its locks. */
  mintForHolder(holder: Holder, client: string, ask: MintFor): Promise<Minted>
  /** The same as for an agent, for whoever ends the chain. */
  mintOnce(chain: readonly ChainLink[], client: string, ask: MintFor): Promise<Minted>
  /** In a session that there is already. */
  mintIn(
    session: { readonly id: string; readonly expiresAt: number; readonly issuerId?: string },
    chain: readonly ChainLink[],
    client: string,
    ask: MintFor,
  ): Promise<Minted>
  /** Throws when the session is over, locked, or somebody of its chain may not act: asked before a refresh token is used up; and when it is held by another. */
  assertLive(grantId: string, holder?: Holder): Promise<void>
  /** A code or a refresh token of it was shown twice: the session is locked, for whoever holds the other copy. */
  reused(grantId: string): Promise<void>
  /** Its client gave it back. */
  end(grantId: string): Promise<void>
  /** The same with an access token. What is none, is over, or was made for another client is nobody's business here: nothing happens. */
  giveBack(token: string, client: string): Promise<void>
}

export function openGrants({ store, audit, clock, sessions, tokens, copied, stopCredential, places }: GrantsParts): Grants {
  const records = openRecords(store, clock, 'HouseGrant')

  const keep: Grants['keep'] = (grantId, grant) => records.upsert(grantId, { ...grant }, Math.max(1, Math.ceil((grant.until - clock.now()) / 1000)))
  const find: Grants['find'] = async (grantId) => (await records.find(grantId)) as HouseGrant | undefined

  async function existing(grantId: string): Promise<HouseGrant> {
    const grant = await find(grantId)
    if (!grant) throw new ChaperoneError('session_ended', 'What was agreed to is over.', { fix: 'Sign in from the client again.' })
    return grant
  }

  /** The live session behind a grant, by the same checks as for any credential of it. */
  async function live({ chain, session, credential, until }: HouseGrant): Promise<LiveSession> {
    const self = await findIdentity(store.db, { id: chain.at(-1)!.identity })
    if (!self) throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
    const principal: Principal = {
      identityId: self.id,
      kind: self.kind,
      name: self.name,
      credentialId: credential!,
      sessionId: session!,
      chain,
      notAfter: until,
      proof: 'bearer',
    }
    return sessions.open(principal)
  }

  async function minting(
    { id, until, issuerId }: { readonly id: string; readonly until: number; readonly issuerId?: string | undefined },
    { chain, client }: Pick<HouseGrant, 'chain' | 'client'>,
    { audience, scope, holder }: MintFor,
  ): Promise<Minted & { readonly credential: string }> {
    const now = clock.now()
    const credential = newId('crd', now)
    const [named, self] = await Promise.all([loadChain(store.db, chain), findIdentity(store.db, { id: chain.at(-1)!.identity })])
    if (!self) throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
    const notAfter = Math.min(now + ACCESS_TOKEN_MS, until, holder?.notAfter ?? until)
    if (notAfter <= now)
      throw new ChaperoneError('credential_expired', 'The certificate is past its end.', { fix: 'Connect anew with the newest one.' })
    const issuer = issuerId === undefined ? {} : { issuer: issuerId }
    // Recorded before anybody holds it.
    await audit.append({
      type: 'credential.issued',
      actor: { id: self.id, name: self.name, kind: self.kind },
      session: id,
      credential,
      ...(chain.length > 1 ? { chain: named } : {}),
      ...issuer,
      data: { how: 'oauth', form: 'token', client, audience, notAfter, ...(holder === undefined ? {} : { boundTo: holder.thumbprint }) },
    })
    const claims = claimsOf({ identityId: self.id, credentialId: credential, sessionId: id, chain, ...(issuerId === undefined ? {} : { issuerId }) })
    const more = { ...(holder === undefined ? {} : { thumbprint: holder.thumbprint }), ...(scope === undefined ? {} : { scope }) }
    return { ...(await tokens.mint({ kind: self.kind, name: self.name, claims, audience, notAfter, ...more })), credential }
  }

  /** To the session, and not to the one certificate: that is renewed every few minutes, and is another one then. */
  function assertHeldBy(grant: HouseGrant, holder: Holder | undefined): void {
    if (grant.holder !== undefined && grant.holder !== holder?.session.id)
      throw new ChaperoneError('credential_invalid', 'This sign-in goes on only with the certificate of the session that it was made for.')
  }

  /** Whose token it is; undefined when it is none that opens something here now. */
  async function issued(token: string): Promise<Principal | undefined> {
    try {
      const { aud } = decodeJwt(token)
      return typeof aud === 'string' && readResource(places.web, aud) ? await tokens.verify(token, aud) : undefined
    } catch (error) {
      if (error instanceof ChaperoneError && REASONS[error.code].http >= 500) throw error
      if (error instanceof ChaperoneError || error instanceof errors.JOSEError) return undefined
      throw error
    }
  }

  return {
    keep,
    find,

    async mint(grantId, ask) {
      let grant = await existing(grantId)
      assertHeldBy(grant, ask.holder)
      if (grant.session === undefined) {
        const started = await sessions.start({
          identityId: grant.chain.at(-1)!.identity,
          chain: grant.chain,
          how: 'oauth',
          client: grant.client,
          lifeMs: Math.max(1, grant.until - clock.now()),
          ...(grant.parent === undefined ? {} : { parentId: grant.parent }),
          ...(grant.givenIn === undefined ? {} : { givenIn: grant.givenIn, still: (trx) => holdSignInOf(trx, grant.givenIn!) }),
        })
        grant = { ...grant, session: started.id, until: Math.min(grant.until, started.expiresAt) }
      }
      const { credential, ...minted } = await minting({ id: grant.session!, until: grant.until }, grant, ask)
      // Its code was shown again meanwhile: written down once more, the grant would outlive that.
      if (!(await find(grantId))) {
        await sessions.end(grant.session!, 'withdrawn')
        throw new ChaperoneError('session_ended', 'What was agreed to is over.', { fix: 'Sign in from the client again.' })
      }
      await keep(grantId, { ...grant, credential, ...(ask.holder === undefined ? {} : { holder: ask.holder.session.id }) })
      return minted
    },

    async mintForAgent(name, client, ask) {
      const agent = await findIdentity(store.db, { name })
      if (agent?.kind !== 'agent' || agent.state !== 'active') throw new ChaperoneError('identity_disabled', 'The agent is disabled or deleted.')
      return this.mintOnce([{ identity: agent.id }], client, ask)
    },

    async mintForHolder(holder, client, ask) {
      const { id, provenUntil, principal, issuerId } = holder.session
      const { token, notAfter } = await minting({ id, until: provenUntil, issuerId }, { chain: principal.chain, client }, { ...ask, holder })
      return { token, notAfter }
    },

    async mintOnce(chain, client, ask) {
      const identityId = chain.at(-1)!.identity
      const [self] = await loadChain(store.db, chain.slice(-1))
      await assertSessionsLeft({ store, clock }, self!, 'Use each token until it is over, and then ask for the next.')
      const started = await sessions.start({ identityId, chain, how: 'oauth', client, lifeMs: ACCESS_TOKEN_MS })
      return this.mintIn(started, chain, client, ask)
    },

    async mintIn({ id, expiresAt, issuerId }, chain, client, ask) {
      const { token, notAfter } = await minting({ id, until: expiresAt, issuerId }, { chain, client }, ask)
      return { token, notAfter }
    },

    async assertLive(grantId, holder) {
      const grant = await existing(grantId)
      assertHeldBy(grant, holder)
      if (grant.session !== undefined) (await live(grant)).assertLive()
    },

    async reused(grantId) {
      const grant = await find(grantId)
      if (!grant) return
      await records.destroy(grantId)
      // Without a session nothing was handed out yet.
      if (grant.session === undefined) return
      try {
        await copied(await live(grant), grant.credential!)
      } catch (error) {
        // Over or locked already. What could not be looked at is not known to be.
        if (!(error instanceof ChaperoneError) || REASONS[error.code].http >= 500) throw error
      }
    },

    async end(grantId) {
      const grant = await find(grantId)
      if (!grant) return
      await records.destroy(grantId)
      if (grant.session !== undefined) await sessions.end(grant.session, 'logout')
    },

    async giveBack(token, client) {
      const principal = await issued(token)
      if (!principal) return
      const row = await store.db.selectFrom('sessions').select(['how', 'client']).where('id', '=', principal.sessionId).executeTakeFirst()
      if (row?.client === client && (row.how === 'oauth' || row.how === 'exchange')) await sessions.end(principal.sessionId, 'logout')
      // The session is the agent's own, and goes on.
      else if (principal.boundTo !== undefined && principal.name === client) await stopCredential(principal, 'Its client gave this token back.')
    },
  }
}
