import { z } from 'zod'
import { readCsr } from '../ca/csr.ts'
import { TTL } from '../ca/types.ts'
import type { ProfileSpec } from '../catalog/profile.ts'
import { ChaperoneError } from '../errors.ts'
import { whatCanBeDone } from '../gateways/mcp/own/server.ts'
import { actInSession } from '../identity/delegation/act-for.ts'
import { agentOfClient } from '../identity/delegation/own-agent.ts'
import { shareOf } from '../identity/delegation/share.ts'
import { findIdentity } from '../identity/directory.ts'
import { spiffeId } from '../identity/names.ts'
import { assertSessionsLeft } from '../identity/session-limits.ts'
import type { ChainLink } from '../identity/types.ts'
import { limitsSchema } from '../policy/narrowing.ts'
import { nameOf } from '../signin/invited.ts'
import { issueCredential } from '../signin/issue.ts'
import { actorOf } from './caller.ts'
import type { Credential, Token } from './contract.ts'
import { credentialAnswer } from './credential.ts'
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
  const parent = await parentSession(parts, session.id)
  const mostMs = Math.max(1, parent.expires_at - clock.now())
  const { limits, forMs } = shareOf(profile, { limits: body.limits ?? {}, askedMs: lifeOf(body), mostMs })
  const owner = await findIdentity(store.db, { id: principal.identityId })
  if (!owner) throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
  const agent = await agentOfClient(parts, { by: actorOf(session), owner, client: body.client, why: 'first run' })
  return actInSession(
    { store, audit, clock, sessions, see: (chain) => state.see(chain) },
    {
      ...{ agreed: session, from: owner, to: agent, how: 'run', limits, forMs, bound: true, client: { id: body.client } },
      ...(body.profile === undefined ? {} : { profile: body.profile }),
      start: {
        ...{ how: 'run', client: body.client, cameFrom: remote, parentId: session.id, lifeMs: forMs },
        ...(body.purpose === undefined ? {} : { purpose: body.purpose }),
      },
    },
    async ({ chain, session: made }) => {
      const issuer = session.issuerId === undefined ? {} : { issuerId: session.issuerId }
      return credentialAnswer(
        parts,
        await issueCredential(parts, { identity: nameOf(agent), session: made, chain, spki, ttlMs: TTL.agentMs, how: 'run', ...issuer }),
      )
    },
  )
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

const lifeOf = ({ for: asked }: RunBegin): number | undefined => (asked === undefined ? undefined : duration(asked, LONGEST_RUN, 'A run'))

const PROFILES_SHOWN = 20

/** Their names are no secret to people: the page on which they agree to a client offers them all. Only a person gets here. */
async function otherProfiles({ db }: ApiParts['store']): Promise<string> {
  const rows = await db.selectFrom('documents').select('name').where('kind', '=', 'profile').orderBy('name').limit(PROFILES_SHOWN).execute()
  const there =
    rows.length === 0 ? 'There is none yet: an administrator applies one (kind: profile).' : `There are: ${rows.map(({ name }) => name).join(', ')}.`
  return `${there} Or name what it may do with flags: --role, --resource, --tool, --read-only.`
}

async function profileNamed({ store }: Pick<ApiParts, 'store'>, name: string): Promise<ProfileSpec> {
  const row = await store.db.selectFrom('documents').select('spec').where('kind', '=', 'profile').where('name', '=', name).executeTakeFirst()
  if (!row) throw new ChaperoneError('not_found', `There is no profile ${name}.`, { fix: await otherProfiles(store) })
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
