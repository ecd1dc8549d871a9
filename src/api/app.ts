import type { IncomingMessage, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import { administer, FACTOR_VERBS, factorRequired, hasFreshFactor, type Verb } from '../access/administration.ts'
import { draftAction } from '../access/drafts.ts'
import type { Permit } from '../access/types.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../errors.ts'
import type { Connection, LiveSession } from '../identity/types.ts'
import { addressOf } from '../network/forwarded.ts'
import { knocking } from '../signin/knocking.ts'
import { agentRoutes } from './agents.ts'
import { askingOf, changes } from './asking.ts'
import { auditRoutes } from './audit.ts'
import { authorityRoutes } from './authorities.ts'
import { readBody } from './body.ts'
import { browserRoutes } from './browser.ts'
import { credentialRoutes } from './credentials.ts'
import { databaseRoutes } from './databases.ts'
import { delegationRoutes } from './delegations.ts'
import { documentRoutes } from './documents.ts'
import { enrolRoutes } from './enrol.ts'
import { explainRoutes } from './explain.ts'
import { identityRoutes } from './identities.ts'
import { issueRoutes } from './issue.ts'
import { joinRoutes } from './joins.ts'
import { lockRoutes } from './locks.ts'
import { mcpLoginRoutes } from './mcp-login.ts'
import { mcpScanRoutes } from './mcp-scan.ts'
import { notifierRoutes } from './notifiers.ts'
import type { ApiParts } from './parts.ts'
import { pinRoutes } from './pins.ts'
import { policyRoutes } from './policy.ts'
import { HEADERS, refuse } from './refuse.ts'
import { requestRoutes } from './requests.ts'
import { resourceRoutes } from './resources.ts'
import { type Asked, type Route, type SessionRoute, Streamed } from './route.ts'
import { runRoutes } from './runs.ts'
import { secretRoutes } from './secrets.ts'
import { sessionRoutes } from './sessions.ts'
import { upstreamCredentialRoutes } from './upstream-credentials.ts'

/** Who is behind a request, already authenticated by the listener; absent for routes that bring their own proof. */
export interface ApiCaller {
  readonly session: LiveSession
  /** Permits of a stream end with it. */
  readonly connection?: Connection
}

export interface Api {
  readonly routes: readonly Route[]
  /** For tests, and whoever already has a Request. `remote` is the peer's address. */
  fetch(request: Request, caller: ApiCaller | undefined, remote: string): Promise<Response>
  /** As a handler of a node listener. Answers everything under /v1/, errors too; never rejects. */
  handle(incoming: IncomingMessage, outgoing: ServerResponse, caller: ApiCaller | undefined): Promise<void>
  /** Ends the streams (shutdown). */
  close(): void
}

export function createApi(parts: ApiParts): Api {
  const audit = auditRoutes(parts)
  const requests = requestRoutes(parts)
  const sessions = sessionRoutes(parts)
  const routes: readonly Route[] = [
    ...enrolRoutes(parts),
    ...credentialRoutes(parts),
    ...runRoutes(parts),
    ...issueRoutes(parts),
    ...joinRoutes(parts),
    ...delegationRoutes(parts),
    ...browserRoutes(parts),
    ...documentRoutes(parts),
    ...explainRoutes(parts),
    ...policyRoutes(parts),
    ...identityRoutes(parts),
    ...agentRoutes(parts),
    ...sessions.routes,
    ...resourceRoutes(parts),
    ...lockRoutes(parts),
    ...pinRoutes(parts),
    ...mcpScanRoutes(parts),
    ...mcpLoginRoutes(parts),
    ...databaseRoutes(parts),
    ...requests.routes,
    ...audit.routes,
    ...authorityRoutes(parts),
    ...secretRoutes(parts),
    ...upstreamCredentialRoutes(parts),
    ...notifierRoutes(parts),
  ]
  const app = new Hono<{ Bindings: { caller: ApiCaller | undefined; remote: string } }>()

  for (const route of routes) {
    app.on(route.method, route.path, async (context) => {
      const { caller, remote } = context.env
      const request = context.req.raw
      const url = new URL(request.url)
      const lastEvent = request.headers.get('last-event-id')?.slice(0, 200)
      const asked = {
        params: context.req.param() as Record<string, string>,
        query: url.searchParams,
        remote,
        host: url.host,
        ...(lastEvent === undefined ? {} : { lastEvent }),
      }
      return answer(route, request, asked, caller)
    })
  }
  app.notFound(() => refuse(new ChaperoneError('not_found', 'There is no such path.')))
  app.onError((error) => refuse(error))

  async function answer(route: Route, request: Request, asked: Omit<Asked<unknown>, 'body'>, caller: ApiCaller | undefined): Promise<Response> {
    try {
      if (!isSessionRoute(route)) {
        if (!route.knows) parts.guesses(asked.remote, route.path)
        const { value } = await readBody(request, route.body, route.limit)
        if (route.knows) parts.guesses((await route.knows(value)) ?? asked.remote, route.path)
        return json(await knocking(asked.remote, () => route.handle({ ...asked, body: value })))
      }
      if (!caller)
        throw new ChaperoneError('unauthenticated', 'Show who you are: a client certificate is needed.', { fix: 'Sign in: chaperone login' })
      // A bearer token is worth minutes at one audience; what changes rights or brings credentials needs the key itself.
      if (caller.session.principal.proof !== 'mtls') throw new ChaperoneError('unauthenticated', 'A client certificate is needed here, not a token.')
      caller.session.assertLive()
      if (route.who.by === 'session') {
        const { value } = await readBody(request, route.body, route.limit)
        const whole = { ...asked, body: value, ...caller }
        if (!route.keepsAlive) caller.session.touch?.()
        // It decides something although it takes no verb: a rule may name who decides.
        if (route.factor) await assertFactor(caller.session, 'approve', route, value, route.summary?.(whole) ?? `${route.method} ${route.path}`)
        return respond(await route.handle(whole))
      }
      return await governed(route, route.who, request, asked, caller)
    } catch (thrown) {
      const error = toChaperoneError(thrown)
      if (error.code === 'internal' || error.code === 'audit_unavailable' || error.code === 'store_unavailable')
        parts.log(error, `${route.method} ${route.path}`)
      return refuse(error, isSessionRoute(route) && route.who.by === 'verbs' ? route.who.anyOf : [])
    }
  }

  /** Policy first, then the factor, then the record, then the work: a body is not even read for somebody without the verb. */
  async function governed(
    route: SessionRoute<unknown>,
    who: Extract<SessionRoute<unknown>['who'], { by: 'verbs' }>,
    request: Request,
    asked: Omit<Asked<unknown>, 'body'>,
    { session, connection }: ApiCaller,
  ): Promise<Response> {
    const on = connection ? { connection } : {}
    const action = (verb: Verb, summary: string, looks = false) => administer(parts.chaperone, verb, summary, { looks })
    const title = `${route.method} ${route.path}`
    const verdicts = who.anyOf.map((verb) => ({ verb, ...parts.guard.judge(session, action(verb, title, route.method === 'GET')) }))
    // What is asked about is held as well; the body says what is asked.
    const mayFreely = verdicts.some(({ verdict }) => verdict === 'allow')
    const allowed = verdicts.find(({ verdict }) => verdict === (mayFreely ? 'allow' : 'ask'))?.verb
    if (who.own && (who.own.when === 'first' || allowed === undefined)) {
      const { value, text } = await readBody(request, route.body, route.limit)
      const mine = await who.own.test({ ...asked, body: value, session } as Asked<unknown>)
      if (mine) {
        if (who.own.factor) await assertFactor(session, who.anyOf[0], route, value, route.summary?.({ ...asked, body: value }) ?? title)
        return respond(await route.handle({ ...asked, body: value, session, ...on }))
      }
      const unseen = allowed === undefined ? await who.own.unseen?.({ ...asked, body: value, session } as Asked<unknown>) : undefined
      if (!unseen) return withPermit(value, text)
      // Recorded as what it is: a refusal.
      return withPermit(value, text).catch((error: unknown) => {
        throw REASONS[toChaperoneError(error).code].http >= 500 ? error : unseen
      })
    }
    // Recorded as refused; what was sent is of no interest.
    if (allowed === undefined) return withPermit(undefined, '')
    const { value, text } = await readBody(request, route.body, route.limit)
    return withPermit(value, text)

    async function withPermit(body: unknown, text: string): Promise<Response> {
      const verb = allowed ?? who.anyOf[0]
      const whole = { ...asked, body }
      const summary = allowed === undefined ? title : (route.summary?.(whole) ?? title)
      if (allowed !== undefined) await assertFactor(session, verb, route, body, summary)
      const bodies = text === '' || route.secretBody ? {} : { bodies: [{ name: 'arguments', bytes: text }] }
      const given = { ...whole, session, ...on, verb }
      // Of who has no verb the body was not read.
      const changing = allowed === undefined ? route.method !== 'GET' : changes(route, body)
      const needsYes = allowed !== undefined && !mayFreely && changing
      const exact = needsYes ? route.exactly?.(given) : undefined
      const exactly = await exact?.catch(() => undefined)
      const looks = !changing || exactly?.nothing === true
      const asking = needsYes && !looks ? { asking: askingOf(parts, route, given, text, exact) } : {}
      const permit = await parts.guard.admit(session, action(verb, summary, looks), { ...on, ...bodies, ...asking })
      let outcome: unknown
      try {
        outcome = await route.handle({ ...given, permit, ...(exactly ? { exactly } : {}) })
      } catch (error) {
        parts.guard.settle(permit, { status: 'failed', facts: { reason: toChaperoneError(error).code } })
        throw error
      }
      settleLater(permit, outcome)
      return respond(outcome)
    }
  }

  /** A person's certificate alone changes nothing (design 3.3): whoever stole it, or an agent that runs as him, lacks the factor. */
  async function assertFactor(session: LiveSession, verb: Verb, route: SessionRoute<unknown>, body: unknown, summary: string): Promise<void> {
    const needed = FACTOR_VERBS.has(verb) && changes(route, body)
    // An agent of a person acts for a person, who is not there to give one; it never gets by on its kind.
    const { principal } = session
    const person = principal.kind === 'user' || principal.chain.some((link) => link.identity.startsWith('usr_'))
    if (!needed || !person || hasFreshFactor(session, parts.clock.now())) return
    await parts.audit.append({
      type: 'action.refused',
      actor: { id: principal.identityId, name: principal.name, kind: principal.kind },
      session: session.id,
      credential: principal.credentialId,
      action: draftAction(administer(parts.chaperone, verb, summary)),
      decision: { verdict: 'deny', reason: 'factor_required', link: principal.name, obligations: {} },
    })
    if (principal.kind !== 'user')
      throw new ChaperoneError('factor_required', 'A second factor of the person is needed for this, and what acts for him cannot give one.', {
        fix: 'The person does it himself.',
      })
    throw factorRequired()
  }

  function settleLater(permit: Permit, outcome: unknown): void {
    if (!(outcome instanceof Streamed)) {
      parts.guard.settle(permit, { status: 'ok' })
      return
    }
    outcome.done.then(
      () => parts.guard.settle(permit, { status: 'ok' }),
      () => parts.guard.settle(permit, { status: 'failed' }),
    )
  }

  const callers = new WeakMap<IncomingMessage, ApiCaller | undefined>()
  const listener = getRequestListener(
    (request, env) => {
      const incoming = env.incoming as IncomingMessage
      return api.fetch(request, callers.get(incoming), addressOf(incoming))
    },
    // The global Request and Response stay what they are: other libraries in this process use them too.
    { overrideGlobalObjects: false, errorHandler: (error) => refuse(error) },
  )

  const api: Api = {
    routes,
    async fetch(request, caller, remote) {
      // Hono would run the GET handler for a HEAD.
      if (request.method === 'HEAD') return refuse(new ChaperoneError('unsupported', 'HEAD is not supported.'))
      return app.fetch(request, { caller, remote })
    },
    async handle(incoming, outgoing, caller) {
      callers.set(incoming, caller)
      await listener(incoming, outgoing)
    },
    close() {
      audit.close()
      requests.close()
      sessions.close()
    },
  }
  return api
}

const isSessionRoute = (route: Route): route is SessionRoute<unknown> => route.who.by !== 'proof'

const json = (value: unknown): Response => new Response(JSON.stringify(value ?? {}), { headers: HEADERS })

const respond = (value: unknown): Response => (value instanceof Streamed ? value.response : json(value))
