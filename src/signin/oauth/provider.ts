import { AsyncLocalStorage } from 'node:async_hooks'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context, Interaction, Token } from 'oidc-provider'
import { errors, Provider } from 'oidc-provider'
import { isLoopbackRedirect } from '../../catalog/oauth-client.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../../errors.ts'
import { addressOf } from '../../network/forwarded.ts'
import type { Store } from '../../store/store.ts'
import { type Answering, makeAdapter } from './adapter.ts'
import { asOurs, dropCookie, HEADERS, metadata, stopped } from './answers.ts'
import type { Clients } from './clients.ts'
import type { Grants, Minted } from './grants.ts'
import type { Holder } from './holder.ts'
import { canonical, DEFAULT_SCOPE, readsOnly, resourceUrl, type Scope } from './resources.ts'
import { ROUTES } from './routes.ts'
import { SESSION_COOKIE, settingsOf } from './settings.ts'

interface OauthServerParts {
  /** as others reach them, `host[:port]`: the web listener, which is the issuer, and the one where certificates are shown */
  readonly places: { readonly web: string; readonly data: string }
  readonly trustDomain: string
  readonly store: Store
  readonly clock: Clock
  readonly clients: Clients
  readonly grants: Grants
  /** signs the cookies */
  readonly cookieKey: string
  /** whether clients may register themselves */
  readonly registration: boolean
  /** further grants, by the library's name for them */
  readonly more?: Readonly<Record<string, { readonly parameters: readonly string[]; readonly answer: GrantHandler }>>
  readonly fetch: (url: string | URL, init?: RequestInit) => Promise<Response>
  /** a fault of ours */
  readonly failed: (error: unknown, where: string) => void
}

/** What a client that has proven who it is gets for what it brings. Throws ChaperoneError. */
export type GrantHandler = (ask: {
  readonly clientId: string
  readonly parameters: Readonly<Record<string, unknown>>
  readonly holder?: Holder
}) => Promise<{
  readonly minted: Minted
  readonly scope?: string
  /** RFC 8693 */
  readonly issuedTokenType?: string
}>

/** An authorization that waits for its person. */
export interface Pending {
  readonly uid: string
  readonly clientId: string
  readonly redirectUri: string
  readonly resource: string
  readonly scopes: readonly string[]
}

/** The OAuth server itself: this folder's way to the library. */
export interface OauthServer {
  readonly issuer: string
  /** `holder`: of the certificate that the request came with. */
  handle(request: IncomingMessage, response: ServerResponse, holder?: Holder): Promise<void>
  /** `cookie` is what the browser sent under INTERACTION_COOKIE: only in the browser where it began does it go on. Undefined when it is over. */
  pending(uid: string, cookie: string | undefined): Promise<Pending | undefined>
  /** Makes a grant; `agreed` is called with its id before anything is handed out, and says what the client is told. Returns where the browser goes on. */
  agree(uid: string, personId: string, agreed: (grantId: string) => Promise<Scope>): Promise<string>
  /** Returns where the browser goes on: the client is told. */
  refuse(uid: string): Promise<string>
}

