import { z } from 'zod'
import { readCsr } from '../ca/csr.ts'
import { TTL } from '../ca/types.ts'
import { parseDuration } from '../encoding/duration.ts'
import { ChaperoneError } from '../errors.ts'
import { claimsOf } from '../identity/credential.ts'
import { exchange } from '../identity/delegation/exchange.ts'
import { delegationNamed, inNames, listGiven, noSuch, ownOf, revoke, type Side, sidesOf } from '../identity/delegation/list.ts'
import { TOKEN_LONGEST_MS } from '../identity/tokens.ts'
import { newId } from '../ids.ts'
import { durationSchema } from '../policy/approval.ts'
import { limitsSchema } from '../policy/narrowing.ts'
import type { Limits } from '../policy/types.ts'
import { issueCredential } from '../signin/issue.ts'
import { knownIdentity } from './changed.ts'
import type { Credential, Token } from './contract.ts'
import { credentialAnswer } from './credential.ts'
import type { DelegationRow, ExchangeBody } from './delegations-contract.ts'
import type { ApiParts } from './parts.ts'
import { type Asked, type AskedInSession, type Route, signedIn } from './route.ts'
import { count, csrText, nameText, purposeText } from './words.ts'

const SMALL = 64 * 1024
const MOST = 1000

/** Everybody sees what he, and what his agents, gave and were given, and ends what he gave; with the verbs, all. */
export function delegationRoutes(parts: ApiParts): readonly Route[] {
  const { store, sessions, lease, clock } = parts
  const unseen = async (asked: Asked<unknown>) => ((await sides(asked)).length > 0 ? undefined : noSuch())
  const seen = { when: 'first', test: async (asked: Asked<unknown>) => (await sides(asked)).length > 0, unseen } as const
  const given = { when: 'first', test: async (asked: Asked<unknown>) => (await sides(asked)).includes('from'), unseen } as const

  return [
    signedIn({
      method: 'GET',
      path: '/v1/delegations',
      who: { by: 'verbs', anyOf: ['audit.read', 'identities', 'lock'], own: { when: 'otherwise', test: () => true } },
      summary: () => 'list delegations',
      async handle({ session, permit, query }) {
        const of = query.get('of')
        const identity = of === null ? undefined : await knownIdentity(parts, of)
        const rows = await listGiven(store.db, {
          now: clock.now(),
          all: query.get('all') === '1',
          limit: count(query, 'limit', MOST, 200),
          ...(identity === undefined ? {} : { of: identity.id }),
          ...(permit === undefined ? { mine: ownOf(session) } : {}),
        })
        // Who sees only his own hears of others what he hears of a name that nobody has (rule 8).
        const own = ownOf(session)
        if (!permit && identity && rows.length === 0 && identity.id !== own.id && !(own.agents && identity.ownerId === own.id))
          throw new ChaperoneError('not_found', `There is no identity ${of}.`)
        return { delegations: await inNames(store.db, rows, sessions.list()) }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/delegations/:id',
      who: { by: 'verbs', anyOf: ['audit.read', 'identities', 'lock'], own: seen },
      summary: ({ params }) => `show delegation ${params.id}`,
      async handle({ params }): Promise<DelegationRow> {
        const [row] = await inNames(store.db, [await delegationNamed(store.db, params.id ?? '')], sessions.list())
        return row!
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/delegations/:id',
      who: { by: 'verbs', anyOf: ['identities', 'lock'], own: given },
      summary: ({ params }) => `revoke delegation ${params.id}`,
      async handle({ params, session }) {
        const { id } = await delegationNamed(store.db, params.id ?? '')
        await revoke({ store, sessions }, id, session)
        await lease.confirmed(await store.epoch())
        return { ended: [id] }
      },
    }),
    signedIn<ExchangeBody>({
      method: 'POST',
      path: '/v1/exchange',
      who: { by: 'session' },
      limit: SMALL,
      body: z
        .strictObject({
          to: nameText,
          limits: limitsSchema.optional(),
          for: durationSchema.optional(),
          purpose: purposeText.optional(),
          csr: csrText.optional(),
          token: z.strictObject({ audience: z.url({ protocol: /^https$/ }).max(256) }).optional(),
        })
        .refine((ask) => (ask.csr === undefined) !== (ask.token === undefined), {
          message: 'write exactly one of `csr` and `token`',
        }) as z.ZodType<ExchangeBody>,
      handle: (asked) => handOn(asked),
    }),
  ]

  /** A credential of the sub-agent, in a session of its own below the one that asks. */
  async function handOn({ body, session, connection, remote }: AskedInSession<ExchangeBody>): Promise<Credential | Token> {
    const spki = body.csr === undefined ? undefined : readCsr(body.csr).spki
    const issuer = session.issuerId === undefined ? {} : { issuerId: session.issuerId }
    return exchange(
      { store, sessions, audit: parts.audit, clock, see: (links) => parts.state.see(links) },
      {
        session,
        to: body.to,
        cameFrom: remote,
        ...(body.limits === undefined ? {} : { limits: JSON.parse(JSON.stringify(body.limits)) as Limits }),
        ...(body.for === undefined ? {} : { forMs: parseDuration(body.for) }),
        ...(body.purpose === undefined ? {} : { purpose: body.purpose }),
      },
      async ({ identity, chain, session: made }): Promise<Credential | Token> => {
        if (spki)
          return credentialAnswer(
            parts,
            await issueCredential(parts, { identity, session: made, chain, spki, ttlMs: TTL.agentMs, how: 'exchange', ...issuer }),
          )
        const credentialId = newId('crd', clock.now())
        const { audience } = body.token!
        const notAfter = Math.min(clock.now() + TOKEN_LONGEST_MS, made.expiresAt)
        await parts.audit.append({
          type: 'credential.issued',
          actor: identity,
          session: made.id,
          credential: credentialId,
          ...(session.issuerId === undefined ? {} : { issuer: session.issuerId }),
          ...(connection ? { connection: connection.id } : {}),
          data: { how: 'exchange', form: 'token', audience, notAfter },
        })
        const claims = claimsOf({ identityId: identity.id, credentialId, sessionId: made.id, chain, ...issuer })
        return { ...(await parts.tokens.mint({ kind: 'agent', name: identity.name, claims, audience, notAfter })), session: made.id }
      },
    )
  }

  /** On which sides of it the caller stands; on none of one that does not exist: to whoever has no verb both look the same. */
  async function sides(asked: Asked<unknown>): Promise<readonly Side[]> {
    const row = await delegationNamed(store.db, asked.params.id ?? '').catch((error: unknown) => {
      if (error instanceof ChaperoneError) return undefined
      throw error
    })
    return row ? sidesOf(store.db, row, ownOf((asked as AskedInSession<unknown>).session)) : []
  }
}
