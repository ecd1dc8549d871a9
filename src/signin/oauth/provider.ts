import { AsyncLocalStorage } from 'node:async_hooks'
import { generateKeyPairSync } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context, Interaction, Token } from 'oidc-provider'
import { errors, interactionPolicy, Provider } from 'oidc-provider'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../../errors.ts'
import type { Store } from '../../store/store.ts'
import type { Clients } from './clients.ts'
import type { Grants, Minted } from './grants.ts'
import { openRecords, type Records, type StoredPayload } from './records.ts'
import { DEFAULT_SCOPE, readResource, readsOnly, resourceUrl, SCOPES } from './resources.ts'
import { INTERACTION_COOKIE, ROUTES } from './routes.ts'

/** In seconds. An authorization waits for a person who may have to sign in first; its code goes from browser to client at once. */
const TTL = { interaction: 600, code: 60, accessToken: 600 } as const
const RESUME_COOKIE = '__Secure-chaperone-oauth-resume'
const SESSION_COOKIE = '__Host-chaperone-oauth-none'

export interface ProviderParts {
  /** the web listener as others reach it, `host[:port]` */
  readonly web: string
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
export type GrantHandler = (ask: { readonly clientId: string; readonly parameters: Readonly<Record<string, unknown>> }) => Promise<{
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

/** The OAuth server itself: the one place that knows the library. */
export interface OauthServer {
  readonly issuer: string
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>
  /** `cookie` is what the browser sent under INTERACTION_COOKIE: only in the browser where it began does it go on. Undefined when it is over. */
  pending(uid: string, cookie: string | undefined): Promise<Pending | undefined>
  /** Makes a grant; `agreed` is called with its id before anything is handed out. Returns where the browser goes on. */
  agree(uid: string, personId: string, agreed: (grantId: string) => Promise<void>): Promise<string>
  /** Returns where the browser goes on: the client is told. */
  refuse(uid: string): Promise<string>
}

/** Of RFC 8414, only what is so. The library would name more. */
const METADATA = [
  'issuer',
  'authorization_endpoint',
  'token_endpoint',
  'registration_endpoint',
  'revocation_endpoint',
  'grant_types_supported',
  'token_endpoint_auth_methods_supported',
  'token_endpoint_auth_signing_alg_values_supported',
  'authorization_response_iss_parameter_supported',
] as const

export function openProvider(parts: ProviderParts): OauthServer {
  const { web, store, clock, clients, grants, failed } = parts
  const issuer = `https://${web}`
  /** The path of what is being answered: what a grant that is destroyed means depends on it. */
  const answering = new AsyncLocalStorage<string>()
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

  function adapter(model: string): Records {
    if (model === 'Client') return clientRecords(clients)
    const records = openRecords(store, clock, model)
    if (model === 'Grant')
      return {
        ...records,
        async destroy(id) {
          await records.destroy(id)
          // The library destroys a grant when its code or a refresh token comes twice, and when its client gives it back.
          if (answering.getStore() === ROUTES.revocation) await grants.end(id)
          else await grants.reused(id)
        },
      }
    if (model !== 'RefreshToken' && model !== 'AuthorizationCode') return records
    return {
      ...records,
      async consume(id) {
        try {
          await records.consume(id)
        } catch (error) {
          if (!(error instanceof ChaperoneError) || error.code !== 'conflict') throw error
          // The other one of two that came at the same moment.
          const payload = await records.find(id)
          if (payload?.grantId !== undefined) await grants.reused(payload.grantId)
          throw new errors.InvalidGrant('used already')
        }
      },
    }
  }

  /** Called by the library just before an access token is saved: the one that it would make goes nowhere, ours takes its place. */
  async function mint(context: Context, token: Token): Promise<undefined> {
    const audience = typeof token.aud === 'string' ? token.aud : undefined
    if (audience === undefined) throw new errors.InvalidTarget('say which resource')
    const thumbprint = token['x5t#S256']
    const ask = { audience, ...(thumbprint === undefined ? {} : { thumbprint }) }
    const agent = token.kind === 'ClientCredentials' ? clients.agentOf(token.clientId) : undefined
    if (token.kind === 'ClientCredentials' && agent === undefined) throw new errors.InvalidClient('this client does not come by itself')
    // What it may do is for its roles to say, not for its token: one that says less than it opens would be handed on as less.
    if (agent !== undefined && readsOnly(context.oidc.params.scope))
      throw new errors.InvalidScope('an agent by itself has all of its roles', 'mcp:read')
    const made = agent === undefined ? grants.mint(token.grantId ?? '', ask) : grants.mintForAgent(agent, token.clientId, ask)
    minted.set(context, await asked(made))
  }

  const { Check, Prompt } = interactionPolicy
  // Each authorization is answered by a person on our page: any program on his computer can send him here in a client's name.
  const policy = [
    new Prompt(
      { name: 'consent', requestable: true },
      new Check('unanswered', 'a person must agree', 'consent_required', ({ oidc }) => oidc.result?.consent?.grantId === undefined),
    ),
  ]
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const provider = new Provider(issuer, {
    adapter,
    // It signs ID tokens, of which there are none; without a key of its own the library takes one that everybody knows.
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' }] },
    routes: { ...ROUTES, jwks: '/oauth/none/jwks', end_session: '/oauth/none/end' },
    cookies: {
      names: { session: SESSION_COOKIE, interaction: INTERACTION_COOKIE, resume: RESUME_COOKIE },
      keys: [parts.cookieKey],
      short: { httpOnly: true, secure: true, sameSite: 'lax', path: '/', overwrite: true, signed: true },
      long: { httpOnly: true, secure: true, sameSite: 'lax', path: '/', overwrite: true, signed: true },
    },
    features: {
      devInteractions: { enabled: false },
      userinfo: { enabled: false },
      rpInitiatedLogout: { enabled: false },
      claimsParameter: { enabled: false },
      requestObjects: { enabled: false },
      pushedAuthorizationRequests: { enabled: false },
      dPoP: { enabled: false },
      introspection: { enabled: false },
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      registration: { enabled: parts.registration, issueRegistrationAccessToken: false },
      resourceIndicators: {
        enabled: true,
        // Who does not say which gets what opens the least names: the endpoint of all servers, where each is judged by itself.
        defaultResource: () => resourceUrl(web, undefined),
        useGrantedResource: () => true,
        getResourceServerInfo({ oidc }: Context, indicator: string) {
          // He reads of one and agrees to one.
          if ([oidc.params.resource].flat().length > 1) throw new errors.InvalidTarget('ask for one resource at a time')
          const resource = readResource(web, indicator)
          if (!resource) throw new errors.InvalidTarget('this is no MCP server here; its address begins with the issuer')
          return {
            scope: SCOPES.join(' '),
            audience: resourceUrl(web, resource.server),
            accessTokenFormat: 'opaque',
            accessTokenTTL: TTL.accessToken,
          }
        },
      },
    },
    scopes: [...SCOPES],
    claims: {},
    responseTypes: ['code'],
    clientAuthMethods: ['none', 'private_key_jwt'],
    clientDefaults: { response_modes: ['query'], token_endpoint_auth_method: 'none', id_token_signed_response_alg: 'ES256' },
    enabledJWA: { clientAuthSigningAlgValues: ['ES256', 'EdDSA', 'Ed25519', 'PS256', 'RS256'], idTokenSigningAlgValues: ['ES256'] },
    pkce: { required: () => true },
    clientBasedCORS: () => true,
    conformIdTokenClaims: true,
    expiresWithSession: () => false,
    issueRefreshToken: (_context: Context, client: { grantTypeAllowed(type: string): boolean }) => client.grantTypeAllowed('refresh_token'),
    // Asked before the old one is used up: who may not have a new one has not lost the old one by asking.
    async rotateRefreshToken({ oidc }: Context) {
      const held = oidc.entities.RefreshToken
      const { resource } = oidc.params
      if (readsOnly(oidc.params.scope) && !readsOnly(held?.scope))
        throw new errors.InvalidScope('what was agreed to is not made less here', 'mcp:read')
      if (resource !== undefined && ![held?.resource].flat().includes(String(resource))) throw new errors.InvalidTarget()
      if (held) await asked(grants.assertLive(held.grantId))
      return true
    },
    extraTokenClaims: mint,
    findAccount: (_context: Context, id: string) => ({ accountId: id, claims: async () => ({ sub: id }) }),
    interactions: { policy, url: (_context: Context, interaction: Interaction) => `${ROUTES.consent}/${interaction.uid}` },
    ttl: {
      Interaction: TTL.interaction,
      AuthorizationCode: TTL.code,
      AccessToken: TTL.accessToken,
      ClientCredentials: TTL.accessToken,
      Session: TTL.interaction,
      // The house's own grant ends earlier, and is asked each time.
      Grant: 9 * 3_600,
      RefreshToken: 9 * 3_600,
      IdToken: TTL.code,
    },
    async renderError(context: Context, out: { readonly error: string; readonly error_description?: string }) {
      context.type = 'text/plain; charset=utf-8'
      context.body = `This sign-in cannot go on: ${out.error_description ?? out.error}\nGo back to your client and begin anew.\n`
    },
    fetch: parts.fetch,
  })
  provider.proxy = true
  provider.on('server_error', (_context: never, error: never) => failed(error, 'oauth'))

  for (const [name, { parameters, answer }] of Object.entries(parts.more ?? {})) {
    provider.registerGrantType(
      name,
      async (context) => {
        const given = await asked(answer({ clientId: context.oidc.client.clientId, parameters: { ...context.oidc.params } }))
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
    if (context.path.startsWith('/.well-known/') && context.status === 200) context.body = metadata(context.body as Record<string, unknown>)
    const token = minted.get(context)
    if (token && context.status === 200)
      context.body = { ...(context.body as object), access_token: token.token, token_type: 'Bearer', expires_in: secondsLeft(token) }
  })
  const callback = provider.callback()
  const secondsLeft = ({ notAfter }: Minted) => Math.max(1, Math.floor((notAfter - clock.now()) / 1000))

  const metadata = (all: Readonly<Record<string, unknown>>) => ({
    ...Object.fromEntries(METADATA.filter((name) => all[name] !== undefined).map((name) => [name, all[name]])),
    grant_types_supported: (all.grant_types_supported as string[]).filter((grant) => grant !== 'implicit'),
    response_types_supported: ['code'],
    response_modes_supported: ['query'],
    code_challenge_methods_supported: ['S256'],
    scopes_supported: [DEFAULT_SCOPE],
    client_id_metadata_document_supported: true,
    protected_resources: [resourceUrl(web, undefined)],
  })

  const interactionOf = async (uid: string): Promise<Interaction | undefined> => provider.Interaction.find(uid)

  return {
    issuer,

    async handle(request, response) {
      // Its addresses are ours, whatever the client calls us by: each of them is compared letter by letter (RFC 9207, RFC 8414).
      request.headers.host = web
      request.headers['x-forwarded-proto'] = 'https'
      delete request.headers['x-forwarded-host']
      const path = (request.url ?? '/').split('?', 1)[0]!
      await answering.run(path, () => callback(request, response))
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
        resource: [resource].flat().map(String)[0] ?? resourceUrl(web, undefined),
        scopes: String(scope ?? DEFAULT_SCOPE).split(' '),
      }
    },

    async agree(uid, personId, agreed) {
      const found = await interactionOf(uid)
      if (!found) throw new ChaperoneError('not_found', 'This sign-in is over.', { fix: 'Begin anew in the client.' })
      const grant = new provider.Grant({ accountId: personId, clientId: String(found.params.client_id) })
      for (const resource of [found.params.resource ?? resourceUrl(web, undefined)].flat())
        grant.addResourceScope(String(resource), String(found.params.scope ?? DEFAULT_SCOPE))
      const grantId = await grant.save()
      try {
        await agreed(grantId)
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

/** What an answer of the OAuth server to a browser may do: nothing. */
const HEADERS = {
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'Referrer-Policy': 'no-referrer',
} as const

/** Of OpenID Connect, which is not spoken here: some clients send them to everybody. A person is asked each time, whatever `prompt` says. */
const OF_OPENID: ReadonlySet<string> = new Set(['acr_values', 'claims', 'claims_locales', 'id_token_hint', 'max_age', 'nonce'])

/** Of the scopes that are asked for only ours are looked at; whoever names none of them asks for the usual one. */
function asOurs(sent: Context['query']): Context['query'] {
  const query = Object.fromEntries(Object.entries(sent).filter(([name, value]) => !OF_OPENID.has(name) && (name !== 'prompt' || value === 'none')))
  if (Array.isArray(query.scope)) return query
  const wanted = (query.scope ?? '').split(' ').filter((scope) => (SCOPES as readonly string[]).includes(scope))
  return { ...query, scope: wanted.length === 0 ? DEFAULT_SCOPE : [...new Set(wanted)].join(' ') }
}

function dropCookie(context: Context, name: string): void {
  const set = [context.response.get('set-cookie')].flat().filter((cookie) => cookie !== '' && cookie !== undefined)
  const kept = set.filter((cookie) => !cookie.startsWith(`${name}=`) && !cookie.startsWith(`${name}.sig=`))
  if (kept.length === set.length) return
  if (kept.length === 0) context.remove('Set-Cookie')
  else context.set('Set-Cookie', kept)
}

/** Clients are found by documents, registration and their own metadata documents. */
function clientRecords(clients: Clients): Records {
  const none = async () => undefined
  return {
    async find(id) {
      try {
        return (await clients.find(id)) as StoredPayload | undefined
      } catch (error) {
        const { message, fix } = toChaperoneError(error)
        throw new errors.InvalidClient([message, fix].filter(Boolean).join(' '))
      }
    },
    async upsert(_id, payload) {
      try {
        await clients.register(payload)
      } catch (error) {
        const { message, detail, code } = toChaperoneError(error)
        throw code === 'malformed' ? new errors.InvalidClientMetadata(`${message} ${detail ?? ''}`.trim()) : error
      }
    },
    findByUid: none,
    findByUserCode: none,
    consume: async () => {},
    destroy: async () => {},
    revokeByGrantId: async () => {},
  }
}
