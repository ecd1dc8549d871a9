import http from 'node:http'
import https from 'node:https'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { ChaperoneError } from '../errors.ts'
import { believed } from './authorities.ts'
import { type Destination, type ProxyEnvironment, proxyFor, proxyName } from './proxy.ts'

/** From the first byte to the proxy to its answer. */
const TUNNEL_MS = 10_000

export interface TunnelOptions {
  readonly timeoutMs?: number
  readonly signal?: AbortSignal | undefined
}

/** A socket to the destination through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6): what runs in it is the two ends' own. Throws `upstream_unavailable`. */
function openTunnel(proxy: URL, { host, port }: Destination, { timeoutMs = TUNNEL_MS, signal }: TunnelOptions = {}): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>()
  const bare = host.replace(/^\[|\]$/g, '')
  const target = `${bare.includes(':') ? `[${bare}]` : bare}:${port}`
  const failed = (why: string, cause?: Error, fix?: string) =>
    reject(
      new ChaperoneError('upstream_unavailable', `The proxy ${proxyName(proxy)} ${why}.`, {
        fix: fix ?? `Check HTTPS_PROXY, or name ${bare} in NO_PROXY if it is reached without the proxy.`,
        ...(cause === undefined ? {} : { detail: cause.message, cause }),
      }),
    )
  const secure = proxy.protocol === 'https:'
  const request = (secure ? https : http).request({
    host: proxy.hostname.replace(/^\[|\]$/g, ''),
    port: proxy.port === '' ? (secure ? 443 : 80) : Number(proxy.port),
    method: 'CONNECT',
    path: target,
    agent: false,
    timeout: timeoutMs,
    maxHeaderSize: 16 * 1024,
    headers: { host: target, ...authorization(proxy) },
    ...(secure ? { ca: believed() } : {}),
    ...(signal ? { signal } : {}),
  })
  request.once('connect', ({ statusCode = 0 }, socket: Socket, head) => {
    if (statusCode >= 200 && statusCode < 300) {
      socket.setTimeout(0)
      if (head.length > 0) socket.unshift(head)
      return resolve(socket)
    }
    socket.destroy()
    if (statusCode === 407)
      return failed('wants a name and a password', undefined, 'Write them into the variable: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT')
    failed(`does not connect to ${target} (it answered ${statusCode})`)
  })
  // An answer to CONNECT that Node takes for one with a body: not a tunnel.
  request.once('response', (incoming) => {
    incoming.destroy()
    failed(`does not connect to ${target} (it answered ${incoming.statusCode ?? 0})`)
  })
  request.once('timeout', () => request.destroy(new Error(`no answer in ${timeoutMs} ms`)))
  request.once('error', (error) => failed('cannot be reached', error))
  request.once('close', () => failed('closed the connection'))
  request.end()
  return promise
}

function authorization({ username, password }: URL): Record<string, string> {
  if (username === '' && password === '') return {}
  const plain = `${decoded(username)}:${decoded(password)}`
  return { 'proxy-authorization': `Basic ${Buffer.from(plain).toString('base64')}` }
}

/** A lone percent sign in a password means itself, as for curl. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** A TCP socket to the destination: direct, or through the proxy that the environment names for it. */
export async function openSocket(to: Destination, env: ProxyEnvironment = process.env, options: TunnelOptions = {}): Promise<Socket> {
  const proxy = proxyFor(to, env)
  if (proxy) return await openTunnel(proxy, to, options)
  const socket = connectTcp({ host: to.host.replace(/^\[|\]$/g, ''), port: to.port, noDelay: true, keepAlive: true })
  if (options.timeoutMs !== undefined) socket.setTimeout(options.timeoutMs, () => socket.destroy(new Error('timeout while connecting')))
  options.signal?.addEventListener('abort', () => socket.destroy(new Error('aborted')), { once: true })
  await new Promise<void>((done, fail) => socket.once('connect', done).once('error', fail))
  socket.setTimeout(0)
  return socket
}

/** An agent of `https` whose connections go through the proxy. */
class TunnelAgent extends https.Agent {
  readonly #proxy: URL

  constructor(proxy: URL, options: https.AgentOptions = {}) {
    super(options)
    this.#proxy = proxy
  }

  override createConnection(options: https.RequestOptions, done?: (error: Error | null, socket: Socket) => void): undefined {
    const to = { host: String(options.host ?? options.hostname), port: Number(options.port), secure: true }
    const inside = async () => {
      const socket = await openTunnel(this.#proxy, to)
      try {
        return connectTls({ ...(options as object), socket, lookup: undefined as never })
      } catch (error) {
        // A key that does not go with its certificate is thrown at once, and there is nobody to catch it but us.
        socket.destroy()
        throw error
      }
    }
    inside().then(
      (socket) => done?.(null, socket),
      (error: Error) => done?.(error, undefined as never),
    )
    return undefined
  }
}

/** An agent for one destination: direct, or through the proxy that the environment names for it. */
export function agentFor(to: Destination, options: https.AgentOptions, env: ProxyEnvironment = process.env): http.Agent {
  const proxy = proxyFor(to, env)
  if (!proxy) return to.secure ? new https.Agent(options) : new http.Agent(options)
  if (to.secure) return new TunnelAgent(proxy, options)
  // Plain http is asked of the proxy by its whole address (RFC 9112 section 3.2.2), which Node does by itself.
  return new http.Agent({ ...options, proxyEnv: { HTTP_PROXY: proxy.href } } as http.AgentOptions)
}
