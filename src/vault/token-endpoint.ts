import { z } from 'zod'
import { ChaperoneError } from '../errors.ts'
import { scopesOf } from './challenge.ts'
import { type ClientProof, proveClient } from './client-assertion.ts'
import { type Prover, provingFetch } from './dpop.ts'
import type { Binding, Login } from './oauth-discovery.ts'
import { bound } from './oauth-grant.ts'
import type { Outbound } from './outbound.ts'

/** A token of an authorization server that nobody logged in for. */
export interface Grant {
  readonly access: string
  /** ms since 1970 */
  readonly expiresAt: number
  /** undefined: a bearer token */
  readonly prover: Prover | undefined
}

/** Where tokens are given; of a server without metadata the place of before 2025-06-18. */
export const tokenEndpoint = (issuer: string, metadata: Login['metadata']): string => metadata?.token_endpoint ?? new URL('/token', issuer).href

export interface GrantRequest {
  readonly login: Login
  /** grant_type and what belongs to it */
  readonly grant: Readonly<Record<string, string>>
  readonly scope: string | undefined
  /** default: as the metadata says */
  readonly endpoint?: string
  /** the `token_type` that is wanted; default: bearer, or one that is bound to the key of `prover` */
  readonly kind?: string
  readonly prover?: Prover | undefined
  readonly binding?: Binding
  readonly client: ClientProof | undefined
  readonly fetch: Outbound['fetch']
  readonly now: number
}

/** A server that does not say how long: short, so that a mistake is soon over. */
const UNSAID_MS = 5 * 60_000
const LONGEST_MS = 24 * 3_600_000

const answer = z.object({
  // Visible ASCII (RFC 6750 section 2.1); anything else would be a header of the server's making.
  access_token: z.string().regex(/^[\x21-\x7e]{1,16384}$/),
  token_type: z.string(),
  expires_in: z.coerce.number().positive().optional().catch(undefined),
})

/** One POST to the token endpoint (RFC 6749 section 4.4, RFC 7523, RFC 8693). It is not tried again. Throws `upstream_unavailable`. */
export async function requestGrant({
  login,
  grant,
  scope,
  client,
  fetch,
  now,
  kind,
  prover,
  binding = 'none',
  endpoint: known,
}: GrantRequest): Promise<Grant> {
  const { issuer, metadata, resource } = login
  const endpoint = known ?? tokenEndpoint(issuer, metadata)
  const body = new URLSearchParams({
    ...grant,
    ...(scope === undefined ? {} : { scope }),
    ...(resource === undefined ? {} : { resource }),
  })
  const proof = client ? await proveClient(client, { issuer, methods: metadata?.token_endpoint_auth_methods_supported, now }, body) : {}
  const response = await (prover ? provingFetch(fetch, prover, endpoint) : fetch)(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json', ...proof },
    body: body.toString(),
  })
  const given: unknown = await response.json().catch(() => undefined)
  if (!response.ok) throw refused(issuer, `it said ${errorIn(given)}`, response.status)
  const parsed = answer.safeParse(given)
  if (!parsed.success || (kind !== undefined && parsed.data.token_type.toLowerCase() !== kind))
    throw refused(issuer, 'what it gave is no such token', response.status)
  const { access_token, expires_in, token_type } = parsed.data
  const life = expires_in === undefined ? UNSAID_MS : Math.min(expires_in * 1000, LONGEST_MS)
  return { access: access_token, expiresAt: now + life, prover: kind === undefined ? bound(token_type, prover, binding) : undefined }
}

const refused = (issuer: string, why: string, status: number) =>
  new ChaperoneError('upstream_unavailable', `Chaperone gets no token at ${issuer}: ${why}.`, {
    fix: 'Check the client, its secret or key, and its grants there.',
    detail: `HTTP ${status}`,
  })

/** A code of RFC 6749 section 5.2; a description of the server's making is not repeated. */
function errorIn(given: unknown): string {
  const error = typeof given === 'object' && given !== null ? (given as { error?: unknown }).error : undefined
  return typeof error === 'string' && /^[a-z0-9_.-]{1,64}$/.test(error) ? error : 'no'
}

/** What is asked for: what the document says, else what the server named in its challenge, else what it says one may ask for. */
export function scopeOf(fixed: readonly string[] | undefined, challenged: string | undefined, login: Login): string | undefined {
  const scopes = fixed ?? (challenged === undefined ? login.scopes : scopesOf(challenged))
  return scopes.length === 0 ? undefined : scopes.join(' ')
}
