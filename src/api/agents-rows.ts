import { ChaperoneError } from '../errors.ts'
import type { GovernedAgent } from '../identity/govern.ts'
import { type Instance, type InstancesAsk, listInstances, placeOf, todayOf } from '../identity/instances.ts'
import { lockFor } from '../identity/locks.ts'
import { duesOf, stoppedBy } from '../identity/terms.ts'
import type { ChainLink } from '../identity/types.ts'
import type { AgentRow, InstanceList, InstanceRow } from './agents-contract.ts'
import type { ApiParts } from './parts.ts'

type RowParts = Pick<ApiParts, 'store' | 'state' | 'sessions' | 'clock'>

/** The instances that fit, as they stand now. */
export async function instancesOf(parts: RowParts, ask: Pick<InstancesAsk, 'agentId' | 'ownId' | 'limit'>): Promise<InstanceList> {
  const { store, state, sessions, clock } = parts
  const now = clock.now()
  const today = todayOf(now)
  // One more than is shown says whether there are more.
  const found = await listInstances(store.db, { ...ask, limit: ask.limit + 1, now, actionsSince: today })
  const shown = found.slice(0, ask.limit)
  await state.see(shown.flatMap((one) => chainOf(one)))
  const open = new Map(sessions.list().map((one) => [one.id, one.open]))
  const instances = shown.map((one) => rowOf(one, open.get(one.id) ?? 0))
  return { instances, today, ...(found.length > shown.length ? { more: true } : {}) }

  function rowOf(one: Instance, connections: number): InstanceRow {
    const { id, agent, owner, how, client, purpose, cameFrom, joined, startedAt, lastUsedAt, expiresAt, actions, moreActions } = one
    return {
      id,
      agent,
      ...given('owner', owner),
      ...standing(one),
      where: placeOf(one),
      how,
      ...given('client', client),
      ...given('purpose', purpose),
      ...given('cameFrom', cameFrom),
      ...(joined === null ? {} : { joined: joinedOf(joined) }),
      roles: rolesOf(one),
      startedAt,
      ...given('lastSeenAt', lastUsedAt),
      expiresAt,
      connections,
      actionsToday: actions,
      ...(moreActions ? { moreActions } : {}),
    }
  }

  function standing(one: Instance): Pick<InstanceRow, 'state' | 'why'> {
    const current = state.current()
    const facts = { now, sessionId: one.id, ...(one.parentId === null ? {} : { parentId: one.parentId }) }
    try {
      const lock = lockFor(current.locks, { ...facts, links: current.links(chainOf(one), now) })
      return lock ? { state: 'locked', why: lock.reason } : { state: 'live' }
    } catch (error) {
      // A link is disabled, or the delegation has ended: it can do nothing, and that is what is shown.
      if (!(error instanceof ChaperoneError) || !STOPPING.has(error.code)) throw error
      return { state: 'stopped', why: error.message }
    }
  }
}

/** What `links` says of a chain of which somebody may not act. */
const STOPPING: ReadonlySet<string> = new Set(['identity_disabled', 'session_ended'])

const chainOf = ({ chain }: Instance) => JSON.parse(chain) as readonly ChainLink[]

function rolesOf({ roles, ownerRoles }: Instance): readonly string[] {
  const own = JSON.parse(roles) as readonly string[] | 'inherit'
  if (own !== 'inherit') return own
  const inherited = ownerRoles === null ? [] : (JSON.parse(ownerRoles) as readonly string[] | 'inherit')
  return inherited === 'inherit' ? [] : inherited
}

/** An agent with its governance. `instances`: how many run, by agent; `nameOf`: of whoever reviewed it. */
export function agentRow(agent: GovernedAgent, instances: ReadonlyMap<string, number>, nameOf: (id: string) => string | undefined): AgentRow {
  const { id, name, ownerName, roles, source, createdAt, lastUsedAt, reviewedAt, reviewedBy, stopsAt, terms } = agent
  const stopped = stoppedBy(agent)
  const [due] = stopped === undefined ? duesOf(agent, terms) : []
  return {
    id,
    name,
    ...given('owner', ownerName),
    state: stopped === undefined ? 'active' : 'stopped',
    ...(stopped === undefined ? {} : { stopped }),
    roles,
    source,
    instances: instances.get(id) ?? 0,
    createdAt,
    ...given('lastUsedAt', lastUsedAt),
    ...given('reviewedAt', reviewedAt),
    ...(reviewedBy === null ? {} : { reviewedBy: nameOf(reviewedBy) ?? reviewedBy }),
    terms,
    ...(due === undefined ? {} : { due: { why: due.why, at: due.at } }),
    ...given('stopsAt', stopsAt),
  }
}

/** How many sessions of each agent are live. One query. */
export async function countInstances({ store, clock }: Pick<ApiParts, 'store' | 'clock'>): Promise<ReadonlyMap<string, number>> {
  const rows = await store.db
    .selectFrom('sessions')
    .innerJoin('identities', 'identities.id', 'sessions.identity_id')
    .select((is) => ['sessions.identity_id', is.fn.countAll<number>().as('count')])
    .where('identities.kind', '=', 'agent')
    .where('sessions.ended_at', 'is', null)
    .where('sessions.expires_at', '>', clock.now())
    .groupBy('sessions.identity_id')
    .execute()
  return new Map(rows.map(({ identity_id, count }) => [identity_id, Number(count)]))
}

const given = <Name extends string, Value>(name: Name, value: Value | null): { [key in Name]?: NonNullable<Value> } =>
  (value === null ? {} : { [name]: value }) as { [key in Name]?: NonNullable<Value> }

/** The row keeps more than people are shown: which certificates a session rests on. */
function joinedOf(text: string): NonNullable<InstanceRow['joined']> {
  const { method, document, subject } = JSON.parse(text) as NonNullable<InstanceRow['joined']>
  return { method, document, subject }
}
