import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Resources } from '../../access/types.ts'
import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { openIssuerKeys } from '../../identity/joining/issuer-keys.ts'
import type { Tokens } from '../../identity/tokens.ts'
import type { ChainLink, LiveSession, Principal, Sessions } from '../../identity/types.ts'
import type { Keyring } from '../../keys/types.ts'
import { addressOf } from '../../network/forwarded.ts'
import type { Store } from '../../store/store.ts'
import type { Outgoing } from '../../vault/outbound.ts'
import type { WebSession } from '../browser.ts'
import { assertionGrant } from './assertions.ts'
import { boundBody } from './body.ts'
import { JWT_BEARER, openClients, TOKEN_EXCHANGE } from './clients.ts'
import { type Asked, type Chosen, openConsents, type Waiting } from './consents.ts'
import { exchangeGrant } from './exchanges.ts'
import { openGrants } from './grants.ts'
import type { Holder } from './holder.ts'
import type { OauthServer } from './provider.ts'
import { sweepRecords } from './records.ts'
import { isMetadataPath, metadataAt, readResource, resourceMetadata } from './resources.ts'
import { INTERACTION_COOKIE, ROUTES } from './routes.ts'

export interface OauthParts {
  readonly store: Store
  readonly keyring: Keyring
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly sessions: Sessions
  readonly tokens: Tokens
  readonly resources: Resources
  readonly outgoing: Outgoing
  /** as others reach them, once they listen: the web listener, and the one where certificates are shown */
  readonly places: { readonly web: string; readonly data: string }
  readonly options: { readonly oauthClients: readonly string[]; readonly oauthRegistration: boolean }
  readonly trustDomain: string
  /** Makes what is new known to this node's state. */
  readonly see: (chain: readonly ChainLink[]) => Promise<void>
  readonly copied: (session: LiveSession, credential: string) => Promise<void>
  readonly stopCredential: (principal: Principal, reason: string) => Promise<void>
  /** Count what is asked for, by the address it comes from: what begins a sign-in, what clients bring, and who registers. They throw `too_many`. */
  readonly throttle: { strangers(address: string): void; clients(address: string): void; registrations(address: string): void }
  readonly log: (error: unknown, where: string) => void
}

/** The OAuth server as the web listener and the pages see it. */
export interface Oauth {
  has(path: string): boolean
  /** All of it but the way through the person's browser: no cookie counts there. */
  anyOrigin(path: string): boolean
  /** Answers errors too, and never rejects. */
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>
  /** What of it is served where certificates are shown (RFC 8705), for whoever showed one. */
  readonly mutual: {
    /** What says of itself how it is reached there, to anybody (RFC 9728). */
    describes(path: string): boolean
    describe(request: IncomingMessage, response: ServerResponse): void
    has(path: string): boolean
    handle(request: IncomingMessage, response: ServerResponse, holder: Holder): Promise<void>
  }
  /** What waits for a person; undefined when it is over, or began in another browser. `cookies` is the browser's header. */
  waiting(uid: string, cookies: string | null): Promise<Waiting | undefined>
  ask(web: WebSession, waiting: Waiting, chosen?: Chosen): Promise<Asked>
  /** Both return where the browser goes on. `agree` throws `conflict`, `factor_required`, `usage`, `not_found`. */
  agree(web: WebSession, waiting: Waiting, chosen: Chosen, seen: string): Promise<string>
  refuse(web: WebSession, waiting: Waiting): Promise<string>
  /** Deletes what is over. */
  sweep(): Promise<void>
}

const SERVED: ReadonlySet<string> = new Set([
  '/.well-known/oauth-authorization-server',
  '/.well-known/openid-configuration',
  ROUTES.authorization,
  ROUTES.token,
  ROUTES.revocation,
  ROUTES.registration,
])
const resumes = (path: string) => path.startsWith(`${ROUTES.authorization}/`)
/** A body of the token endpoint: an assertion is the largest thing in it. */
const MOST_BODY = 32 * 1024
const MOST_URL = 8 * 1024

