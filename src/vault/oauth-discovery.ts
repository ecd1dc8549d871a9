import {
  type AuthorizationServerMetadata,
  checkResourceAllowed,
  discoverAuthorizationServerMetadata,
  discoverOAuthProtectedResourceMetadata,
  type OAuthProtectedResourceMetadata,
  resourceUrlFromServerUrl,
} from '@modelcontextprotocol/client'
import { z } from 'zod'
import { ChaperoneError } from '../errors.ts'
import { type Challenge, scopesOf } from './challenge.ts'
import { PROOF_ALGORITHM } from './dpop.ts'
import type { Outbound } from './outbound.ts'

/** Metadata of an authorization server, with what the SDK leaves out of OpenID Connect Discovery, where it has no place and many servers publish it. */
export type IssuerMetadata = AuthorizationServerMetadata & z.infer<typeof besides>

const texts = z.array(z.string()).optional().catch(undefined)
const besides = z.object({
  revocation_endpoint: z.url().optional().catch(undefined),
  revocation_endpoint_auth_methods_supported: texts,
  dpop_signing_alg_values_supported: texts,
})

/** Whether tokens are bound to a key (RFC 9449): the server takes no others; it would; or it says nothing of that. */
export type Binding = 'required' | 'offered' | 'none'

/** Where one logs in for an MCP server. */
export interface Login {
  /** as its metadata says; of a server without metadata its address */
  readonly issuer: string
  readonly metadata: IssuerMetadata | undefined
  /** the `resource` that tokens are asked for (RFC 8707), as the server writes it */
  readonly resource: string | undefined
  /** what the server says one may ask for */
  readonly scopes: readonly string[]
  readonly binding: Binding
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
  const metadata = await metadataOf(at, fetch, wrong)
  if (!metadata && described) throw wrong('its authorization server has no metadata')
  // Without it the server may ignore the challenge, and a stolen code would be worth a token.
  if (pkce && metadata && !metadata.code_challenge_methods_supported?.includes('S256'))
    throw wrong('its authorization server does not know PKCE with S256')
  return {
    issuer: metadata?.issuer ?? at,
    metadata,
    resource: described?.resource,
    scopes: scopesOf(described?.scopes_supported?.join(' ')),
    binding: bindingAt(described, challenge),
  }
}

/**
 * What the resource says, not its authorization server: that one may know of proofs and bind tokens for whoever shows one,
 * while the MCP server behind it reads `Bearer` and nothing else.
 */
function bindingAt(described: OAuthProtectedResourceMetadata | undefined, challenge: Challenge | undefined): Binding {
  if (described?.dpop_bound_access_tokens_required === true) return 'required'
  return challenge?.dpop || described?.dpop_signing_alg_values_supported?.includes(PROOF_ALGORITHM) ? 'offered' : 'none'
}

/** What the document says of it goes before what the servers say. Throws where one cannot do what is required. */
export function bindingOf(written: 'required' | 'never' | undefined, { binding, metadata, issuer }: Login): Binding {
  const wanted = written === 'never' ? 'none' : (written ?? binding)
  const known = metadata?.dpop_signing_alg_values_supported
  if (known === undefined || known.includes(PROOF_ALGORITHM) || wanted === 'none') return wanted
  if (wanted === 'offered') return 'none'
  throw new ChaperoneError('upstream_unavailable', `Tokens must be bound to a key here, and ${issuer} takes no proofs with ${PROOF_ALGORITHM}.`)
}

type Wrong = (why: string, cause?: unknown) => ChaperoneError

async function metadataOf(at: string, fetch: Outbound['fetch'], wrong: Wrong): Promise<IssuerMetadata | undefined> {
  let whole: Response | undefined
  const watched: Outbound['fetch'] = async (to, init) => {
    const response = await fetch(to, init)
    if (response.ok) whole = response.clone()
    return response
  }
  try {
    const metadata = await discoverAuthorizationServerMetadata(at, { fetchFn: watched })
    return metadata && { ...besides.parse(await whole!.json()), ...metadata }
  } catch (error) {
    throw wrong('the metadata of its authorization server is not valid', error)
  }
}

async function describedResource(
  url: string,
  challenge: Challenge | undefined,
  fetch: Outbound['fetch'],
  wrong: Wrong,
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
  const metadata = await metadataOf(issuer, fetch, wrong)
  if (!metadata) throw wrong('its authorization server has no metadata')
  return {
    issuer: metadata.issuer,
    metadata,
    resource: resourceUrlFromServerUrl(url).href,
    scopes: [],
    binding: 'none',
  }
}

const wrongAt =
  (name: string): Wrong =>
  (why, cause) =>
    cause instanceof ChaperoneError
      ? cause
      : new ChaperoneError('upstream_unavailable', `One cannot log in at the MCP server ${name}: ${why}.`, {
          ...(cause === undefined ? {} : { detail: String(cause), cause }),
        })
