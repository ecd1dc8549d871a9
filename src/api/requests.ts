import { z } from 'zod'
import { REQUEST_KINDS, REQUEST_STATES } from '../access/requests/machine.ts'
import type { AccessRequest, AskAccess, RequestFilter } from '../access/requests/types.ts'
import { flagsOfServer } from '../catalog/flag-server.ts'
import { ChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import { documentOf, serverWish } from './mcp-scan.ts'
import type { ApiParts } from './parts.ts'
import type { RequestAsk, RequestDecide, RequestDetail, RequestRow, RequestWay } from './requests-contract.ts'
import { makeRequestEvents } from './requests-events.ts'
import { beforeOf } from './requests-history.ts'
import { rowsOf, shownOf } from './requests-rows.ts'
import { type Route, signedIn } from './route.ts'
import { count, duration, nameText, purposeText, ttlText } from './words.ts'

/** Who sees and who decides is said by `Requests`, for every way in alike; here nothing is added to it, and nothing taken away. */
const session = { by: 'session' } as const
const SMALL = 16 * 1024
const MOST = 500

const reason = z.string().min(1).max(500)
const hash = z.string().regex(/^[0-9a-f]{64}$/, 'must be the `seen` of the request as it was shown')
const nothing = z.strictObject({})

const accessAsk = z.strictObject({
  kind: z.literal('access'),
  role: nameText,
  resource: z.strictObject({ kind: z.string().min(1).max(32), name: nameText }).optional(),
  for: ttlText.optional(),
  startsAt: z.number().int().positive().max(Number.MAX_SAFE_INTEGER).optional(),
  reason: reason.optional(),
  purpose: purposeText.optional(),
  breakGlass: z.literal(true).optional(),
})
const serverAsk = z.strictObject({ kind: z.literal('server'), ...serverWish, reason, purpose: purposeText.optional() })

const MINE = ['asked', 'to_decide'] as const

export function requestRoutes(parts: ApiParts): { readonly routes: readonly Route[]; close(): void } {
  const { requests } = parts
  const events = makeRequestEvents(parts)
  const row = async (session: LiveSession, { id }: Pick<AccessRequest, 'id'>): Promise<RequestRow> =>
    (await rowsOf(parts, [await requests.show(session, id)]))[0]!

  const routes = [
    signedIn<RequestAsk>({
      method: 'POST',
      path: '/v1/requests',
      who: session,
      limit: 64 * 1024,
      body: z.discriminatedUnion('kind', [accessAsk, serverAsk]) as z.ZodType<RequestAsk>,
      handle: async ({ body, session }): Promise<RequestRow> => row(session, await ask(session, body)),
    }),
    signedIn({
      method: 'GET',
      path: '/v1/requests',
      who: session,
      async handle({ session, query }): Promise<{ requests: readonly RequestRow[] }> {
        return { requests: await rowsOf(parts, await requests.list(session, filterOf(query))) }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/requests/ways',
      who: session,
      async handle({ session }): Promise<{ ways: readonly RequestWay[] }> {
        const state = parts.state.current()
        return { ways: requests.ways(session).map((way) => ({ ...way, by: state.identity(way.link)?.name ?? way.link })) }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/requests/events',
      who: session,
      handle: async ({ session, lastEvent }) => events.open(session, lastEvent),
    }),
    signedIn({
      method: 'GET',
      path: '/v1/requests/:id',
      who: session,
      async handle({ params, session }): Promise<RequestDetail> {
        const seen = await requests.show(session, params.id ?? '')
        const [shown] = await rowsOf(parts, [seen])
        const before = await beforeOf(parts, session, seen)
        return { ...shown!, shown: await shownOf(seen), ...(before ? { before } : {}) }
      },
    }),
    signedIn<RequestDecide>({
      method: 'POST',
      path: '/v1/requests/:id/decide',
      who: session,
      factor: () => true,
      limit: SMALL,
      body: z.strictObject({
        verdict: z.enum(['approve', 'deny']),
        seen: hash,
        reason: reason.optional(),
        for: ttlText.optional(),
        below: z.literal(true).optional(),
      }),
      summary: ({ params, body }) => `${body.verdict} ${params.id}`,
      async handle({ params, body, session }): Promise<RequestRow> {
        const { for: time, ...decide } = body
        const forMs = time === undefined ? {} : { forMs: howLong(time) }
        return row(session, await requests.decide(session, params.id ?? '', { ...decide, ...forMs, how: 'cli' }))
      },
    }),
    signedIn<Record<string, never>>({
      method: 'POST',
      path: '/v1/requests/:id/withdraw',
      who: session,
      limit: SMALL,
      body: nothing,
      handle: async ({ params, session }): Promise<RequestRow> => row(session, await requests.withdraw(session, params.id ?? '')),
    }),
    signedIn<{ reason: string }>({
      method: 'POST',
      path: '/v1/requests/:id/revoke',
      who: session,
      factor: () => true,
      limit: SMALL,
      body: z.strictObject({ reason }),
      summary: ({ params }) => `revoke ${params.id}`,
      handle: async ({ params, body, session }): Promise<RequestRow> => row(session, await requests.revoke(session, params.id ?? '', body.reason)),
    }),
    signedIn<{ note: string }>({
      method: 'POST',
      path: '/v1/requests/:id/review',
      who: session,
      factor: () => true,
      limit: SMALL,
      body: z.strictObject({ note: reason }),
      summary: ({ params }) => `review ${params.id}`,
      handle: async ({ params, body, session }): Promise<RequestRow> => row(session, await requests.review(session, params.id ?? '', body.note)),
    }),
  ]

  async function ask(session: LiveSession, body: RequestAsk): Promise<AccessRequest> {
    if (body.kind === 'access') {
      const { kind: _, for: time, ...rest } = body
      const wish: AskAccess = rest
      return requests.ask(session, { ...wish, ...(time === undefined ? {} : { forMs: howLong(time) }) })
    }
    const { kind: _, reason, purpose, ...wish } = body
    const { spec } = documentOf(parts, wish)
    refuseSecrets(spec)
    return requests.askServer(session, { wish, reason, ...(purpose === undefined ? {} : { purpose }) })
  }

  return { routes, close: () => events.close() }
}

/** How long at the most is for the role to say; this is what a number can hold. */
const howLong = (text: string): number => duration(text, { shortestMs: 1000, longestMs: 366 * 24 * 3_600_000 }, 'A grant')

function filterOf(query: URLSearchParams): RequestFilter {
  const one = <T extends string>(key: string, values: readonly T[]): T | undefined => {
    const value = query.get(key)
    if (value === null) return undefined
    if (!(values as readonly string[]).includes(value)) throw new ChaperoneError('usage', `\`${key}\` is one of ${values.join(', ')}.`)
    return value as T
  }
  const [state, kind, mine] = [one('state', REQUEST_STATES), one('kind', REQUEST_KINDS), one('mine', MINE)]
  return { ...(state ? { state } : {}), ...(kind ? { kind } : {}), ...(mine ? { mine } : {}), limit: count(query, 'limit', MOST, 200) }
}

/** A request is read by others and kept (rule 5). */
function refuseSecrets(spec: Parameters<typeof flagsOfServer>[0]): void {
  const found = flagsOfServer(spec).find(({ code }) => code.startsWith('secret_in_') || code === 'url_user')
  if (!found) return
  throw new ChaperoneError('usage', `There is a secret in \`${found.where}\`, and a request is read by others.`, {
    fix: 'Name a sealed secret instead: --env NAME=secret:SECRET; an administrator sets it with `chaperone secret set SECRET`.',
  })
}
