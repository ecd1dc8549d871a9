import { setImmediate } from 'node:timers/promises'
import { sql } from 'kysely'
import type { Database } from '../store/store.ts'

/** One running copy of an agent: a live session, with the credentials that followed each other in it. */
export interface Instance {
  /** of the session */
  readonly id: string
  readonly agentId: string
  readonly agent: string
  readonly agentState: string
  readonly ownerId: string | null
  readonly owner: string | null
  readonly ownerState: string | null
  /** JSON, as in the store */
  readonly roles: string
  readonly ownerRoles: string | null
  readonly how: string
  readonly client: string | null
  readonly purpose: string | null
  /** JSON: by what it joined, and what was proven */
  readonly joined: string | null
  readonly cameFrom: string | null
  readonly issuer: string | null
  readonly parentId: string | null
  /** JSON, as in the store */
  readonly chain: string
  readonly startedAt: number
  readonly lastUsedAt: number | null
  readonly expiresAt: number
  /** since `actionsSince`, among the first {@link MOST_COUNTED} records of the session */
  readonly actions: number
  /** there are more */
  readonly moreActions: boolean
}

export interface InstancesAsk {
  readonly now: number
  /** ms since 1970: from when on actions are counted */
  readonly actionsSince: number
  /** id of the agent */
  readonly agentId?: string
  /** id of the owner, or of the agent itself: only what is his own */
  readonly ownId?: string
  readonly limit: number
}

/**
 * An action leaves an intent and an outcome. Counting walks the index of a session and reads so many records, no more: measured, 5 us
 * each of a table that no cache holds, on the very thread that serves the data plane over SQLite.
 */
export const MOST_COUNTED = 400
/** Sessions counted at once; between two such queries others have their turn. */
const AT_ONCE = 20

/** The live instances, the newest first: one query, and one for each twenty that were found. */
export async function listInstances(db: Database, ask: InstancesAsk): Promise<readonly Instance[]> {
  const rows = await liveOnes(db, ask)
  const counts = new Map<string, Pick<Instance, 'actions' | 'moreActions'>>()
  for (let from = 0; from < rows.length; from += AT_ONCE) {
    if (from > 0) await setImmediate()
    const some = rows.slice(from, from + AT_ONCE).map(({ id }) => id)
    for (const { id, ...count } of await countActions(db, some, ask.actionsSince)) counts.set(id, count)
  }
  return rows.map((row) => ({ ...row, ...(counts.get(row.id) ?? { actions: 0, moreActions: false }) }))
}

async function countActions(db: Database, ids: readonly string[], since: number) {
  // Both engines stop the inner walk at its bound, so that a busy agent costs no more than any.
  const seen = sql`from audit_leaves where session_id = sessions.id and at >= ${since} limit ${MOST_COUNTED + 1}`
  const rows = await db
    .selectFrom('sessions')
    .select([
      'id',
      sql<number>`(select count(*) from (select 1 ${seen}) as seen)`.as('seen'),
      sql<number>`(select count(*) from (select type ${seen}) as seen where seen.type in ('action.intent', 'action.refused'))`.as('actions'),
    ])
    .where('id', 'in', ids)
    .execute()
  return rows.map(({ id, seen, actions }) => ({ id, actions: Math.min(Number(actions), MOST_COUNTED), moreActions: Number(seen) > MOST_COUNTED }))
}

function liveOnes(db: Database, { now, agentId, ownId, limit }: InstancesAsk): Promise<Omit<Instance, 'actions' | 'moreActions'>[]> {
  let query = db
    .selectFrom('sessions')
    .innerJoin('identities as agent', 'agent.id', 'sessions.identity_id')
    .leftJoin('identities as owner', 'owner.id', 'agent.owner_id')
    .leftJoin('identities as issuer', 'issuer.id', 'sessions.issuer_id')
    .select([
      'sessions.id',
      'sessions.how',
      'sessions.client',
      'sessions.purpose',
      'sessions.joined',
      'sessions.came_from as cameFrom',
      'sessions.parent_id as parentId',
      'sessions.chain',
      'sessions.started_at as startedAt',
      'sessions.last_used_at as lastUsedAt',
      'sessions.expires_at as expiresAt',
      'agent.id as agentId',
      'agent.name as agent',
      'agent.state as agentState',
      'agent.roles',
      'owner.id as ownerId',
      'owner.name as owner',
      'owner.state as ownerState',
      'owner.roles as ownerRoles',
      'issuer.name as issuer',
    ])
    .where('agent.kind', '=', 'agent')
    .where('sessions.ended_at', 'is', null)
    .where('sessions.expires_at', '>', now)
  if (agentId !== undefined) query = query.where('agent.id', '=', agentId)
  if (ownId !== undefined) query = query.where((or) => or.or([or('agent.owner_id', '=', ownId), or('agent.id', '=', ownId)]))
  return query.orderBy('sessions.started_at', 'desc').orderBy('sessions.id', 'desc').limit(limit).execute()
}

/** Where an instance runs, in a few words: what it proved when it joined, or who started it, and from where. */
export function placeOf({ joined, cameFrom, client, how, issuer }: Pick<Instance, 'joined' | 'cameFrom' | 'client' | 'how' | 'issuer'>): string {
  const proof = joined === null ? undefined : (JSON.parse(joined) as { readonly method?: string; readonly subject?: string })
  const what = proof ? [proof.method, proof.subject].filter((part) => part !== undefined && part !== '').join(' ') : (client ?? wordFor(how, issuer))
  return cameFrom === null || cameFrom === '' ? what : `${what} at ${cameFrom.replace(/^::ffff:/, '')}`
}

const wordFor = (how: string, issuer: string | null) => (how === 'issue' && issuer !== null ? `issued by ${issuer}` : how)

/** Midnight (UTC) before: what "today" is in a record that has one zone. */
export const todayOf = (now: number): number => now - (now % (24 * 3_600_000))