export function openOauthServer(parts: OauthServerParts): OauthServer {
  const { places, store, clock, clients, grants, failed, trustDomain } = parts
  const { web } = places
  const issuer = `https://${web}`
  const requests = new AsyncLocalStorage<Answering>()
  const answering = () => requests.getStore()
  const holding = (): { readonly holder?: Holder } => {
    const holder = answering()?.holder
    return holder === undefined ? {} : { holder }
  }
  const minted = new WeakMap<Context, Minted>()

  /** The client is told what RFC 6749 has a word for, and no more; why is in the record. */
  const refusal = (thrown: unknown): Error => {
    if (thrown instanceof errors.OIDCProviderError) return thrown
    const error = toChaperoneError(thrown)
    // Later it may; a client that hears `invalid_grant` throws away what it holds.
    if (error.code === 'too_many') return new errors.TemporarilyUnavailable(error.message)
    if (REASONS[error.code].http < 500) return new errors.InvalidGrant(`${error.code}: ${error.message}`)
    failed(thrown, 'oauth')
    return new errors.TemporarilyUnavailable()
  }
  const asked = <T>(work: Promise<T>): Promise<T> => work.catch((error: unknown) => Promise.reject(refusal(error)))

  /** Called by the library just before an access token is saved: the one that it would make goes nowhere, ours takes its place. */
  async function mint(context: Context, token: Token): Promise<undefined> {
    const audience = typeof token.aud === 'string' ? token.aud : undefined
    if (audience === undefined) throw new errors.InvalidTarget('say which resource')
    const { client, params } = context.oidc
    const ask = { audience, scope: readsOnly(token.scope) ? 'mcp:read' : DEFAULT_SCOPE, ...holding() } as const
    if (token.kind !== 'ClientCredentials') return keep(context, grants.mint(token.grantId ?? '', ask))
    // What it may do is for its roles to say, not for its token: one that says less than it opens would be handed on as less.
    if (readsOnly(params.scope)) throw new errors.InvalidScope('an agent by itself has all of its roles', 'mcp:read')
    if (ask.holder && client.clientAuthMethod === 'tls_client_auth') return keep(context, grants.mintForHolder(ask.holder, token.clientId, ask))
    const agent = clients.agentOf(token.clientId)
    if (agent === undefined) throw new errors.InvalidClient('this client does not come by itself')
    return keep(context, grants.mintForAgent(agent, token.clientId, ask))
  }
  async function keep(context: Context, made: Promise<Minted>): Promise<undefined> {
    minted.set(context, await asked(made))
  }

  async function mayRefresh({ oidc }: Context): Promise<void> {
    const held = oidc.entities.RefreshToken
    const { resource, scope } = oidc.params
    if (readsOnly(scope) && !readsOnly(held?.scope)) throw new errors.InvalidScope('what was agreed to is not made less here', 'mcp:read')
    const given = [held?.resource].flat().map((one) => canonical(places, String(one)))
    if (resource !== undefined && !given.includes(canonical(places, String(resource)))) throw new errors.InvalidTarget()
    if (held) await asked(grants.assertLive(held.grantId, answering()?.holder))
  }

  const provider = new Provider(
    issuer,
    settingsOf({
      ...parts,
      ...places,
      trustDomain,
      adapter: makeAdapter({ store, clock, clients, grants, answering }),
      holder: () => answering()?.holder,
      mint,
      mayRefresh,
    }),
  )
  provider.proxy = true
  provider.on('server_error', (_context: never, error: never) => failed(error, 'oauth'))

  for (const [name, { parameters, answer }] of Object.entries(parts.more ?? {})) {
    provider.registerGrantType(
      name,
      async (context) => {
        const given = await asked(answer({ clientId: context.oidc.client.clientId, parameters: { ...context.oidc.params }, ...holding() }))
        context.body = {
          access_token: given.minted.token,
          token_type: 'Bearer',
          expires_in: secondsLeft(given.minted),
          ...(given.scope === undefined ? {} : { scope: given.scope }),
          ...(given.issuedTokenType === undefined ? {} : { issued_token_type: given.issuedTokenType }),
        }
      },
      [...parameters],
      ['resource', 'audience'],
    )
  }

  provider.use(async (context, next) => {
    if (context.path === ROUTES.authorization) context.query = asOurs(context.query)
    await next()
    // Known by the library's own cookie is nobody.
    dropCookie(context, SESSION_COOKIE)
    for (const [name, value] of Object.entries(HEADERS)) context.set(name, value)
    if (context.path === ROUTES.authorization) keepHere(context)
    if (context.path === ROUTES.revocation) await giveBack(context)
    if (context.path.startsWith('/.well-known/') && context.status === 200) context.body = metadata(context.body as Record<string, unknown>, places)
    const token = minted.get(context)
    if (token && context.status === 200)
      context.body = { ...(context.body as object), access_token: token.token, token_type: 'Bearer', expires_in: secondsLeft(token) }
  })
  const callback = provider.callback()
  const secondsLeft = ({ notAfter }: Minted) => Math.max(1, Math.floor((notAfter - clock.now()) / 1000))

  /** RFC 7009. The library knows no access token of ours, and says so once it knows whose client asks: then it is our turn. */
  async function giveBack(context: Context): Promise<void> {
    if ((context.body as { readonly error?: string } | undefined)?.error !== 'unsupported_token_type') return
    const { client, params } = context.oidc
    try {
      await grants.giveBack(String(params.token), client.clientId)
      context.status = 200
      context.body = ''
    } catch (error) {
      if (toChaperoneError(error).code !== 'too_many') failed(error, ROUTES.revocation)
      context.status = 503
      context.body = { error: 'temporarily_unavailable' }
    }
  }

  /**
   * Before anybody was asked, nobody is sent to a stranger's site: who makes a client known himself would have a redirect from this
   * server's good name to wherever he likes (RFC 9700 section 4.11.2). A program on the person's computer is no site.
   */
  function keepHere(context: Context): void {
    const to = URL.parse([context.response.get('location')].flat()[0] ?? '')
    if (!to || isLoopbackRedirect(to.href) || clients.named(String(context.query.client_id))) return
    context.remove('Location')
    context.status = 400
    context.type = 'text/plain; charset=utf-8'
    context.body = stopped(to.searchParams.get('error_description') ?? to.searchParams.get('error') ?? 'its request cannot be answered')
  }

  const interactionOf = async (uid: string): Promise<Interaction | undefined> => provider.Interaction.find(uid)

  return {
    issuer,

    async handle(request, response, holder) {
      // Its addresses are ours, whatever the client calls us by: each of them is compared letter by letter (RFC 9207, RFC 8414).
      request.headers.host = web
      request.headers['x-forwarded-proto'] = 'https'
      delete request.headers['x-forwarded-host']
      const path = (request.url ?? '/').split('?', 1)[0]!
      await requests.run({ path, from: addressOf(request), ...(holder === undefined ? {} : { holder }) }, () => callback(request, response))
    },

    async pending(uid, cookie) {
      if (cookie !== uid) return undefined
      const found = await interactionOf(uid)
      if (!found || found.result !== undefined) return undefined
      const { client_id, redirect_uri, resource, scope } = found.params
      return {
        uid,
        clientId: String(client_id),
        redirectUri: String(redirect_uri),
        resource: canonical(places, [resource].flat().map(String)[0] ?? resourceUrl(web, undefined)),
        scopes: String(scope ?? DEFAULT_SCOPE).split(' '),
      }
    },

    async agree(uid, personId, agreed) {
      const found = await interactionOf(uid)
      if (!found) throw new ChaperoneError('not_found', 'This sign-in is over.', { fix: 'Begin anew in the client.' })
      const grant = new provider.Grant({ accountId: personId, clientId: String(found.params.client_id) })
      const grantId = await grant.save()
      try {
        const given = await agreed(grantId)
        const scope = given === DEFAULT_SCOPE ? String(found.params.scope ?? given) : given
        for (const resource of [found.params.resource ?? resourceUrl(web, undefined)].flat()) grant.addResourceScope(String(resource), scope)
        await grant.save()
        // The rest of the way it is as if no more had been asked for: so the client is told what it got, and asks again where that is too little.
        Object.assign(found, { params: { ...found.params, scope } })
      } catch (error) {
        await grant.destroy()
        throw error
      }
      found.result = { login: { accountId: personId, remember: false }, consent: { grantId } }
      await found.save(secondsOf(found))
      return found.returnTo
    },

    async refuse(uid) {
      const found = await interactionOf(uid)
      if (!found) throw new ChaperoneError('not_found', 'This sign-in is over.', { fix: 'Begin anew in the client.' })
      found.result = { error: 'access_denied', error_description: 'the person said no' }
      await found.save(secondsOf(found))
      return found.returnTo
    },
  }

  function secondsOf({ exp }: Interaction): number {
    return Math.max(1, exp - Math.floor(clock.now() / 1000))
  }
}
