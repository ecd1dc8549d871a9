import http, { type IncomingHttpHeaders, type IncomingMessage, type RequestOptions } from 'node:http'
import https from 'node:https'
import { isIP } from 'node:net'
import { urlToHttpOptions } from 'node:url'
import type { Permit } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { type ProxyEnvironment, proxyFor, proxyName } from '../../../network/proxy.ts'
import { agentFor } from '../../../network/tunnel.ts'
import { readChallenge } from '../../../vault/challenge.ts'
import type { UpstreamLogin, UpstreamToken } from '../../../vault/logins.ts'
import type { McpLimits } from '../limits.ts'
import { NotSent } from '../types.ts'
import { failedToReach } from './unreachable.ts'

interface UpstreamHttpParts {
  readonly name: string
  readonly url: string
  readonly ca: string | undefined
  /** Headers of the catalog, secrets included; asked for with every request, so that a rotated secret counts at once. */
  readonly headers: () => Promise<Readonly<Record<string, string>>>
  /** where HTTPS_PROXY and NO_PROXY are read; default: of the process */
  readonly env?: ProxyEnvironment
  /** The document names something that says who we are: a header that does, or a login. */
  readonly credential: boolean
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'headerBytes' | 'silenceMs' | 'tellMs'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

export interface Ask {
  readonly method: 'POST' | 'GET' | 'DELETE'
  readonly body?: string
  /** headers of MCP itself, already chosen */
  readonly headers: Readonly<Record<string, string>>
  /** Ends it before its answer does: the client left, or we do. */
  readonly stop?: AbortSignal
  /** Path and query at the same origin, where it is not the server's own URL (HTTP+SSE). */
  readonly path?: string
  /** The server waits for us: its silence is no failure. */
  readonly waits?: () => boolean
}

/** One session may have 256 calls in flight (limits.ts); one that uses them all leaves room for others. */
const MOST_CALLS = 1024
const MOST_STREAMS = 4096

interface Connections {
  readonly calls: http.Agent
  /** Streams stay open for hours: they have sockets of their own, so that they never keep a call waiting (rule 11). */
  readonly streams: http.Agent
}

/** A way to one HTTP server. Connections are shared, sessions and logins are not: those travel in headers. */
export class UpstreamHttp {
  readonly #parts: UpstreamHttpParts
  readonly #target: RequestOptions & { readonly servername: string }
  readonly #fixed: Readonly<Record<string, string>>
  readonly #connections: Connections
  /** The proxy that would read a request as it is: plain http is not tunnelled. */
  readonly #reader: URL | undefined
  readonly #login: UpstreamLogin | undefined
  readonly #request: typeof http.request

  constructor(parts: UpstreamHttpParts, as?: { readonly login: UpstreamLogin; readonly connections: Connections }) {
    this.#parts = parts
    const url = new URL(parts.url)
    const secure = url.protocol === 'https:'
    const { hostname, port, path, auth } = urlToHttpOptions(url)
    // Copied for every request, so only what is needed.
    this.#target = {
      ...{ hostname: hostname!, port: port ?? (secure ? 443 : 80), path: path!, servername: isIP(hostname!) ? '' : hostname! },
      maxHeaderSize: parts.limits.headerBytes,
    }
    this.#fixed = { host: url.host, ...(auth ? { authorization: `Basic ${Buffer.from(auth).toString('base64')}` } : {}) }
    const to = { host: this.#target.hostname as string, port: Number(this.#target.port), secure }
    const env = parts.env ?? process.env
    this.#reader = secure ? undefined : proxyFor(to, env)
    const agentOf = (options: http.AgentOptions) =>
      agentFor(to, secure ? { ...options, ...(parts.ca === undefined ? {} : { ca: parts.ca }), minVersion: 'TLSv1.2' } : options, env)
    this.#connections = as?.connections ?? {
      calls: agentOf({ keepAlive: true, maxSockets: MOST_CALLS, maxFreeSockets: 64 }),
      streams: agentOf({ maxSockets: MOST_STREAMS }),
    }
    this.#login = as?.login
    this.#request = secure ? https.request : http.request
  }

