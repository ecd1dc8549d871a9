import * as client from 'openid-client'
import type { DirectorySpec } from '../../catalog/directory.ts'
import { type Clock, systemClock } from '../../clock.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Outgoing } from '../../vault/outbound.ts'
import { CLOCKS_APART_S, type Claims, claimsAsked } from './claims.ts'

/** The only file that speaks to a provider: everything about its tokens is checked by the library, under the settings that stand here. */
export interface Providers {
  /** Where to send the person. */
  authorizationUrl(name: string, spec: DirectorySpec, ask: Ask & { readonly challenge: string; readonly fresh: boolean }): Promise<URL>
  /** What the provider says of whoever came back, and by what it can be asked again. Throws `directory_refused`, `upstream_unavailable`. */
  redeem(
    name: string,
    spec: DirectorySpec,
    ask: Ask & { readonly verifier: string; readonly fresh: boolean; readonly came: URL },
  ): Promise<{ readonly claims: Claims; readonly refresh: string | undefined }>
  /** Whether it still lets somebody in. Never throws. */
  askAgain(name: string, spec: DirectorySpec, of: { readonly refresh: string; readonly subject: string }): Promise<AskedAgain>
}

/** `nothing`: it could not be asked, which is neither. */
export type AskedAgain =
  | {
      readonly said: 'yes'
      /** the one to ask with next: most give another one each time */
      readonly refresh: string
      /** All that the document asks for; undefined where it did not say all of that. */
      readonly claims: Claims | undefined
    }
  | { readonly said: 'no' | 'nothing'; readonly why: string }

interface Ask {
  readonly redirect: string
  readonly state: string
  readonly nonce: string
}

export interface ProvidersParts {
  readonly outgoing: Outgoing
  readonly reveal: (secret: string) => Promise<string>
  readonly clock: Clock
}

/** A provider's metadata is looked at again after this; its keys sooner, when a token names one that is not known. */
const METADATA_MS = 10 * 60_000
/** With `fresh`: how long ago the person may have shown himself to the provider, in seconds. */
const FRESH_S = 60

