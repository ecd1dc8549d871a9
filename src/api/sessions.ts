import { ChaperoneError } from '../errors.ts'
import type { ChainLink, LiveSession } from '../identity/types.ts'
import type { SessionRow } from './contract.ts'
import type { ApiParts } from './parts.ts'
import { type AskedInSession, type Route, signedIn } from './route.ts'
import { count } from './words.ts'

const MOST = 1000

export function sessionRoutes(parts: ApiParts): readonly Route[] {
  const { store, sessions, lease } = parts
  return [
    signedIn({
      method: 'GET',
      path: '/v1/sessions',
      // Everybody sees his own, and those of agents that act for him.
      who: { by: 'verbs', anyOf: ['audit.read', 'lock'], own: { when: 'otherwise', test: () => true } },
      handle: async ({ session, permit, query }) => ({ sessions: await list(session, permit !== undefined, count(query, 'limit', MOST, 200)) }),
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/sessions/:id',
      who: {
        by: 'verbs',
        anyOf: ['lock'],
        own: { when: 'first', test: async ({ params, ...asked }) => isOwn(await find(params.id ?? ''), (asked as AskedInSession<unknown>).session) },
      },
      summary: ({ params }) => `end session ${params.id}`,
      async handle({ params, session }) {
        const row = await find(params.id ?? '')
        if (!row) throw new ChaperoneError('not_found', 'There is no such session, or it is over.')
        await sessions.end(row.id, `ended by ${session.principal.name}`)
        await lease.confirmed(await store.epoch())
        return {}
      },
    }),
  ]

  async function find(id: string) {
    return store.db
      .selectFrom('sessions')
      .select(['id', 'chain', 'identity_id'])
      .where('id', '=', id)
      .where('ended_at', 'is', null)
      .executeTakeFirst()
  }

  async function list({ principal }: LiveSession, everybody: boolean, limit: number): Promise<readonly SessionRow[]> {
    let query = store.db
      .selectFrom('sessions')
      .innerJoin('identities', 'identities.id', 'sessions.identity_id')
      .select(['sessions.id', 'sessions.how', 'sessions.client', 'sessions.purpose', 'sessions.started_at', 'sessions.expires_at', 'identities.name'])
      .where('sessions.ended_at', 'is', null)
      .where('sessions.expires_at', '>', parts.clock.now())
    // An id has no character that LIKE reads in another way than as itself, `_` aside, which only widens within ids.
    if (!everybody) {
      query = query.where((or) =>
        or.or([or('sessions.identity_id', '=', principal.identityId), or('sessions.chain', 'like', `[{"identity":"${principal.identityId}"%`)]),
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
    }))
  }
}

/** Mine, or of an agent that acts for me: but an agent does not end the session of its person. */
function isOwn(row: { readonly chain: string; readonly identity_id: string } | undefined, { principal }: LiveSession): boolean {
  if (!row) return false
  if (row.identity_id === principal.identityId) return true
  const [first] = JSON.parse(row.chain) as readonly ChainLink[]
  return first?.identity === principal.identityId
}
