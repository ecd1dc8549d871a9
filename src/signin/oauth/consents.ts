import { createHash } from 'node:crypto'
import { hasFreshFactor } from '../../access/administration.ts'
import type { Resources } from '../../access/types.ts'
import type { AuditLog } from '../../audit/record.ts'
import { isLoopbackRedirect } from '../../catalog/oauth-client.ts'
import type { ProfileSpec } from '../../catalog/profile.ts'
import type { Clock } from '../../clock.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { actFor } from '../../identity/delegation/act-for.ts'
import { consentWords } from '../../identity/delegation/consent.ts'
import { type Delegation, listDelegations } from '../../identity/delegation/delegations.ts'
import { makeOwnAgent } from '../../identity/delegation/own-agent.ts'
import { type Share, shareOf } from '../../identity/delegation/share.ts'
import { findIdentity, type IdentityRecord, listIdentities } from '../../identity/directory.ts'
import { actingIn } from '../../identity/named.ts'
import { isName } from '../../identity/names.ts'
import type { Sessions } from '../../identity/types.ts'
import type { Limits } from '../../policy/types.ts'
import type { Store } from '../../store/store.ts'
import type { WebSession } from '../browser.ts'
import { usualAgent } from './agents.ts'
import { type Grants, LONGEST_GRANT_MS } from './grants.ts'
import { DEFAULT_SCOPE, kindsOf, type McpResource, type Scope } from './resources.ts'

/** An authorization that waits for its person. */
export interface Waiting {
  readonly uid: string
  readonly client: { readonly id: string; readonly name: string; readonly uri?: string }
  readonly redirectUri: string
  readonly resource: McpResource
  readonly readOnly: boolean
}

/** What the person chose. */
export interface Chosen {
  /** name of the agent: one of his, or the one that is made for this client */
  readonly agent: string
  /** name of a profile; absent: everything that he may do */
  readonly profile?: string
  readonly readOnly: boolean
}

/** What he is asked, as the page shows it. */
export interface Asked {
  readonly client: Waiting['client']
  /** the host that vouches for the client's name; undefined for one that an administrator wrote down or that registered itself */
  readonly clientHost?: string
  readonly redirectHost: string
  /** Any program on this computer could be behind it. */
  readonly loopback: boolean
  readonly server: string | undefined
  readonly agents: readonly { readonly name: string; readonly isNew: boolean }[]
  readonly profiles: readonly string[]
  readonly chosen: Chosen
  /** The client asked for nothing more: it cannot be given more. */
  readonly readOnlyForced: boolean
  /** one sentence a line */
  readonly words: readonly string[]
  /** He agreed to exactly this before, for an answer to the same host, and is still signed in: no second factor is needed. */
  readonly remembered: boolean
  /** ms since 1970 */
  readonly until: number
  /** digest of all that he is asked: it goes back with his yes, which holds for this and nothing else */
  readonly seen: string
}

interface ConsentsParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly resources: Pick<Resources, 'find' | 'list'>
  readonly grants: Pick<Grants, 'keep'>
  readonly sessions: Pick<Sessions, 'start' | 'end' | 'endDelegations'>
}

export interface Consents {
  ask(web: WebSession, waiting: Waiting, chosen?: Chosen): Promise<Asked>
  /**
   * Makes (or finds) the agent and the delegation, and keeps them for the grant. `seen`: of what he read. Returns what the client is told
   * that it holds. Throws `conflict` when it is no longer what he read; `factor_required` where this is agreed to for the first time and
   * the session has no fresh second factor; `usage`, `not_found`, `identity_disabled`.
   */
  agree(web: WebSession, waiting: Waiting, chosen: Chosen, seen: string, grantId: string): Promise<Scope>
  /** He said no. */
  refuse(web: WebSession, waiting: Waiting): Promise<void>
}

/** Not the minutes that are left of his sign-in: they run on while he reads. */
const seenOf = ({ client, redirectUri, resource }: Waiting, { agent, readOnly }: Chosen, { limits, lifeMs, bound }: Share): string =>
  createHash('sha256')
    .update(
      canonicalJson({ client: client.id, name: client.name, redirectUri, server: resource.server ?? null, agent, readOnly, limits, lifeMs, bound }),
    )
    .digest('hex')

const MINUTE = 60_000
/** Each new client name is an identity for ever. */
const MOST_AGENTS = 100