export function openProviders({ outgoing, reveal, clock }: ProvidersParts): Providers {
  const known = new Map<string, Known>()

  async function configured(name: string, spec: DirectorySpec): Promise<Known> {
    if (spec.issuer === undefined || spec.client_id === undefined)
      throw new ChaperoneError('directory_refused', `Nobody signs in at ${name}.`, { detail: 'the document has no issuer' })
    const secret = spec.client_secret === undefined ? undefined : await reveal(spec.client_secret.secret)
    const of = canonicalJson([spec.issuer, spec.client_id, secret ?? null, spec.ca ?? null, spec.jwks ?? null, spec.allow_private])
    const there = known.get(name)
    if (there?.of === of && clock.now() - there.made < METADATA_MS) return there
    const found: Known = { made: clock.now(), of, configuration: await discover(name, spec, spec.issuer, spec.client_id, secret), keys: undefined }
    known.set(name, found)
    return found
  }

  async function discover(
    name: string,
    spec: DirectorySpec,
    issuer: string,
    clientId: string,
    secret: string | undefined,
  ): Promise<() => client.Configuration> {
    const send = outgoing.asFetch({ ca: spec.ca, allowPrivate: spec.allow_private })
    let pinnedAt: string | undefined
    const fetch: client.CustomFetch = async (url, { method, headers, body }) => {
      if (spec.jwks !== undefined && url === pinnedAt) return Response.json(spec.jwks)
      const text =
        body === undefined || body === null
          ? undefined
          : body instanceof URLSearchParams || typeof body === 'string'
            ? String(body)
            : Buffer.from(body as Uint8Array).toString('utf8')
      return send(url, { method, headers, ...(text === undefined ? {} : { body: text }) })
    }
    const auth = secret === undefined ? client.None() : client.ClientSecretPost(secret)
    try {
      const found = await client.discovery(new URL(issuer), clientId, undefined, auth, { [client.customFetch]: fetch, timeout: 0 })
      const { supportsPKCE: _, ...metadata } = found.serverMetadata()
      // RFC 8414 section 3.3, letter by letter: the library lets a trailing slash pass.
      if (metadata.issuer !== issuer) throw refused(name, `its metadata speaks of another issuer, ${String(metadata.issuer).slice(0, 100)}`)
      if (metadata.code_challenge_methods_supported !== undefined && !metadata.code_challenge_methods_supported.includes('S256'))
        throw refused(name, 'it does not know PKCE with S256')
      const basic =
        secret !== undefined && !(metadata.token_endpoint_auth_methods_supported ?? ['client_secret_basic']).includes('client_secret_post')
      const algorithms = (metadata.id_token_signing_alg_values_supported ?? ['RS256']).filter((one) => SIGNED.has(one))
      pinnedAt = metadata.jwks_uri
      return () => {
        const configuration = new client.Configuration(
          // Neither `none` nor a MAC, whose key the client would know, ever signs for a provider.
          { ...metadata, id_token_signing_alg_values_supported: algorithms },
          clientId,
          { [client.clockTolerance]: CLOCKS_APART_S },
          basic ? client.ClientSecretBasic(secret) : auth,
        )
        configuration[client.customFetch] = fetch
        configuration.timeout = 0
        // The library would trust TLS alone for what comes from the token endpoint (Core 3.1.3.7); a proxy that opens TLS is on that way.
        client.enableNonRepudiationChecks(configuration)
        return configuration
      }
    } catch (error) {
      throw told(name, error)
    }
  }

  return {
    async authorizationUrl(name, spec, { redirect, state, nonce, challenge, fresh }) {
      const { configuration } = await configured(name, spec)
      return client.buildAuthorizationUrl(configuration(), {
        redirect_uri: redirect,
        scope: spec.scopes.join(' '),
        state,
        nonce,
        code_challenge: challenge,
        code_challenge_method: 'S256',
        ...(fresh ? { prompt: 'login', max_age: '0' } : {}),
      })
    },

    async redeem(name, spec, { redirect, state, nonce, verifier, fresh, came }) {
      const there = await configured(name, spec)
      const configuration = withKeys(there)
      // What our own address looked like to the browser is not asked again of the request: it is the one that we gave the provider.
      const at = new URL(redirect)
      at.search = came.search
      try {
        const tokens = await client.authorizationCodeGrant(configuration, at, {
          expectedState: state,
          expectedNonce: nonce,
          pkceCodeVerifier: verifier,
          idTokenExpected: true,
          ...(fresh ? { maxAge: FRESH_S } : {}),
        })
        const claims = tokens.claims()
        if (!claims) throw refused(name, 'it gave no ID token')
        return { claims: await completed(configuration, spec, tokens.access_token, claims), refresh: tokens.refresh_token }
      } catch (error) {
        throw told(name, error)
      } finally {
        keepKeys(there, configuration)
      }
    },

    async askAgain(name, spec, { refresh, subject }) {
      try {
        const there = await configured(name, spec)
        const configuration = withKeys(there)
        const tokens = await client.refreshTokenGrant(configuration, refresh).finally(() => keepKeys(there, configuration))
        const said = tokens.claims()
        // Core 12.2.
        if (said && said.sub !== subject) return { said: 'no', why: 'it answered for somebody else' }
        // The token of before may be used up by now, so whatever goes wrong from here on must not lose the new one.
        const claims = await completed(configuration, spec, tokens.access_token, said ?? { sub: subject }).catch(() => undefined)
        const whole = claims !== undefined && claimsAsked(spec).every((claim) => Object.hasOwn(claims, claim))
        return { said: 'yes', refresh: tokens.refresh_token ?? refresh, claims: whole ? claims : undefined }
      } catch (error) {
        return notYes(name, error)
      }
    },
  }
}

