import { z } from 'zod'
import { readCsr } from '../ca/csr.ts'
import { TTL } from '../ca/types.ts'
import type { ProfileSpec } from '../catalog/profile.ts'
import { parseDuration } from '../encoding/duration.ts'
import { ChaperoneError } from '../errors.ts'
import { whatCanBeDone } from '../gateways/mcp/own/server.ts'
import { consentWords } from '../identity/delegation/consent.ts'
import { makeDelegation } from '../identity/delegation/delegations.ts'
import { clientIdentity, findIdentity, lookForClient } from '../identity/directory.ts'
import { spiffeId } from '../identity/names.ts'
import { assertSessionsLeft } from '../identity/session-limits.ts'
import type { ChainLink } from '../identity/types.ts'
import { limitsInside, limitsSchema, narrowingOf } from '../policy/narrowing.ts'
import { nameOf } from '../signin/invited.ts'
import { issueCredential } from '../signin/issue.ts'
import { actorOf } from './caller.ts'
import type { Credential, Token } from './contract.ts'
import { credentialAnswer } from './credential.ts'
import { assertRoomForClient } from './credentials.ts'
import { parentSession } from './parent-session.ts'
import type { ApiParts } from './parts.ts'
import { type AskedInSession, type Route, signedIn } from './route.ts'
import type { Abilities, RunBegin, TokenAsk } from './runs-contract.ts'
import { csrText, duration, nameText, purposeText, ttlText } from './words.ts'

const SMALL = 64 * 1024
const session = { by: 'session' } as const

/** What `chaperone run` and `chaperone agent run` ask for: a session of one program, and what it finds there. */
export function runRoutes(parts: ApiParts): readonly Route[] {
  const { guard, requests, pins, state, builtinServers } = parts
  return [
    signedIn<RunBegin>({
      method: 'POST',
      path: '/v1/runs',
      who: session,
      limit: SMALL,
      body: z.strictObject({
        client: z.string().min(1).max(63).optional(),
        profile: nameText.optional(),
        limits: limitsSchema.optional(),
        for: ttlText.optional(),
        purpose: purposeText.optional(),
        csr: csrText,
      }) as z.ZodType<RunBegin>,
      handle: (asked) => (asked.session.principal.kind === 'user' ? runForPerson(parts, asked) : runAsAgent(parts, asked)),
    }),
    signedIn({
      method: 'GET',
      path: '/v1/abilities',
      who: session,
      handle: ({ session }): Promise<Abilities> =>
        whatCanBeDone(
          {
            requests,
            guard,
            pins,
            resources: state.current(),
            databases: (of) => builtinServers(of).flatMap(({ resource }) => (resource.name.includes('/') ? [resource.name] : [])),
          },
          session,
          undefined,
        ),
    }),
    signedIn<TokenAsk>({
      method: 'POST',
      path: '/v1/token',
      who: session,
      limit: SMALL,
      body: z.strictObject({ audience: z.string().min(1).max(256) }),
      handle: (asked) => token(parts, asked),
    }),
  ]
}

/** The longest that one run may be asked for; what its session may live at all is for its roles to say. */
const LONGEST_RUN = { shortestMs: TTL.shortestMs, longestMs: 7 * 24 * 3_600_000 }

/** `chaperone run -- claude`: an agent of the person, with less than he has, for as long as it runs. */
async function runForPerson(parts: ApiParts, { body, session, remote }: AskedInSession<RunBegin>): Promise<Credential> {
  const { store, state, sessions, audit, clock } = parts
  const { principal } = session
  if (principal.chain.length !== 1) throw new ChaperoneError('issue_refused', 'Only a person, with his own credential, starts an agent.')
  if (body.client === undefined) throw new ChaperoneError('usage', 'What runs? Give it a name.', { fix: 'Name it with `client`.' })
  const { spki } = readCsr(body.csr)
  const profile = body.profile === undefined ? undefined : await profileNamed(parts, body.profile)
  const limits = limitsInside(profile?.limits ?? {}, body.limits ?? {})
  // A pattern that means nothing is told to who wrote it; kept, it would refuse everything later.
  for (const part of [body.limits ?? {}, limits]) narrowingOf(part)
  const now = clock.now()
  const parent = await parentSession(parts, session.id)
  const forMs = lifeOf(body, profile?.for)
  const lifeMs = Math.max(1, Math.min(parent.expires_at - now, forMs ?? Number.POSITIVE_INFINITY))

  const owner = await findIdentity(store.db, { id: principal.identityId })
  if (!owner) throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
  const { name, known } = await lookForClient(store.db, owner, body.client)
  if (!known) {
    await assertRoomForClient(parts, owner)
    const data = { op: 'create', kind: 'agent', name, owner: owner.name, why: 'first run' }
    await audit.append({ ...actorOf(session), type: 'identity.changed', data })
  }
  const words = consentWords({ from: owner.name, to: name, limits, how: 'run', forMs: lifeMs, bound: true }).join(' ')
  const data = { from: owner.id, to: known?.id ?? name, how: 'run', words, ...(body.profile === undefined ? {} : { profile: body.profile }) }
  await audit.append({ ...actorOf(session), type: 'delegation.made', data })
  const { agent, delegation } = await store.write(async (trx) => {
    const { agent } = await clientIdentity(trx, owner, body.client!, now)
    const delegation = await makeDelegation(trx, {
      fromId: owner.id,
      toId: agent.id,
      limits,
      how: 'run',
      // Until the run has a session of its own, below, it ends with that of the person.
      sessionId: session.id,
      expiresAt: now + lifeMs,
      madeBy: owner.id,
      client: body.client!,
      words,
      now,
    })
    return { agent, delegation }
  })
  const chain: readonly ChainLink[] = [{ identity: owner.id }, { identity: agent.id, delegation: delegation.id }]
  const purpose = body.purpose === undefined ? {} : { purpose: body.purpose }
  try {
    await state.see(chain)
    await assertSessionsLeft(parts, agent)
    // Whoever issued the person's credential may hold its key, and with it what is made from it here.
    const issuer = session.issuerId === undefined ? {} : { issuerId: session.issuerId }
    const started = { identityId: agent.id, chain, how: 'run', client: body.client, cameFrom: remote, parentId: session.id, lifeMs } as const
    const made = await sessions.start({ ...started, ...issuer, ...purpose })
    // Whose end is now its own: nothing that was given for a run is left when that is over.
    await store.write((trx) => trx.updateTable('delegations').set({ session_id: made.id }).where('id', '=', delegation.id).execute())
    const issued = await issueCredential(parts, { identity: nameOf(agent), session: made, chain, spki, ttlMs: TTL.agentMs, how: 'run', ...issuer })
    return await credentialAnswer(parts, issued)
  } catch (error) {
    await sessions.endDelegations([delegation.id], 'the run did not begin')
    throw error
  }
}