export function openOauth(parts: OauthParts): Oauth {
  const { store, keyring, clock, outgoing, places, options } = parts
  const clients = openClients({ ...parts, hosts: options.oauthClients })
  const grants = openGrants(parts)
  const keys = openIssuerKeys({ open: ({ ca, allowPrivate }) => outgoing.asFetch({ ca, allowPrivate }), clock })
  const consents = openConsents({ ...parts, grants })
  /** The issuer is the address under which others reach us, which is known only when we listen. */
  let server: Promise<OauthServer> | undefined
  const serving = (): Promise<OauthServer> => {
    server ??= (async () => {
      // Loaded when the first client comes: half a second, and tens of megabytes.
      const { openOauthServer } = await import('./provider.ts')
      return openOauthServer({
        places,
        trustDomain: parts.trustDomain,
        store,
        clock,
        clients,
        grants,
        cookieKey: (await keyring.derive('handles', 'oauth cookies')).toString('base64url'),
        registration: options.oauthRegistration,
        more: {
          [JWT_BEARER]: { parameters: ['assertion', 'scope', 'resource'], answer: assertionGrant({ ...parts, grants, keys }) },
          [TOKEN_EXCHANGE]: {
            parameters: ['subject_token', 'subject_token_type', 'requested_token_type', 'resource', 'scope'],
            answer: exchangeGrant({ ...parts, clients, grants }),
          },
        },
        fetch: outgoing.asFetch({ maxBytes: MOST_BODY, timeoutMs: 5_000 }),
        failed: parts.log,
      })
    })()
    server.catch(() => {
      server = undefined
    })
    return server
  }

  /** A whole company may stand behind one address, and each of its clients comes every ten minutes. */
  const countFor = (path: string) =>
    path === ROUTES.registration ? parts.throttle.registrations : path === ROUTES.authorization ? parts.throttle.strangers : parts.throttle.clients

  async function handle(request: IncomingMessage, response: ServerResponse, holder?: Holder): Promise<void> {
    const path = (request.url ?? '/').split('?', 1)[0]!
    try {
      if (isMetadataPath(path)) return describe(request, response, path, false)
      countFor(path)(addressOf(request))
      if ((request.url ?? '').length > MOST_URL || Number(request.headers['content-length'] ?? 0) > MOST_BODY)
        return answer(response, 413, { error: 'invalid_request', error_description: 'too large' })
      boundBody(request, MOST_BODY)
      await (await serving()).handle(request, response, holder)
    } catch (error) {
      const tooMany = error instanceof ChaperoneError && error.code === 'too_many'
      if (!tooMany) parts.log(error, path)
      if (response.headersSent) return void response.destroy()
      answer(
        response,
        tooMany ? 429 : 500,
        tooMany ? { error: 'slow_down', error_description: 'too many requests from this address' } : { error: 'server_error' },
      )
    }
  }

  return {
    anyOrigin: (path) =>
      isMetadataPath(path) || path.startsWith('/.well-known/') || path === ROUTES.token || path === ROUTES.revocation || path === ROUTES.registration,
    has: (path) => SERVED.has(path) || resumes(path) || isMetadataPath(path),

    handle: (request, response) => handle(request, response),
    mutual: {
      describes: isMetadataPath,
      describe: (request, response) => describe(request, response, (request.url ?? '/').split('?', 1)[0]!, true),
      has: (path) => path === ROUTES.token || path === ROUTES.revocation,
      handle,
    },

    async waiting(uid, cookies) {
      const pending = await (await serving()).pending(uid, cookieOf(cookies))
      if (!pending) return undefined
      const client = await clients.find(pending.clientId)
      const resource = readResource(places.web, pending.resource)
      if (!client || !resource) return undefined
      return {
        uid,
        client: { id: client.client_id, name: client.client_name, ...(client.client_uri === undefined ? {} : { uri: client.client_uri }) },
        redirectUri: pending.redirectUri,
        resource,
        readOnly: !pending.scopes.includes('mcp'),
      }
    },
    ask: consents.ask,
    async agree(web, waiting, chosen, seen) {
      const server = await serving()
      return server.agree(waiting.uid, web.session.principal.identityId, async (grantId) => {
        const scope = await consents.agree(web, waiting, chosen, seen, grantId)
        await clients.agreedTo(waiting.client.id)
        return scope
      })
    },
    async refuse(web, waiting) {
      await consents.refuse(web, waiting)
      return (await serving()).refuse(waiting.uid)
    },
    async sweep() {
      await sweepRecords(store, clock)
      await clients.sweep()
    },
  }

  /** Anybody may read it, from any page, in any version of the protocol: it says the same for servers that exist and for others (rule 8). */
  function describe(request: IncomingMessage, response: ServerResponse, path: string, mutual: boolean): void {
    response.setHeader('Access-Control-Allow-Origin', '*')
    response.setHeader('Access-Control-Allow-Headers', '*')
    if (request.method === 'OPTIONS')
      return void response.writeHead(204, { 'Access-Control-Allow-Methods': 'GET', 'Access-Control-Max-Age': '3600' }).end()
    const resource = metadataAt(path)
    if (!resource) answer(response, 404, { error: 'not_found' })
    else if (request.method !== 'GET' && request.method !== 'HEAD') answer(response, 405, { error: 'invalid_request' })
    else answer(response, 200, resourceMetadata(mutual ? places.data : places.web, `https://${places.web}`, resource, mutual))
  }
}

function answer(response: ServerResponse, status: number, value: unknown): void {
  const body = JSON.stringify(value)
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), 'Cache-Control': 'no-store' })
  response.end(body)
}

/** Undefined when it is not there, and when it is there twice: one of the two is somebody else's. */
function cookieOf(header: string | null): string | undefined {
  const values = (header ?? '').split(';').flatMap((pair) => {
    const at = pair.indexOf('=')
    return at > 0 && pair.slice(0, at).trim() === INTERACTION_COOKIE ? [pair.slice(at + 1).trim()] : []
  })
  return values.length === 1 ? values[0] : undefined
}
