import {
  type AuthorizationServerMetadata,
  checkResourceAllowed,
  discoverAuthorizationServerMetadata,
  discoverOAuthProtectedResourceMetadata,
  type OAuthProtectedResourceMetadata,
  resourceUrlFromServerUrl,
} from '@modelcontextprotocol/client'
import { ChaperoneError } from '../errors.ts'
import { type Challenge, scopesOf } from './challenge.ts'
import type { Outbound } from './outbound.ts'

/** Where one logs in for an MCP server. */
export interface Login {
  /** as its metadata says; of a server without metadata its address */
  readonly issuer: string
  readonly metadata: AuthorizationServerMetadata | undefined
  /** the `resource` that tokens are asked for (RFC 8707), as the server writes it */
  readonly resource: string | undefined
  /** what the server says one may ask for */
  readonly scopes: readonly string[]
}

/** Finds it from the challenge, else at the well-known places (RFC 9728, RFC 8414, OpenID Connect Discovery). Throws `upstream_unavailable`. */
export async function discoverLogin(
  name: string,
  url: string,
  challenge: Challenge | undefined,
  { fetch }: Outbound,
  // Where no browser brings a code there is none to steal.
  { pkce = true }: { readonly pkce?: boolean } = {},
): Promise<Login> {
  const wrong = wrongAt(name)
  const described = await describedResource(url, challenge, fetch, wrong)
  if (described && !checkResourceAllowed({ requestedResource: resourceUrlFromServerUrl(url), configuredResource: described.resource }))
    throw wrong('its metadata speaks of another resource')
  // Servers of before 2025-06-18 are their own authorization server.
  const at = described?.authorization_servers?.[0] ?? new URL('/', url).href
  let metadata: AuthorizationServerMetadata | undefined
  try {
    metadata = await discoverAuthorizationServerMetadata(at, { fetchFn: fetch })
  } catch (error) {
    throw wrong('the metadata of its authorization server is not valid', error)
  }
  if (!metadata && described) throw wrong('its authorization server has no metadata')
  // Without it the server may ignore the challenge, and a stolen code would be worth a token.
  if (pkce && metadata && !metadata.code_challenge_methods_supported?.includes('S256'))
    throw wrong('its authorization server does not know PKCE with S256')
  return { issuer: metadata?.issuer ?? at, metadata, resource: described?.resource, scopes: scopesOf(described?.scopes_supported?.join(' ')) }
}

async function describedResource(
  url: string,
  challenge: Challenge | undefined,
  fetch: Outbound['fetch'],
  wrong: (why: string, cause?: unknown) => ChaperoneError,
): Promise<OAuthProtectedResourceMetadata | undefined> {
  let status = 0
  const watched: Outbound['fetch'] = async (to, init) => {
    const response = await fetch(to, init)
    status = response.status
    return response
  }
  try {
    const given = challenge?.metadata === undefined ? undefined : URL.parse(challenge.metadata)
    if (given === null) throw wrong('the address of its metadata is none')
    return await discoverOAuthProtectedResourceMetadata(url, given ? { resourceMetadataUrl: given } : {}, watched)
  } catch (error) {
    // Absent is an answer; a failure, or an address that we do not go to, must not lead to another server than it would name.
    if (challenge?.metadata === undefined && status >= 400 && status < 500 && !(error instanceof ChaperoneError)) return undefined
    throw wrong('its metadata cannot be read', error)
  }
}

/** At an authorization server that the document of the MCP server names: what the server itself says is not asked. */
export async function loginAt(name: string, url: string, issuer: string, { fetch }: Outbound): Promise<Login> {
  const wrong = wrongAt(name)
  let metadata: AuthorizationServerMetadata | undefined
  try {
    metadata = await discoverAuthorizationServerMetadata(issuer, { fetchFn: fetch })
  } catch (error) {
    throw wrong('the metadata of its authorization server is not valid', error)
  }
  if (!metadata) throw wrong('its authorization server has no metadata')
  return { issuer: metadata.issuer, metadata, resource: resourceUrlFromServerUrl(url).href, scopes: [] }
}

const wrongAt = (name: string) => (why: string, cause?: unknown) =>
  cause instanceof ChaperoneError
    ? cause
    : new ChaperoneError('upstream_unavailable', `One cannot log in at the MCP server ${name}: ${why}.`, {
        ...(cause === undefined ? {} : { detail: String(cause), cause }),
      })
