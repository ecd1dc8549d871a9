import { generateKeyPairSync } from 'node:crypto'
import type { Context, Interaction } from 'oidc-provider'
import { errors, interactionPolicy } from 'oidc-provider'
import type { Clock } from '../../clock.ts'
import { stopped } from './answers.ts'
import { faultOfClientProof } from './client-proof.ts'
import { type Holder, uriOf } from './holder.ts'
import type { Records } from './records.ts'
import { canonical, readResource, resourceUrl, SCOPES } from './resources.ts'
import { INTERACTION_COOKIE, ROUTES } from './routes.ts'

/** In seconds. An authorization waits for a person who may have to sign in first; its code goes from browser to client at once. */
const TTL = { interaction: 600, code: 60, accessToken: 600 } as const
const RESUME_COOKIE = '__Secure-chaperone-oauth-resume'
export const SESSION_COOKIE = '__Host-chaperone-oauth-none'

interface SettingsParts {
  readonly web: string
  /** the listener where certificates are shown */
  readonly data: string
  readonly trustDomain: string
  readonly clock: Clock
  /** signs the cookies */
  readonly cookieKey: string
  /** whether clients may register themselves */
  readonly registration: boolean
  readonly fetch: (url: string | URL, init?: RequestInit) => Promise<Response>
  readonly adapter: (model: string) => Records
  /** of the request that is being answered */
  readonly holder: () => Holder | undefined
  /** Called just before an access token is saved. */
  readonly mint: (context: Context, token: never) => Promise<undefined>
  /** Throws when a refresh token may not be used now. */
  readonly mayRefresh: (context: Context) => Promise<void>
}

/** What of the library is on, and how: everything that could be decided by a client is decided here. */
export function settingsOf({
  web,
  data,
  trustDomain,
  clock,
  cookieKey,
  registration,
  fetch,
  adapter,
  holder,
  mint,
  mayRefresh,
}: SettingsParts): object {
  const { Check, Prompt } = interactionPolicy
  // Each authorization is answered by a person on our page: any program on his computer can send him here in a client's name.
  const policy = [
    new Prompt(
      { name: 'consent', requestable: true },
      new Check('unanswered', 'a person must agree', 'consent_required', ({ oidc }) => oidc.result?.consent?.grantId === undefined),
    ),
  ]
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const cookie = { httpOnly: true, secure: true, sameSite: 'lax', path: '/', overwrite: true, signed: true } as const
  return {
    adapter,
    // It signs ID tokens, of which there are none; without a key of its own the library takes one that everybody knows.
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' }] },
    routes: { ...ROUTES, jwks: '/oauth/none/jwks', end_session: '/oauth/none/end' },
    cookies: {
      names: { session: SESSION_COOKIE, interaction: INTERACTION_COOKIE, resume: RESUME_COOKIE },
      keys: [cookieKey],
      short: cookie,
      long: cookie,
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
      registration: { enabled: registration, issueRegistrationAccessToken: false },
      // Only who a client is: what its tokens are bound to is for grants.ts to say, because certificates are renewed.
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        getCertificate: () => holder()?.thumbprint,
        certificateAuthorized: () => holder() !== undefined,
        certificateSubjectMatches(_context: Context, property: string, expected: string) {
          const shown = holder()
          return shown !== undefined && property === 'tls_client_auth_san_uri' && expected === uriOf(shown, trustDomain)
        },
      },
      resourceIndicators: {
        enabled: true,
        // Who does not say which gets what opens the least names: the endpoint of all servers, where each is judged by itself.
        defaultResource: () => resourceUrl(web, undefined),
        useGrantedResource: () => true,
        getResourceServerInfo({ oidc }: Context, indicator: string) {
          // He reads of one and agrees to one.
          if ([oidc.params.resource].flat().length > 1) throw new errors.InvalidTarget('ask for one resource at a time')
          const resource = readResource(web, canonical({ web, data }, indicator))
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
    clientAuthMethods: ['none', 'private_key_jwt', 'tls_client_auth'],
    clientDefaults: { response_modes: ['query'], token_endpoint_auth_method: 'none', id_token_signed_response_alg: 'ES256' },
    enabledJWA: { clientAuthSigningAlgValues: ['ES256', 'EdDSA', 'Ed25519', 'PS256', 'RS256'], idTokenSigningAlgValues: ['ES256'] },
    assertJwtClientAuthClaimsAndHeader({ oidc }: Context, claims: Readonly<Record<string, unknown>>, header: Readonly<Record<string, unknown>>) {
      const fault = faultOfClientProof(claims, header, { issuer: oidc.issuer, now: clock.now() })
      if (fault !== undefined) throw new errors.InvalidClientAuth(fault)
    },
    pkce: { required: () => true },
    clientBasedCORS: () => true,
    conformIdTokenClaims: true,
    expiresWithSession: () => false,
    issueRefreshToken: (_context: Context, client: { grantTypeAllowed(type: string): boolean }) => client.grantTypeAllowed('refresh_token'),
    // Asked before the old one is used up: who may not have a new one has not lost the old one by asking.
    async rotateRefreshToken(context: Context) {
      await mayRefresh(context)
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
      context.body = stopped(out.error_description ?? out.error)
    },
    fetch,
  }
}