  /** The same server, spoken to with this login. */
  as(login: UpstreamLogin): UpstreamHttp {
    return new UpstreamHttp(this.#parts, { login, connections: this.#connections })
  }

  get url(): string {
    return this.#parts.url
  }

  /** Why the server did not let us in, where the status says that. What got 401 for want of a credential was not done (RFC 9110). */
  refusal(status: number): ChaperoneError | undefined {
    const { name, credential } = this.#parts
    if (status !== 401 && status !== 403) return undefined
    const more = { detail: `HTTP ${status}` }
    if (credential || this.#fixed.authorization !== undefined)
      return new ChaperoneError('upstream_unavailable', `The MCP server ${name} does not accept Chaperone's credential.`, more)
    if (status === 403)
      return new ChaperoneError('upstream_unavailable', `The MCP server ${name} does not let Chaperone in, which showed no credential.`, more)
    return new NotSent('upstream_login_required', `The MCP server ${name} wants a login, and its document names none.`, {
      ...more,
      fix: `Add \`auth: { oauth: {} }\` to its document, then run \`chaperone mcp login ${name}\`; or write the credential that it wants into \`headers\`.`,
    })
  }

  /** What the client asked for, and the permit for it. */
  send(permit: Permit, ask: Ask): Promise<IncomingMessage> {
    return this.#authorized(ask, permit.signal)
  }

  /** The one stream of the old transport: it asks for nothing, and what comes on it answers what had a permit each. */
  channel(ask: Ask & { readonly method: 'GET'; readonly stop: AbortSignal }): Promise<IncomingMessage> {
    return this.#authorized(ask, undefined)
  }

  /** An answer to the server, a cancellation, the end of a session: it asks for nothing, so no permit is needed. */
  async tell(ask: Ask): Promise<void> {
    const { clock, limits, name } = this.#parts
    const stop = new AbortController()
    // Nobody waits for its answer, so nobody would end it.
    const disarm = clock.at(clock.now() + limits.tellMs, () =>
      stop.abort(new ChaperoneError('upstream_timeout', `The MCP server ${name} does not take what it is told.`)),
    )
    try {
      const response = await this.#authorized({ ...ask, stop: stop.signal }, undefined)
      // Until the body is over: one that dribbles would hold its connection for ever.
      response.once('close', disarm)
      response.resume()
    } catch (error) {
      disarm()
      throw error
    }
  }

  close(): void {
    this.#connections.calls.destroy()
    this.#connections.streams.destroy()
  }

  /**
   * With the login's token. A request that was refused for its token, or for the proof that goes with it, surely was not
   * executed, so it may be asked once more: with another token, and once a token with another proof.
   */
  async #authorized(ask: Ask, permit: AbortSignal | undefined): Promise<IncomingMessage> {
    if (!this.#login) return this.#open(ask, permit, {})
    let proven: string | undefined
    for (let tokens = 1; ; ) {
      const token = await this.#login.token().catch(notSent)
      const incoming = await this.#open(ask, permit, token ? await this.#shown(ask, token) : {})
      const anew = token?.prover?.heard(this.#parts.url, proofAnswer(incoming)) === true && proven !== token.value
      const status = incoming.statusCode
      if (status !== 401 && status !== 403) return incoming
      if (anew) {
        proven = token.value
        incoming.destroy()
        continue
      }
      try {
        const again = await this.#login.refused(status, incoming.headers['www-authenticate'], token?.value).catch(notSent)
        if (!again || tokens++ === 2) return incoming
      } catch (error) {
        incoming.destroy()
        throw error
      }
      incoming.destroy()
    }
  }

  /** As `Bearer`, or bound to a key: then never without its proof, which is good for this request and this address alone (RFC 9449 section 7.1). */
  async #shown({ method, path }: Ask, { value, prover }: UpstreamToken): Promise<Readonly<Record<string, string>>> {
    if (!prover) return { authorization: `Bearer ${value}` }
    const url = path === undefined ? this.#parts.url : new URL(path, this.#parts.url)
    return { authorization: `DPoP ${value}`, dpop: await prover.prove({ method, url, token: value }) }
  }

  /** The response once its headers are there. The body ends with an error when the permit, `stop`, or a long silence ends it. */
  async #open(ask: Ask, permit: AbortSignal | undefined, shown: Readonly<Record<string, string>>): Promise<IncomingMessage> {
    const { name, limits, clock, log } = this.#parts
    const ours = await this.#parts.headers()
    if (this.#reader && (this.#parts.credential || this.#fixed.authorization !== undefined)) throw readable(name, this.#reader)
    if (permit?.aborted) throw permit.reason
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const request = this.#request({
      ...this.#target,
      path: ask.path ?? this.#target.path,
      method: ask.method,
      agent: ask.method === 'GET' ? this.#connections.streams : this.#connections.calls,
      headers: outgoing([this.#fixed, ask.headers, ours, shown], ask.body),
    })
    let heard = clock.now()
    let response: IncomingMessage | undefined

    const fail = (why: unknown) => {
      reject(why)
      response?.destroy(why as Error)
      request.destroy()
    }
    const cut = () => fail(permit!.reason)
    const stop = () => fail(ask.stop!.reason)
    const watch = (at: number): (() => void) =>
      clock.at(at, () => {
        // One timer a request, moved when it rings: re-arming it at every chunk would cost more than the chunk.
        if (clock.now() < heard + limits.silenceMs) disarm = watch(heard + limits.silenceMs)
        else if (ask.method === 'GET' || ask.waits?.()) disarm = watch(clock.now() + limits.silenceMs)
        else fail(new ChaperoneError('upstream_timeout', `The MCP server ${name} said nothing for ${limits.silenceMs / 1000} s.`))
      })
    let disarm = watch(heard + limits.silenceMs)
    const over = () => {
      disarm()
      permit?.removeEventListener('abort', cut)
      ask.stop?.removeEventListener('abort', stop)
    }
    permit?.addEventListener('abort', cut)
    ask.stop?.addEventListener('abort', stop)

    request.once('response', (incoming: IncomingMessage) => {
      response = incoming
      incoming.on('data', () => {
        heard = clock.now()
      })
      // Listening for data must not start the flow before the reader is there.
      incoming.pause()
      // Whoever reads gets the error from the iterator; without a listener it would end the process (peers R87).
      incoming.on('error', () => {})
      incoming.once('close', over)
      resolve(incoming)
    })
    request.once('error', (error: NodeJS.ErrnoException) => {
      over()
      if (response) return fail(error)
      const why = failedToReach(name, error)
      // Where the server is stands in the log alone.
      log('mcp.upstream.unreachable', { server: name, code: error.code, why: why.message, detail: why.detail })
      fail(why)
    })
    // A connection that is closed without an answer and without an error: 101 to what asked for no upgrade does that.
    request.once('close', () => {
      if (response) return
      over()
      fail(new ChaperoneError('upstream_unavailable', `The MCP server ${name} closed the connection without an answer.`))
    })
    request.end(ask.body)
    return promise
  }
}

/** RFC 6750 section 5.3: no token without TLS; a proxy of the company is somebody else all the same. */
const readable = (name: string, proxy: URL) =>
  new NotSent(
    'upstream_unavailable',
    `The MCP server ${name} is reached by plain http, and the proxy ${proxyName(proxy)} would read the credential for it.`,
    {
      fix: 'Use https, or name the host in NO_PROXY if it is reached without the proxy.',
    },
  )

function proofAnswer({ statusCode, headers }: IncomingMessage) {
  const nonce = headers['dpop-nonce']
  const error = statusCode === 401 ? readChallenge(headers['www-authenticate'])?.error : undefined
  return { error, nonce: typeof nonce === 'string' ? nonce : undefined, date: headers.date }
}

/** Whatever is wrong with a login, the request itself was refused or never sent. */
const notSent = (error: unknown): never => {
  if (!(error instanceof ChaperoneError)) throw error
  const { code, message, detail, fix } = error
  throw new NotSent(code, message, { ...(detail === undefined ? {} : { detail }), ...(fix === undefined ? {} : { fix }), cause: error })
}

/**
 * Names and values in turn, which node:http writes as they are: given an object it looks each header up several times. Of two
 * with one name, however it is written, the later one counts.
 */
function outgoing(given: readonly Readonly<Record<string, string>>[], body: string | undefined): string[] {
  const headers: Record<string, string> = {}
  for (const some of given) for (const name in some) headers[name.toLowerCase()] = some[name]!
  // Compressed answers could not be looked into, nor streamed event by event.
  headers['accept-encoding'] = 'identity'
  if (body !== undefined) headers['content-length'] = String(Buffer.byteLength(body))
  const list: string[] = []
  for (const name in headers) list.push(name, headers[name]!)
  return list
}

/** What of a client's headers goes upstream: nothing that says who it is (rule 5). Unknown `Mcp-*` headers must be passed on. */
const FORWARD = new Set(['accept', 'content-type', 'last-event-id', 'traceparent', 'tracestate', 'accept-language'])

export function requestHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const out: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value !== 'string' || name === 'mcp-session-id') continue
    if (FORWARD.has(name) || name.startsWith('mcp-')) out[name] = value
  }
  return out
}

/** What of a server's headers reaches the client: not its cookies, session and challenges, which are ours to hold. */
const KEEP = new Set(['content-type', 'content-language', 'cache-control', 'retry-after', 'mcp-protocol-version', 'x-accel-buffering'])

export function responseHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const out: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) if (typeof value === 'string' && KEEP.has(name)) out[name] = value
  return out
}