/** Thin ID tokens (Okta, Keycloak) leave groups and names to the userinfo endpoint. It must be of the same person (Core 5.3.2), and never overrides. */
async function completed(
  configuration: client.Configuration,
  spec: DirectorySpec,
  accessToken: string,
  claims: Claims & { readonly sub: string },
): Promise<Claims> {
  const missing = claimsAsked(spec).some((claim) => !Object.hasOwn(claims, claim))
  if (!missing || configuration.serverMetadata().userinfo_endpoint === undefined) return { ...claims }
  return { ...(await client.fetchUserInfo(configuration, accessToken, claims.sub)), ...claims }
}

/** What a provider says of our application, and not of the person (RFC 6749 section 5.2): no word about him. */
const OF_US = new Set(['invalid_client', 'unauthorized_client', 'unsupported_grant_type', 'invalid_scope', 'invalid_request'])
const LATER = new Set(['server_error', 'temporarily_unavailable', 'slow_down'])

function notYes(name: string, error: unknown): AskedAgain {
  if (error instanceof client.ResponseBodyError && error.status < 500 && error.status !== 429 && !OF_US.has(error.error) && !LATER.has(error.error))
    return { said: 'no', why: `${error.error}: ${error.error_description ?? ''}`.slice(0, 300) }
  const { message, detail } = told(name, error)
  return { said: 'nothing', why: `${message} ${detail ?? ''}`.slice(0, 500) }
}

interface Known {
  readonly made: number
  readonly of: string
  readonly configuration: () => client.Configuration
  /** its signing keys, and when they were fetched, in seconds */
  keys: client.ExportedJWKSCache | undefined
}

/** The library's own: keys that are older are fetched again whatever a token says; for one of a key that is not known, keys of this age. */
const KEYS_OLD_S = 300
const KEYS_UNKNOWN_S = 60
const seconds = () => Math.floor(systemClock.now() / 1000)

/**
 * A key that is not known is asked for at once. The library would wait for a minute, against tokens that strangers send; ours come from
 * the provider itself, for a code that is used up by then: with a provider that has just changed its key nobody could sign in (measured
 * with Keycloak).
 */
function withKeys({ configuration, keys }: Known): client.Configuration {
  const made = configuration()
  if (keys && seconds() - keys.uat < KEYS_OLD_S) client.setJwksCache(made, { ...keys, uat: Math.min(keys.uat, seconds() - KEYS_UNKNOWN_S) })
  return made
}

function keepKeys(there: Known, configuration: client.Configuration): void {
  const now = client.getJwksCache(configuration)
  // Of the same keys the real age stays: the one that they were given here would never let them grow old.
  if (now && canonicalJson(now.jwks) !== canonicalJson(there.keys?.jwks ?? null)) there.keys = now
  else if (now && there.keys && seconds() - there.keys.uat >= KEYS_OLD_S) there.keys = now
}

/** RFC 7518 and 8037: everything that is signed with a private key. */
const SIGNED = new Set(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'])

const refused = (name: string, why: string, detail?: string, cause?: unknown) =>
  new ChaperoneError('directory_refused', `Signing in at ${name} did not work: ${why}.`, {
    fix: 'Try again; when it goes on, whoever administers Chaperone finds the cause in its log.',
    ...(detail === undefined ? {} : { detail }),
    ...(cause === undefined ? {} : { cause }),
  })

/** What a person may read of it. What a provider writes goes to the log alone: it may be somebody else who wrote it into the address. */
function told(name: string, error: unknown): ChaperoneError {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof ChaperoneError) return at
  if (error instanceof client.AuthorizationResponseError)
    return refused(
      name,
      error.error === 'access_denied' ? 'it said no' : 'it answered with an error',
      `${error.error}: ${error.error_description ?? ''}`.slice(0, 300),
      error,
    )
  const { code = '', message = '' } = error as { code?: string; message?: string }
  if (code === 'OAUTH_JWT_TIMESTAMP_CHECK_FAILED')
    return refused(name, 'by its token it is another time there than here, or you took too long', `${code} ${message}`.slice(0, 500), error)
  return refused(name, 'its answer is not what was asked for', `${code} ${message} ${String((error as Error).cause ?? '')}`.slice(0, 500), error)
}
