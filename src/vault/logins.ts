import type { OAuthClientInformationMixed } from '@modelcontextprotocol/client'
import type { AuditLog, Draft } from '../audit/record.ts'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { ChainLink } from '../identity/types.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store } from '../store/store.ts'
import type { Challenge } from './challenge.ts'
import type { CredentialNotes } from './credential-notes.ts'
import type { Prover, Provers } from './dpop.ts'
import type { MachineParts } from './machine-logins.ts'
import type { HeldLogin, LoginAt, LoginKey, LoginRows } from './oauth-rows.ts'
import type { Depth, Outbound, OutboundParts } from './outbound.ts'

/** An MCP server as it is applied. */
export interface LoginServer {
  readonly id: string
  readonly name: string
  readonly spec: McpServerSpec
}

export interface LoginsParts {
  readonly store: Store
  readonly keyring: Keyring
  readonly clock: Clock
  readonly audit: Pick<AuditLog, 'append' | 'addSecrets'>
  /** A sealed secret of the vault, by name. */
  readonly reveal: (secret: string) => Promise<string>
  /** https URL of our client metadata document, where there is one that authorization servers can fetch (CIMD) */
  readonly clientDocument?: string | undefined
  /** Where people reach the web listener, `host[:port]`: they log in there too. */
  readonly places?: { readonly web: string } | undefined
  /** Who logged in, and when the login was last used; nothing where nobody asks. */
  readonly notes?: Pick<CredentialNotes, 'set' | 'forget' | 'used'> | undefined
  /** Minted identities, and who stands in a chain. Without them no document with `identity` can be used. */
  readonly machine?: MachineParts | undefined
  /** for tests */
  readonly resolve?: OutboundParts['resolve']
}

/** Somebody must log in first. `link`: where he does it in a browser, for a login that is his own. */
export class LoginRequired extends ChaperoneError {
  readonly link: string | undefined

  constructor(message: string, { link, fix }: { readonly link: string | undefined; readonly fix: string }) {
    super('upstream_login_required', message, { fix: link === undefined ? fix : `${fix}   or in a browser: ${link}` })
    this.name = 'LoginRequired'
    this.link = link
  }
}

/** Below the address of the web listener: the page on which a person logs in at a server, and where the browser comes back to. */
export const CONNECT_PATH = '/connect'
export const connectPage = (web: string, server: string) => `https://${web}${CONNECT_PATH}/${encodeURIComponent(server)}`
/** No document can have this name: it begins with a dot. */
export const connectBack = (web: string) => `https://${web}${CONNECT_PATH}/.back`

export interface BegunLogin {
  /** for the person's browser: https, or http on this machine */
  readonly url: string
  readonly expiresAt: number
}

/** What came back to the redirect address, as text. */
export interface LoginAnswer {
  readonly state: string
  readonly code?: string | undefined
  readonly iss?: string | undefined
  readonly error?: string | undefined
}

/** Who did it, for the record. */
export type By = Pick<Draft, 'actor' | 'session' | 'credential' | 'chain'>

/** What a request carries. With a prover it is bound to a key: it is shown as `DPoP`, with a proof for each request, and never as `Bearer`. */
export interface UpstreamToken {
  readonly value: string
  readonly prover: Prover | undefined
}

/** The token of one caller at one MCP server. */
export interface UpstreamLogin {
  /** What the next request carries; undefined while nobody has logged in. Throws `upstream_unavailable`. */
  token(): Promise<UpstreamToken | undefined>
  /**
   * The server answered 401 or 403 to a request that carried `used`. True: another token is there, ask once more. False:
   * no login would help. Throws `upstream_login_required`.
   */
  refused(status: 401 | 403, challenge: string | undefined, used: string | undefined): Promise<boolean>
}

/** Logins of Chaperone at MCP servers that want OAuth. Tokens leave only through `of`, which the gateway alone calls. */
export interface UpstreamLogins {
  /** Throws `usage` for a redirect that is not on the person's own machine, `upstream_unavailable`, `too_many`. */
  begin(
    server: LoginServer,
    ask: { readonly subject: string; readonly identity: string; readonly redirect: string; readonly by: By },
  ): Promise<BegunLogin>
  /** Which login it is that this identity began; undefined when there is none (any more). */
  began(state: string, identity: string): Promise<LoginKey | undefined>
  /** Throws `not_found` for a login that is not this identity's, used or too old; `upstream_unavailable`. */
  finish(
    server: LoginServer,
    answer: LoginAnswer,
    ask: { readonly identity: string; readonly by: By },
  ): Promise<{ readonly issuer: string; readonly scope?: string }>
  /** Forgets the tokens, and asks the authorization server to end them, which it may not be able to. Throws `not_found`. */
  remove(server: LoginServer, ask: { readonly subject: string; readonly by: By }): Promise<{ readonly revoked: boolean }>
  of(server: LoginServer, chain: readonly ChainLink[]): UpstreamLogin
  /** All logins there are, without their tokens. */
  list(): Promise<readonly HeldRow[]>
}

export interface HeldRow {
  readonly key: LoginKey
  readonly issuer: string
  readonly scope: string | undefined
  /** ms since 1970: the last token */
  readonly obtainedAt: number
  /** ms since 1970; undefined while it is renewed by itself, or nobody knows */
  readonly expiresAt: number | undefined
  /** somebody must log in again */
  readonly over: boolean
  /** its tokens are worth nothing without a key (RFC 9449) */
  readonly bound: boolean
  /** Whether it may still be used at the server as its document is. */
  readonly fits: (spec: McpServerSpec) => boolean
}

/** One login for all, or one of the person (or agent) on whose behalf it is done: the first link of the chain. */
export function subjectOf({ name, spec }: LoginServer, chain: readonly ChainLink[]): string {
  const oauth = spec.auth?.oauth
  if (!oauth || spec.url === undefined) {
    throw new ChaperoneError('usage', `The MCP server ${name} has no \`auth: { oauth: ... }\` in its document.`, {
      fix: 'Add it with `chaperone apply` if the server wants OAuth.',
    })
  }
  return oauth.for === 'everybody' ? '*' : chain[0]!.identity
}

/** What both halves (logging in, using the login) share. */
export interface LoginContext extends LoginsParts {
  readonly rows: LoginRows
  outbound(server: LoginServer, depth?: Depth): Outbound
  readonly provers: Provers
  /** The fetch for the token endpoint of a login: with proofs where its tokens are bound to a key. */
  tokenFetch(server: LoginServer, login: LoginAt & Pick<HeldLogin, 'key'>): Promise<Outbound['fetch']>
  /** The registration with the secret that the document names, where it is the one that was made beforehand. */
  withSecret(server: LoginServer, client: OAuthClientInformationMixed): Promise<OAuthClientInformationMixed>
  /** What a server last said that it wants: the next login asks for that. */
  readonly heard: { get(key: LoginKey): Challenge | undefined; set(key: LoginKey, challenge: Challenge): void; delete(key: LoginKey): void }
  /** The login has changed: what is kept of it in memory is not true any more. */
  changed(key: LoginKey): void
}

export const keyText = ({ resource, subject }: LoginKey) => `${resource} ${subject}`
