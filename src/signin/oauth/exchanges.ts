import { decodeJwt } from 'jose'
import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { exchange } from '../../identity/delegation/exchange.ts'
import type { Tokens } from '../../identity/tokens.ts'
import type { ChainLink, Sessions } from '../../identity/types.ts'
import type { Store } from '../../store/store.ts'
import { type Clients, isItself } from './clients.ts'
import type { Grants } from './grants.ts'
import type { GrantHandler } from './provider.ts'
import { canonical, DEFAULT_SCOPE, readResource, readsOnly } from './resources.ts'

export interface ExchangePartsOfOauth {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly sessions: Sessions
  readonly tokens: Tokens
  readonly clients: Clients
  readonly grants: Grants
  readonly places: { readonly web: string; readonly data: string }
  readonly trustDomain: string
  readonly see: (chain: readonly ChainLink[]) => Promise<void>
}

const ACCESS_TOKEN_TYPE = 'urn:ietf:params:oauth:token-type:access_token'

/**
 * RFC 8693: an agent that has proven who it is by its key (the client) brings the token of an agent that lets it act further
 * (`subject_token`), and gets one of its own: one more link, never wider, never longer. A token for one server becomes one for that
 * server alone.
 */
export function exchangeGrant(parts: ExchangePartsOfOauth): GrantHandler {
  const { clients, tokens, sessions, grants, places, trustDomain } = parts
  const refused = (why: string) => new ChaperoneError('delegation_refused', 'This token cannot be exchanged.', { detail: why })
  const house = `https://${trustDomain}`

  return async ({ clientId, parameters, holder }) => {
    // Found by its certificate or by its key, and proven by it: that is for the library to see.
    const to = clients.agentOf(clientId) ?? (holder && isItself(clientId, holder) ? clientId : undefined)
    if (to === undefined) throw refused('the client is no agent')
    const { subject_token: given, subject_token_type: type, requested_token_type: wanted = ACCESS_TOKEN_TYPE } = parameters
    if (typeof given !== 'string' || type !== ACCESS_TOKEN_TYPE || wanted !== ACCESS_TOKEN_TYPE) throw refused('only access tokens are exchanged')
    let claimed: unknown
    try {
      claimed = decodeJwt(given).aud
    } catch {
      throw refused('the subject token is none of ours')
    }
    if (typeof claimed !== 'string' || (claimed !== house && !readResource(places.web, claimed)))
      throw refused('the subject token is for somebody else')
    const principal = await tokens.verify(given, claimed)
    if (principal.boundTo !== undefined) throw refused('the subject token is bound to a certificate')
    const { resource } = parameters
    const audience = resource === undefined ? claimed : canonical(places, String(resource))
    if (audience !== claimed && (claimed !== house || !readResource(places.web, audience))) throw refused('it may not be used at that resource')
    if (audience === house) throw refused('say which resource')
    const session = await sessions.open(principal)
    // Whoever issued the certificate that is shown may hold what is bound to it: he decides about nothing that is asked with it.
    const shown = holder?.session.issuerId
    const issuerId = shown ?? session.issuerId
    const less = readsOnly(parameters.scope)
    const scope = less ? 'mcp:read' : DEFAULT_SCOPE
    const minted = await exchange(
      parts,
      {
        session,
        to,
        until: principal.notAfter,
        client: clientId,
        ...(less ? { limits: { effects: ['read'] } } : {}),
        ...(shown === undefined ? {} : { issuerId: shown }),
      },
      (made) =>
        grants.mintIn({ ...made.session, ...(issuerId === undefined ? {} : { issuerId }) }, made.chain, clientId, {
          audience,
          scope,
          ...(holder === undefined ? {} : { holder }),
        }),
    )
    return { minted, issuedTokenType: ACCESS_TOKEN_TYPE, ...(less ? { scope: 'mcp:read' } : {}) }
  }
}
