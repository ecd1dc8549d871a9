import { ChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import { actorOf, holds } from './caller.ts'
import { knownIdentity } from './changed.ts'
import type { SessionDetail, SessionRow } from './contract.ts'
import type { ApiParts } from './parts.ts'
import { type Asked, type AskedInSession, type Route, signedIn } from './route.ts'
import { sessionDetail } from './session-detail.ts'
import { sessionNamed } from './session-named.ts'
import { makeSessionWatch } from './session-watch.ts'
import { count } from './words.ts'

const MOST = 1000

/** Everybody sees and ends his own sessions and those of his agents; with the verbs, all. */
export function sessionRoutes(parts: ApiParts): { readonly routes: readonly Route[]; close(): void } {
  const { store, sessions, lease, audit } = parts
  const watch = makeSessionWatch(parts)
  const mine = { when: 'otherwise', test: () => true } as const
  const owned = {
    when: 'first',
    test: async (asked: Asked<unknown>) => isOwn(await named(asked.params.id), (asked as AskedInSession<unknown>).session),
  } as const

  const routes = [
    signedIn({
      method: 'GET',
      path: '/v1/sessions',
      summary: () => 'list sessions',
      who: { by: 'verbs', anyOf: ['audit.read', 'lock'], own: mine },
      async handle({ session, permit, query }) {
        const of = query.get('of')
        return { sessions: await list(session, permit !== undefined, of, count(query, 'limit', MOST, 200)) }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/sessions/watch',
      who: { by: 'verbs', anyOf: ['audit.read'], own: mine },
      summary: () => 'watch sessions',
      async handle({ session, permit, query }) {
        const of = query.get('of')
        const identity = of === null ? undefined : await knownIdentity(parts, of)
        // Who sees only his own hears of others what he hears of a name that nobody has (rule 8).
        if (!permit && identity && !isOf(identity, session)) throw new ChaperoneError('not_found', `There is no identity ${of}.`)
        if (permit) await audit.append({ ...actorOf(session), type: 'audit.read', permit: permit.id, data: { op: 'watch sessions' } })
        return watch.open(session, permit, identity?.id)
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/sessions/:id',
      who: { by: 'verbs', anyOf: ['audit.read', 'lock'], own: owned },
      summary: ({ params }) => `show session ${params.id}`,
      async handle({ params, session, permit }): Promise<SessionDetail> {
        const row = await sessionNamed(parts, params.id ?? '')
        const own = permit === undefined
        // What somebody did stands in the record, and who looks there leaves one.
        const reads = own || holds(parts, session)('audit.read')
        if (!own && reads)
          await audit.append({ ...actorOf(session), type: 'audit.read', permit: permit.id, data: { op: 'session', session: row.id } })
        return sessionDetail(parts, row, reads)
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/sessions/:id',
      who: { by: 'verbs', anyOf: ['lock'], own: owned },
      summary: ({ params }) => `end session ${params.id}`,
      async handle({ params, session }) {
        const row = await sessionNamed(parts, params.id ?? '')
        return end([row.id], session)
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/sessions',
      who: {
        by: 'verbs',
        anyOf: ['lock'],
        own: {
          when: 'first',
          async test({ query, ...asked }) {
            const of = await orNobody(target(query))
            return of !== undefined && isOf(of, (asked as unknown as AskedInSession<unknown>).session)
          },
        },
      },
      summary: ({ query }) => `end the sessions of ${query.get('of')}`,
      async handle({ query, session }) {
        const { id } = await target(query)
        const rows = await store.db.selectFrom('sessions').select('id').where('identity_id', '=', id).where('ended_at', 'is', null).execute()
        // The one that says so goes on: its answer has to arrive.
        return end(
          rows.flatMap((row) => (row.id === session.id ? [] : [row.id])),
          session,
        )
      },
    }),
  ]
  return { routes, close: () => watch.close() }

  async function end(ids: readonly string[], { principal }: LiveSession) {
    if (ids.length > 0) {
      await sessions.end(ids, 'killed', { id: principal.identityId, name: principal.name })
      await lease.confirmed(await store.epoch())
    }
    return { ended: ids }
  }

  async function target(query: URLSearchParams) {
    const of = query.get('of')
    if (of === null) throw new ChaperoneError('usage', 'Whose sessions are meant?', { fix: 'Name an identity: ?of=NAME' })
    return knownIdentity(parts, of)
  }

  /** With whose it is. What does not exist is nobody's own: whoever has no verb hears the same of both. */
  async function named(id = '') {
    const row = await orNobody(sessionNamed(parts, id))
    if (!row) return undefined
    const identity = await store.db.selectFrom('identities').select('owner_id').where('id', '=', row.identity_id).executeTakeFirst()
    return { ...row, owner_id: identity?.owner_id ?? null }
  }

  async function list({ principal }: LiveSession, everybody: boolean, of: string | null, limit: number): Promise<readonly SessionRow[]> {
    let query = store.db
      .selectFrom('sessions')
      .innerJoin('identities', 'identities.id', 'sessions.identity_id')
      .select(['sessions.id', 'sessions.how', 'sessions.client', 'sessions.purpose', 'sessions.started_at', 'sessions.expires_at', 'identities.name'])
      .select('sessions.last_used_at')
      .where('sessions.ended_at', 'is', null)
      .where('sessions.expires_at', '>', parts.clock.now())
    if (of !== null) query = query.where((or) => or.or([or('identities.name', '=', of), or('identities.id', '=', of)]))
    if (!everybody) {
      query = query.where((or) =>
        or.or([
          or('sessions.identity_id', '=', principal.identityId),
          ...(principal.kind === 'user' ? [or('identities.owner_id', '=', principal.identityId)] : []),
        ]),
      )
    }
    const rows = await query.orderBy('sessions.started_at', 'desc').limit(limit).execute()
    const open = new Map(sessions.list().map((one) => [one.id, one.open]))
    return rows.map((row) => ({
      id: row.id,
      identity: row.name,
      how: row.how,
      ...(row.client === null ? {} : { client: row.client }),
      ...(row.purpose === null ? {} : { purpose: row.purpose }),
      startedAt: row.started_at,
      expiresAt: row.expires_at,
      connections: open.get(row.id) ?? 0,
      ...(row.last_used_at === null ? {} : { lastUsedAt: row.last_used_at }),
    }))
  }
}

/** Mine, or of an agent of mine: but an agent does not end the session of its person. */
function isOwn(row: { readonly identity_id: string; readonly owner_id: string | null } | undefined, session: LiveSession): boolean {
  return row !== undefined && isOf({ id: row.identity_id, ...(row.owner_id === null ? {} : { ownerId: row.owner_id }) }, session)
}

const isOf = ({ id, ownerId }: { readonly id: string; readonly ownerId?: string }, { principal }: LiveSession): boolean =>
  id === principal.identityId || (principal.kind === 'user' && ownerId === principal.identityId)

/** What does not exist is nobody's own; who may ask for it is said by his verbs, and hears of it then. */
async function orNobody<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found
  } catch (error) {
    if (error instanceof ChaperoneError && (error.code === 'not_found' || error.code === 'usage')) return undefined
    throw error
  }
}
