import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { administer } from '../access/administration.ts'
import type { Guard } from '../access/types.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../errors.ts'
import { letGo } from '../gateways/mcp/http/let-go.ts'
import { addressOf, type Balancers, wasForwarded } from '../network/forwarded.ts'
import type { Resource } from '../policy/types.ts'
import { knocking } from '../signin/knocking.ts'
import type { Oauth } from '../signin/oauth/oauth.ts'
import { challenge, mcpServerIn, readsOnly, resourceUrl } from '../signin/oauth/resources.ts'
import type { Caller, Callers } from './callers.ts'
import type { Metrics } from './metrics.ts'
import { assertSingle } from './single-headers.ts'

interface HttpParts {
  readonly callers: Callers
  readonly checkHost: (request: IncomingMessage, anyOrigin?: boolean) => void
  readonly guard: Guard
  readonly chaperone: Resource
  readonly metrics: Metrics
  /** Why this node is not ready, or undefined. */
  readonly notReady: () => string | undefined
  readonly mcp: (
    request: IncomingMessage,
    response: ServerResponse,
    caller: Caller & { readonly stepUp?: string },
    server: string | undefined,
  ) => Promise<void>
  readonly api: (request: IncomingMessage, response: ServerResponse, caller: Caller | undefined) => Promise<void>
  /** What OAuth clients ask for by their certificate. */
  readonly oauth: Pick<Oauth, 'mutual'>
  /** the web listener as others reach it, `host[:port]` */
  readonly places: { readonly web: string; readonly data: string }
  /** What else the web listener answers, each under paths of its own: pages for people, OAuth, SCIM, the registry. Who asks is told there. */
  readonly rooms: readonly WebRoom[]
  /** Load balancers before this listener, whose word on where a request came from is believed. */
  readonly balancers?: Pick<Balancers, 'note'>
  /** Open connections may still send requests while the node shuts down; they are told. */
  readonly drain: { readonly under: boolean }
  /** A caller without a valid credential was turned away. */
  readonly turnedAway: (request: IncomingMessage, error: ChaperoneError) => void
  readonly log: (error: ChaperoneError, request: IncomingMessage) => void
}

/** Answers errors too, and never rejects. */
export interface WebRoom {
  has(path: string): boolean
  /** Pages of other origins may ask too (CORS): only where no cookie says who asks. */
  anyOrigin?(path: string): boolean
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>
}

type Listener = 'data' | 'web'

/** The handler of one HTTPS listener. Both answer the same paths; they differ in how the caller proves who he is. */
export function httpHandler(listener: Listener, parts: HttpParts): RequestListener {
  const { callers, checkHost, places, guard, chaperone, metrics, notReady, mcp, api, oauth, rooms, turnedAway, log, drain, balancers } = parts

  /** The address of this listener: what leads a client on must be of the address that it has. */
  const here = () => (listener === 'data' ? places.data : places.web)

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    assertSingle(request)
    balancers?.note(request)
    const path = (request.url ?? '/').split('?', 1)[0]!
    // Before anybody is identified: neither a certificate nor a token says anything here.
    const room = listener === 'web' ? rooms.find((one) => one.has(path)) : undefined
    checkHost(request, room?.anyOrigin?.(path) === true)
    if (path === '/healthz') return text(response, 200, 'ok\n')
    if (path === '/readyz') {
      const why = notReady()
      return text(response, why ? 503 : 200, why ? `${why}\n` : 'ready\n')
    }
    if (path === '/metrics' && listener === 'web' && isLoopback(addressOf(request)) && !wasForwarded(request))
      return text(response, 200, await metrics.text(), metrics.contentType)

    if (drain.under) throw new ChaperoneError('draining', 'Chaperone is shutting down.')

    if (room) return await knocking(addressOf(request), () => room.handle(request, response))

    if (listener === 'data' && oauth.mutual.describes(path)) return oauth.mutual.describe(request, response)

    const toMcp = mcpServerIn(path)
    const peer = listener === 'data' ? await callers.mutual(request) : undefined
    if (listener === 'data' && oauth.mutual.has(path)) {
      if (!peer?.certificate) throw new ChaperoneError('unauthenticated', 'Show a client certificate, or ask on the web listener.')
      return await oauth.mutual.handle(request, response, { session: peer.session, ...peer.certificate })
    }
    const resource = toMcp && resourceUrl(places.web, toMcp.name)
    // Beside a certificate, and never in its place; and only where tokens are made for: at MCP servers.
    const bearer = listener === 'web' || (peer && toMcp) ? await callers.bearer(request, resource, peer) : undefined
    try {
      const caller = bearer ?? peer
      if (path.startsWith('/v1/') && listener === 'data') return await api(request, response, caller)
      if (!caller) throw new ChaperoneError('unauthenticated', 'Show who you are: a client certificate, or on the web listener a bearer token.')
      if (toMcp) return await mcp(request, response, readsOnly(caller.scope) ? { ...caller, stepUp: stepUp(toMcp.name) } : caller, toMcp.name)
      if (path === '/metrics' && guard.judge(caller.session, administer(chaperone, 'audit.read', 'read metrics')).verdict === 'allow') {
        return text(response, 200, await metrics.text(), metrics.contentType)
      }
      return text(response, 404, 'There is nothing here.\n')
    } finally {
      bearer?.release()
    }
  }

  /** A token for reading alone may be exchanged for a wider one, if its person agrees; whoever was told that he has all is told nothing. */
  const stepUp = (server: string | undefined) => challenge(here(), server, 'insufficient_scope')

  const refuse = (request: IncomingMessage, response: ServerResponse, error: ChaperoneError): void => {
    const { http } = REASONS[error.code]
    if (http === 401) {
      turnedAway(request, error)
      if (listener === 'web' || request.headers.authorization !== undefined) response.setHeader('WWW-Authenticate', challengeFor(request, error))
    }
    if (http >= 500) log(error, request)
    if (response.headersSent) return void response.destroy()
    const body = JSON.stringify({ error: { code: error.code, message: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) } })
    response.writeHead(http, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), 'Cache-Control': 'no-store' })
    response.end(body)
    if (!request.complete) response.once('finish', () => letGo(request))
  }

  /** At an MCP server it leads a client to its sign-in (RFC 9728). A token that was shown is named as what is wrong (RFC 6750 section 3.1). */
  const challengeFor = ({ url, headers }: IncomingMessage, { code }: ChaperoneError): string => {
    const toMcp = mcpServerIn((url ?? '/').split('?', 1)[0]!)
    if (!toMcp) return 'Bearer realm="chaperone"'
    return challenge(here(), toMcp.name, headers.authorization !== undefined && code !== 'unauthenticated' ? 'invalid_token' : undefined)
  }

  return (request, response) => {
    const began = performance.now()
    response.once('close', () => metrics.answered(listener, response.statusCode, (performance.now() - began) / 1000))
    answer(request, response).catch((error: unknown) => refuse(request, response, toChaperoneError(error)))
  }
}

function text(response: ServerResponse, status: number, body: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': Buffer.byteLength(body), 'Cache-Control': 'no-store' })
  response.end(body)
}

const isLoopback = (address: string | undefined) => address !== undefined && (address === '::1' || /^(::ffff:)?127\./.test(address))