/** `chaperone agent run`: the same identity and rights in a session of its own, which ends with the run and never after the one that asks. */
async function runAsAgent(parts: ApiParts, { body, session, remote }: AskedInSession<RunBegin>): Promise<Credential> {
  const { store, sessions, clock } = parts
  const { principal } = session
  if (body.limits !== undefined || body.profile !== undefined)
    throw new ChaperoneError('usage', 'An agent that runs as itself has its own rights.', { fix: 'To hand on a part of them, use a token exchange.' })
  if (principal.chain.length !== 1)
    throw new ChaperoneError('issue_refused', 'What acts for somebody starts nothing that is the same as itself.', {
      fix: 'Hand on a part of its rights with a token exchange.',
    })
  const { spki } = readCsr(body.csr)
  const agent = await findIdentity(store.db, { id: principal.identityId })
  if (!agent) throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
  await assertSessionsLeft(parts, agent)
  const parent = await parentSession(parts, session.id)
  const made = await sessions.start({
    identityId: agent.id,
    chain: principal.chain,
    how: 'run',
    cameFrom: remote,
    parentId: session.id,
    lifeMs: Math.max(1, Math.min(parent.expires_at - clock.now(), lifeOf(body) ?? Number.POSITIVE_INFINITY)),
    ...(session.issuerId === undefined ? {} : { issuerId: session.issuerId }),
    ...(body.client === undefined ? {} : { client: body.client }),
    ...(body.purpose === undefined ? {} : { purpose: body.purpose }),
  })
  return credentialAnswer(
    parts,
    await issueCredential(parts, {
      identity: nameOf(agent),
      session: made,
      chain: principal.chain,
      spki,
      ttlMs: TTL.agentMs,
      how: 'run',
      ...(session.issuerId === undefined ? {} : { issuerId: session.issuerId }),
    }),
  )
}

/** A profile's time is a limit like its others: a flag makes it shorter. */
const lifeOf = ({ for: asked }: RunBegin, usual?: string): number | undefined => {
  const times = [...(asked === undefined ? [] : [duration(asked, LONGEST_RUN, 'A run')]), ...(usual === undefined ? [] : [parseDuration(usual)])]
  return times.length === 0 ? undefined : Math.min(...times)
}

async function profileNamed({ store }: Pick<ApiParts, 'store'>, name: string): Promise<ProfileSpec> {
  const row = await store.db.selectFrom('documents').select('spec').where('kind', '=', 'profile').where('name', '=', name).executeTakeFirst()
  if (!row)
    throw new ChaperoneError('not_found', `There is no profile ${name}.`, { fix: 'See `chaperone get profile`, or name what it may do with flags.' })
  return JSON.parse(row.spec) as ProfileSpec
}

/**
 * A token for somebody else, who checks it with the keys that the web listener publishes. At Chaperone it opens nothing, and it is
 * not one of those that upstreams of Chaperone believe (vault/assertions.ts).
 */
async function token({ svids, audit, state, trustDomain }: ApiParts, { body, session }: AskedInSession<TokenAsk>): Promise<Token> {
  const { principal, id } = session
  const spiffe = ({ identity }: ChainLink) => {
    const found = state.current().identity(identity)
    return found === undefined ? identity : spiffeId(trustDomain, found.kind, found.name)
  }
  const [subject = '', ...actors] = principal.chain.map(spiffe)
  const minted = await svids.mint({ subject, actors, audience: body.audience, username: principal.name })
  const data = { form: 'svid', audience: body.audience, notAfter: minted.expiresAt, jti: minted.id }
  await audit.append({ ...actorOf(session), type: 'credential.issued', data })
  return { token: minted.token, notAfter: minted.expiresAt, session: id }
}
