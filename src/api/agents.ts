import { z } from 'zod'
import { factorRequired, hasFreshFactor } from '../access/administration.ts'
import { ChaperoneError } from '../errors.ts'
import { setIdentityState } from '../identity/directory.ts'
import { type GovernedAgent, loadAgents } from '../identity/govern.ts'
import { duesOf } from '../identity/terms.ts'
import type { LiveSession } from '../identity/types.ts'
import { assertAdministratorLeft } from './administrator-left.ts'
import type { AgentReview, AgentRow } from './agents-contract.ts'
import { instancesOf } from './agents-rows.ts'
import { agentDetail, knownAgent, rowsWithNames, rowWithNames, seenOf } from './agents-show.ts'
import { actorOf, holds } from './caller.ts'
import { reduceRights } from './changed.ts'
import type { ApiParts } from './parts.ts'
import { type Asked, type AskedInSession, type Route, signedIn } from './route.ts'
import { count } from './words.ts'

const MOST_INSTANCES = 1000
const LONGEST_REASON = 500

/** Agents, their running copies, and whether they are still wanted. Everybody sees his own; with the verbs, all. */
export function agentRoutes(parts: ApiParts): readonly Route[] {
  const { audit, store, clock } = parts
  const mine = { when: 'otherwise', test: () => true } as const
  /** What an agent may do is its owner's to know, and to keep; not the agent's. */
  const owner = {
    when: 'first',
    async test(asked: Asked<unknown>) {
      const { session, params } = asked as AskedInSession<unknown>
      try {
        return isOwner(session, await knownAgent(parts, params.name ?? ''))
      } catch (error) {
        // What does not exist is nobody's own: whoever has no verb hears the same of both (rule 8).
        if (error instanceof ChaperoneError && error.code === 'not_found') return false
        throw error
      }
    },
  } as const
  const walk = oneAtATime()

  return [
    signedIn({
      method: 'GET',
      path: '/v1/instances',
      summary: () => 'list instances',
      who: { by: 'verbs', anyOf: ['identities', 'lock', 'audit.read'], own: mine },
      async handle({ query, session, permit }) {
        const of = query.get('of')
        const limit = count(query, 'limit', MOST_INSTANCES, 100)
        const ownId = permit ? undefined : session.principal.identityId
        const agent = of === null ? undefined : await agentFor(of, session, permit !== undefined)
        return instancesOf(parts, { limit, ...(ownId === undefined ? {} : { ownId }), ...(agent === undefined ? {} : { agentId: agent.id }) })
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/agents',
      summary: () => 'list agents',
      who: { by: 'verbs', anyOf: ['identities', 'audit.read'], own: mine },
      async handle({ query, session, permit }): Promise<{ agents: readonly AgentRow[] }> {
        const { kind, identityId } = session.principal
        const all = await loadAgents(store.db, permit ? {} : kind === 'user' ? { ownerId: identityId } : { id: identityId })
        const now = clock.now()
        return { agents: await rowsWithNames(parts, query.get('due') === null ? all : all.filter((agent) => isDue(agent, now))) }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/agents/:name',
      who: { by: 'verbs', anyOf: ['identities', 'audit.read'], own: owner },
      summary: ({ params }) => `show agent ${params.name}`,
      async handle({ params, session, permit }) {
        const agent = await knownAgent(parts, params.name ?? '')
        const own = permit === undefined
        // What it did stands in the record, and who looks there leaves one.
        const reads = own || holds(parts, session)('audit.read')
        if (!own && reads)
          await audit.append({ ...actorOf(session), type: 'audit.read', permit: permit.id, data: { op: 'agent', identity: agent.name } })
        return walk(() => agentDetail(parts, agent, reads))
      },
    }),
    signedIn<AgentReview>({
      method: 'POST',
      path: '/v1/agents/:name/review',
      who: { by: 'verbs', anyOf: ['identities'], own: { ...owner, when: 'otherwise' } },
      body: z.strictObject({
        decision: z.enum(['keep', 'narrowed', 'stop']),
        reason: z.string().min(1).max(LONGEST_REASON).optional(),
        seen: z.string().min(1).max(64),
      }),
      summary: ({ params, body }) => `review agent ${params.name}: ${body.decision}`,
      handle: (asked) => review(asked),
    }),
  ]

  async function agentFor(name: string, session: LiveSession, everybody: boolean): Promise<GovernedAgent> {
    const agent = await knownAgent(parts, name)
    if (everybody || isOwner(session, agent) || agent.id === session.principal.identityId) return agent
    throw new ChaperoneError('not_found', `There is no agent ${name}.`)
  }

  async function review({ params, body, session, permit }: AskedInSession<AgentReview>): Promise<AgentRow> {
    const agent = await knownAgent(parts, params.name ?? '')
    // An owner needs no verb; that he is there himself he shows all the same (design 3.3).
    if (!permit && !hasFreshFactor(session, clock.now())) throw factorRequired()
    if (agent.state !== 'active') {
      throw new ChaperoneError('conflict', `${agent.name} is stopped; to let it work again is an act of its own.`, {
        fix: `Somebody with the verb \`identities\`: chaperone agent enable ${agent.name}`,
      })
    }
    if (body.seen !== seenOf(parts, agent)) {
      throw new ChaperoneError('conflict', `What ${agent.name} may do has changed since you looked.`, {
        fix: `Look again: chaperone agent show ${agent.name}`,
      })
    }
    const now = clock.now()
    const about = { id: agent.id, name: agent.name }
    const why = body.reason === undefined ? {} : { reason: body.reason }
    await audit.append({
      ...actorOf(session),
      type: 'agent.reviewed',
      ...(permit ? { permit: permit.id } : {}),
      data: { decision: body.decision, agent: about, roles: agent.roles, ...why },
    })
    const reviewed = { reviewed_at: now, reviewed_by: session.principal.identityId, stops_at: null, told_at: null }
    if (body.decision === 'stop') {
      await audit.append({ ...actorOf(session), type: 'identity.changed', data: { op: 'disable', identity: about, why: 'review' } })
      await reduceRights(parts, async (trx) => {
        await setIdentityState(trx, agent.id, 'disabled', now)
        await trx.updateTable('identities').set(reviewed).where('id', '=', agent.id).execute()
        await assertAdministratorLeft(parts, trx)
      })
    } else {
      // Somebody may have stopped it meanwhile: then this review wakes nobody up, and is none.
      const { numUpdatedRows } = await store.write((trx) =>
        trx.updateTable('identities').set(reviewed).where('id', '=', agent.id).where('state', '=', 'active').executeTakeFirstOrThrow(),
      )
      if (numUpdatedRows === 0n) throw new ChaperoneError('conflict', `${agent.name} was stopped at the same moment.`)
    }
    return rowWithNames(parts, await knownAgent(parts, agent.id))
  }
}

/** The person who answers for it, with his own credential: what acts for him does not keep itself. */
const isOwner = ({ principal }: LiveSession, agent: Pick<GovernedAgent, 'ownerId'>): boolean =>
  principal.kind === 'user' && principal.chain.length === 1 && agent.ownerId === principal.identityId

/** Its people are told of it about now, or it is stopped for that already. */
function isDue(agent: GovernedAgent, now: number): boolean {
  if (agent.state !== 'active') return agent.stopped === 'unused' || agent.stopped === 'unreviewed'
  return duesOf(agent, agent.terms).some(({ at, noticeMs }) => now >= at - noticeMs)
}

/** They read thousands of records: one at a time, or the data plane would wait for them. */
function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve()
  let waiting = 0
  return async (work) => {
    if (waiting >= MOST_WAITING) throw new ChaperoneError('too_many', 'Others are looking at agents.', { fix: 'Try again in a moment.' })
    waiting++
    const mine = last.then(work)
    last = mine.catch(() => {}).finally(() => waiting--)
    return mine
  }
}

const MOST_WAITING = 8