export function openConsents({ store, audit, clock, resources, grants, sessions }: ConsentsParts): Consents {
  const profiles = () => resources.list('profile').map(({ resource }) => resource.name)

  /** What is left: of the profile, only the server that was asked for, and only reading where no more was asked for. */
  async function given({ session }: WebSession, { resource: { server } }: Waiting, { profile, readOnly }: Chosen): Promise<Share> {
    const found = profile === undefined ? undefined : resources.find('profile', profile)
    if (profile !== undefined && !found) throw new ChaperoneError('not_found', 'There is no such profile.')
    const limits: Limits = {
      ...(server === undefined ? {} : { resources: kindsOf(server) }),
      ...(readOnly ? { effects: ['read'] as const } : {}),
    }
    const now = clock.now()
    // Whole minutes: whoever reads it does not count seconds.
    const signedIn = await store.db.selectFrom('sessions').select('expires_at').where('id', '=', session.id).executeTakeFirstOrThrow()
    const forMs = Math.floor(Math.min(signedIn.expires_at - now, LONGEST_GRANT_MS) / MINUTE) * MINUTE
    if (forMs <= 0)
      throw new ChaperoneError('session_ended', 'Your sign-in is about to end.', { fix: 'Sign in again, and begin anew in the client.' })
    return shareOf(found?.spec as ProfileSpec | undefined, { limits, mostMs: forMs })
  }

  /** The agents of the person, the one for this client first. */
  async function agentsOf({ session: { principal } }: WebSession, client: Waiting['client']) {
    const own = (await listIdentities(store.db, { kind: 'agent', ownerId: principal.identityId, limit: MOST_AGENTS })).filter(
      ({ state }) => state === 'active',
    )
    const usual = await usualAgent(store, { id: principal.identityId, name: principal.name }, client)
    const others = own.map(({ name }) => name).filter((name) => name !== usual)
    const there = own.some(({ name }) => name === usual)
    // Somebody stopped it, or nobody used it for too long: a client does not wake it up.
    const stopped = !there && (await findIdentity(store.db, { name: usual })) !== undefined
    if (stopped && others.length === 0)
      throw new ChaperoneError('identity_disabled', `${usual} is disabled or deleted.`, { fix: `See why: chaperone agent show ${usual}` })
    return [...(stopped ? [] : [{ name: usual, isNew: !there }]), ...others.map((name) => ({ name, isNew: false }))]
  }

  /** What he agreed to before, in the very words that he would read now but for the time: so also for the same host of the answer. */
  async function standing(web: WebSession, waiting: Waiting, chosen: Chosen, toId: string, left: Share): Promise<Delegation | undefined> {
    const fromId = web.session.principal.identityId
    const wanted = canonicalJson(left.limits)
    const all = await listDelegations(store.db, { fromId, toId, now: clock.now() })
    const read = ({ createdAt, expiresAt = createdAt }: Delegation) =>
      wordsFor(web, waiting, chosen, { ...left, forMs: expiresAt - createdAt }).join(' ')
    // What a directory said in his place is no yes of his own.
    return all.find(
      (one) =>
        one.how === 'consent' &&
        one.madeBy === fromId &&
        one.client === waiting.client.id &&
        canonicalJson(one.limits) === wanted &&
        one.words === read(one),
    )
  }

  const wordsFor = ({ session }: WebSession, waiting: Waiting, chosen: Chosen, { limits, forMs, bound }: Share): readonly string[] =>
    consentWords({
      from: session.principal.name,
      to: chosen.agent,
      limits,
      how: 'consent',
      client: clientOf(waiting),
      forMs,
      ...(bound ? { bound } : {}),
    })

  /** On his own computer each sign-in has a port of its own, and any program has each of its names. */
  const clientOf = ({ client, redirectUri }: Waiting) => ({
    name: client.name,
    host: isLoopbackRedirect(redirectUri) ? 'localhost' : new URL(redirectUri).host,
  })

  /** Only of a person, in his own browser: what acts for him agrees to nothing. */
  function assertPerson({ session: { principal } }: WebSession): void {
    if (principal.kind !== 'user' || principal.chain.length > 1) throw new ChaperoneError('issue_refused', 'Only a person agrees to a client.')
  }

  return {
    async ask(web, waiting, answered) {
      assertPerson(web)
      const agents = await agentsOf(web, waiting.client)
      const chosen = answered ?? { agent: agents[0]!.name, readOnly: waiting.readOnly }
      const left = await given(web, waiting, chosen)
      const { known: agent } = await agentFor(web, waiting, chosen)
      const remembered = agent !== undefined && (await standing(web, waiting, chosen, agent.id, left)) !== undefined
      const redirect = new URL(waiting.redirectUri)
      const vouching = waiting.client.id.startsWith('https://') ? URL.parse(waiting.client.id)?.host : undefined
      return {
        client: waiting.client,
        ...(vouching === undefined ? {} : { clientHost: vouching }),
        redirectHost: redirect.host,
        loopback: isLoopbackRedirect(waiting.redirectUri),
        server: waiting.resource.server,
        agents,
        profiles: profiles(),
        chosen,
        readOnlyForced: waiting.readOnly,
        words: wordsFor(web, waiting, chosen, left),
        remembered,
        until: clock.now() + left.forMs,
        seen: seenOf(waiting, chosen, left),
      }
    },

    async agree(web, waiting, chosen, seen, grantId) {
      assertPerson(web)
      const { session } = web
      const { principal } = session
      session.assertLive()
      const person = await findIdentity(store.db, { id: principal.identityId })
      if (person?.state !== 'active') throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
      if (waiting.readOnly && !chosen.readOnly) throw new ChaperoneError('usage', 'The client asked for reading alone.')
      const left = await given(web, waiting, chosen)
      // Asked here, of what is given now: between his page and his yes somebody may have widened the profile.
      if (seen !== seenOf(waiting, chosen, left))
        throw new ChaperoneError('conflict', 'What it gets is no longer what you read.', { fix: 'Read it again, then agree.' })
      const agent = await agentFor(web, waiting, chosen)
      const before = agent.known && (await standing(web, waiting, { ...chosen, agent: agent.name }, agent.known.id, left))
      // Remembered for as long as he stays signed in; then it is asked for again, as he is.
      if (!before && !hasFreshFactor(session, clock.now()))
        throw new ChaperoneError(
          'factor_required',
          'Give a code of your authenticator app, or use a passkey: this client is new, or gets something else.',
        )
      const by = actingIn(session, () => undefined)
      const parts = { store, audit, clock, sessions }
      const to = agent.known ?? (await makeOwnAgent(parts, { by, owner: person, name: agent.name, why: 'consent to a client' }))
      const { limits, forMs, bound } = left
      await actFor(
        parts,
        {
          ...{ agreed: session, from: person, to, how: 'consent', limits, forMs, bound },
          client: { id: waiting.client.id, ...clientOf(waiting) },
          ...(before ? { standing: before } : {}),
        },
        ({ chain, delegation }) => {
          const until = Math.min(clock.now() + forMs, delegation.expiresAt ?? Number.POSITIVE_INFINITY)
          return grants.keep(grantId, { client: waiting.client.id, chain, until, givenIn: session.id, ...(bound ? { parent: session.id } : {}) })
        },
      )
      return left.limits.effects?.every((effect) => effect === 'read') ? 'mcp:read' : DEFAULT_SCOPE
    },

    async refuse({ session }, waiting) {
      await audit.append({
        ...actingIn(session, () => undefined),
        type: 'delegation.refused',
        data: { how: 'consent', client: waiting.client.id, redirect: waiting.redirectUri, why: 'the person said no' },
      })
    },
  }

  async function agentFor(
    { session: { principal } }: WebSession,
    { client }: Waiting,
    { agent }: Chosen,
  ): Promise<{ readonly name: string; readonly known?: IdentityRecord }> {
    const known = await findIdentity(store.db, { name: agent })
    // The same answer as for none: whose agents there are is nobody else's business (rule 8).
    const refused = () => new ChaperoneError('not_found', 'You have no such agent.', { fix: 'Choose one of the list.' })
    if (known) {
      if (known.kind !== 'agent' || known.ownerId !== principal.identityId || known.state !== 'active') throw refused()
      return { name: known.name, known }
    }
    if (agent !== (await usualAgent(store, { id: principal.identityId, name: principal.name }, client)) || !isName('agent', agent)) throw refused()
    const own = await listIdentities(store.db, { kind: 'agent', ownerId: principal.identityId, limit: MOST_AGENTS })
    if (own.length >= MOST_AGENTS)
      throw new ChaperoneError('too_many', `You have ${MOST_AGENTS} agents already.`, { fix: 'Choose one that you have, or delete some.' })
    return { name: agent }
  }
}
