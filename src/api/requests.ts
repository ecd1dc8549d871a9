import { z } from 'zod'
import {
  type AccessRequest,
  assertMayAsk,
  assertPending,
  decideRequest,
  findRequest,
  isOwn,
  listRequests,
  makeRequest,
  mayDecide,
  newRequestId,
} from '../access/requests.ts'
import { flagsOfServer } from '../catalog/flag-server.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity } from '../identity/directory.ts'
import type { LiveSession } from '../identity/types.ts'
import { actorOf } from './caller.ts'
import type { RequestAsk, RequestDecide, RequestRow, ServerWish } from './contract.ts'
import { documentOf, serverWish } from './mcp-scan.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'

const reason = z.string().min(1).max(500)

/** What people ask for and others give. Who asked sees his own; who may apply sees all. */
export function requestRoutes(parts: ApiParts): readonly Route[] {
  const { store, audit, clock, state } = parts
  const whoIs = (session: LiveSession) => ({ identityId: session.principal.identityId, chain: session.principal.chain })
  const whose = (session: LiveSession, all: boolean) => (all ? ('all' as const) : { identityId: session.principal.identityId })
  const seesAll = { by: 'verbs', anyOf: ['apply'], own: { when: 'otherwise', test: () => true } } as const

  return [
    signedIn<RequestAsk>({
      method: 'POST',
      path: '/v1/requests',
      who: { by: 'session' },
      limit: 128 * 1024,
      body: z.strictObject({ kind: z.literal('server'), ...serverWish, reason }),
      async handle({ body: { kind, reason, ...wish }, session }): Promise<{ id: string }> {
        const { spec } = documentOf(parts, wish)
        refuseSecrets(spec)
        const now = clock.now()
        const asked = { id: newRequestId(now), kind, ...whoIs(session), body: wish, reason }
        await assertMayAsk(store.db, asked, now)
        await audit.append({
          ...actorOf(session),
          type: 'request.made',
          data: { request: asked.id, kind, name: wish.name, reason },
          bodies: [{ name: 'asked', bytes: JSON.stringify(wish) }],
        })
        await store.write((trx) => makeRequest(trx, asked, now))
        return { id: asked.id }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/requests',
      who: seesAll,
      async handle({ session, permit }): Promise<{ requests: readonly RequestRow[] }> {
        const found = await listRequests(store.db, whose(session, permit !== undefined), 'server')
        return { requests: await Promise.all(found.map((one) => rowOf(one, session, permit !== undefined))) }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/requests/:id',
      who: seesAll,
      handle: async ({ params, session, permit }): Promise<RequestRow> =>
        rowOf(await findRequest(store.db, params.id ?? '', whose(session, permit !== undefined)), session, permit !== undefined),
    }),
    signedIn<RequestDecide>({
      method: 'POST',
      path: '/v1/requests/:id/decide',
      who: { by: 'verbs', anyOf: ['apply'] },
      body: z.strictObject({ state: z.enum(['approved', 'denied']), reason: reason.optional() }),
      summary: ({ params, body }) => `${body.state} ${params.id}`,
      async handle({ params, body, session }): Promise<RequestRow> {
        const request = await findRequest(store.db, params.id ?? '', 'all')
        assertPending(request)
        if (!mayDecide(request, session.principal.chain)) {
          throw new ChaperoneError('conflict', 'Nobody decides about his own request.', {
            fix: 'Add the server without it, which is recorded as your own doing, or have somebody else decide.',
          })
        }
        const { name } = request.body as ServerWish
        if (body.state === 'approved' && !state.current().find('mcp', name))
          throw new ChaperoneError('conflict', `There is no MCP server ${name} yet.`, {
            fix: `Run: chaperone mcp add --request ${request.id} --apply`,
          })
        return decided(request, body, session)
      },
    }),
    signedIn<Record<string, never>>({
      method: 'POST',
      path: '/v1/requests/:id/withdraw',
      // To take back what one has asked for needs nobody.
      who: { by: 'session' },
      body: z.strictObject({}),
      async handle({ params, session }): Promise<RequestRow> {
        const request = await findRequest(store.db, params.id ?? '', whose(session, false))
        assertPending(request)
        return decided(request, { state: 'withdrawn' }, session)
      },
    }),
  ]

  async function decided(
    request: AccessRequest,
    { state: now, reason }: { readonly state: 'approved' | 'denied' | 'withdrawn'; readonly reason?: string },
    session: LiveSession,
  ): Promise<RequestRow> {
    const { name } = request.body as ServerWish
    const resource = now === 'approved' ? state.current().find('mcp', name)?.resource.id : undefined
    await audit.append({
      ...actorOf(session),
      type: 'request.decided',
      data: {
        request: request.id,
        kind: request.kind,
        name,
        state: now,
        askedBy: request.identityId,
        // A person who says yes to his own agent is no second pair of eyes.
        own: isOwn(request, session.principal.identityId),
        ...(reason === undefined ? {} : { reason }),
        ...(resource === undefined ? {} : { resource }),
      },
    })
    await store.write((trx) => decideRequest(trx, request.id, { state: now, by: session.principal.identityId, now: clock.now() }))
    return rowOf(await findRequest(store.db, request.id, 'all'), session, false)
  }

  async function rowOf(request: AccessRequest, session: LiveSession, verb: boolean): Promise<RequestRow> {
    const nameOf = async (id: string) => (await findIdentity(store.db, { id }))?.name ?? id
    return {
      id: request.id,
      kind: request.kind,
      by: await nameOf(request.identityId),
      wish: request.body as ServerWish,
      reason: request.reason,
      state: request.state,
      createdAt: request.createdAt,
      yours: verb && request.state === 'pending' && mayDecide(request, session.principal.chain),
      ...(request.decidedBy === undefined ? {} : { decidedBy: await nameOf(request.decidedBy) }),
      ...(request.decidedAt === undefined ? {} : { decidedAt: request.decidedAt }),
    }
  }
}

/** A request is read by others and kept (rule 5). */
function refuseSecrets(spec: Parameters<typeof flagsOfServer>[0]): void {
  const found = flagsOfServer(spec).find(({ code }) => code.startsWith('secret_in_') || code === 'url_user')
  if (!found) return
  throw new ChaperoneError('usage', `There is a secret in \`${found.where}\`, and a request is read by others.`, {
    fix: 'Name a sealed secret instead: --env NAME=secret:SECRET; an administrator sets it with `chaperone secret set SECRET`.',
  })
}
