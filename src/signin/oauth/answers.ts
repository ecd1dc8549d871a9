import type { Context } from 'oidc-provider'
import { DEFAULT_SCOPE, resourceUrl, SCOPES } from './resources.ts'
import { ROUTES } from './routes.ts'

/**
 * What goes over the wire differently from how the library would have it: what it is asked, what it says of itself, its headers. Pure.
 */

/** Of OpenID Connect, which is not spoken here: some clients send them to everybody. A person is asked each time, whatever `prompt` says. */
const OF_OPENID: ReadonlySet<string> = new Set(['acr_values', 'claims', 'claims_locales', 'id_token_hint', 'max_age', 'nonce'])

/** Of the scopes that are asked for only ours are looked at; whoever names none of them asks for the usual one. */
export function asOurs(sent: Context['query']): Context['query'] {
  const query = Object.fromEntries(Object.entries(sent).filter(([name, value]) => !OF_OPENID.has(name) && (name !== 'prompt' || value === 'none')))
  if (Array.isArray(query.scope)) return query
  const wanted = (query.scope ?? '').split(' ').filter((scope) => (SCOPES as readonly string[]).includes(scope))
  return { ...query, scope: wanted.length === 0 ? DEFAULT_SCOPE : [...new Set(wanted)].join(' ') }
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

/** RFC 8414, and RFC 8705 section 5: `data` is the listener where certificates are shown. */
export const metadata = (all: Readonly<Record<string, unknown>>, { web, data }: { readonly web: string; readonly data: string }) => ({
  ...Object.fromEntries(METADATA.filter((name) => all[name] !== undefined).map((name) => [name, all[name]])),
  grant_types_supported: (all.grant_types_supported as string[]).filter((grant) => grant !== 'implicit'),
  response_types_supported: ['code'],
  response_modes_supported: ['query'],
  code_challenge_methods_supported: ['S256'],
  scopes_supported: [DEFAULT_SCOPE],
  client_id_metadata_document_supported: true,
  tls_client_certificate_bound_access_tokens: true,
  mtls_endpoint_aliases: { token_endpoint: `https://${data}${ROUTES.token}`, revocation_endpoint: `https://${data}${ROUTES.revocation}` },
  protected_resources: [resourceUrl(web, undefined)],
})

/** What a person reads when there is nobody to send him back to. */
export const stopped = (why: string) => `This sign-in cannot go on: ${why}\nGo back to your client and begin anew.\n`

/** What an answer of the OAuth server to a browser may do: nothing. */
export const HEADERS = {
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'Referrer-Policy': 'no-referrer',
} as const

export function dropCookie(context: Context, name: string): void {
  const set = [context.response.get('set-cookie')].flat().filter((cookie) => cookie !== '' && cookie !== undefined)
  const kept = set.filter((cookie) => !cookie.startsWith(`${name}=`) && !cookie.startsWith(`${name}.sig=`))
  if (kept.length === set.length) return
  if (kept.length === 0) context.remove('Set-Cookie')
  else context.set('Set-Cookie', kept)
}
