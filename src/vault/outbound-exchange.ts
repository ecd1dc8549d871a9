import http, { type IncomingMessage, type RequestOptions } from 'node:http'
import https from 'node:https'
import type { LookupFunction } from 'node:net'
import { urlToHttpOptions } from 'node:url'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { trust } from '../network/authorities.ts'
import { type ProxyEnvironment, proxyFor } from '../network/proxy.ts'
import { agentFor } from '../network/tunnel.ts'

export interface Exchange {
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
  /** Judges every address before it is connected to. A proxy that the company set looks names up itself: then it is not asked. */
  readonly lookup: LookupFunction
  readonly ca: string | undefined
  readonly clock: Clock
  readonly env: ProxyEnvironment | undefined
  /** false: without the body, which may be a stream without end */
  readonly whole: boolean
  readonly maxBytes: number
  readonly timeoutMs: number
  /** for messages: `for the login` */
  readonly what: string
  readonly seen?: (how: Exchanged) => void
}

export interface Exchanged {
  /** the address that answered; undefined behind a proxy */
  readonly peer: string | undefined
}

/** One request, its answer bounded in bytes and time. No redirect is followed. Throws `upstream_unavailable`, `upstream_timeout`. */
export async function exchange(url: URL, how: Exchange): Promise<Response> {
  const { clock, env = process.env } = how
  const secure = url.protocol === 'https:'
  const to = { host: url.hostname, port: Number(url.port) || (secure ? 443 : 80), secure }
  // Plain http is for this machine alone (the lookup sees to that): a proxy would read all of it, and nobody would see where it leads.
  const proxied = secure && proxyFor(to, env) !== undefined
  const tls = secure ? { ...trust(how.ca), minVersion: 'TLSv1.2' as const } : {}
  const options: RequestOptions = {
    ...urlToHttpOptions(url),
    ...tls,
    method: how.method,
    agent: proxied ? agentFor(to, tls, env) : false,
    ...(proxied ? {} : { lookup: how.lookup }),
    maxHeaderSize: 16 * 1024,
    headers: {
      ...how.headers,
      'accept-encoding': 'identity',
      ...(how.body === undefined ? {} : { 'content-length': Buffer.byteLength(how.body) }),
    },
  }
  const { promise, resolve, reject } = Promise.withResolvers<Response>()
  const request = (secure ? https : http).request(options)
  const fail = (error: Error) => {
    disarm()
    reject(
      error instanceof ChaperoneError
        ? error
        : new ChaperoneError('upstream_unavailable', `${[`${url.origin} cannot be reached`, how.what].filter(Boolean).join(' ')}.`, {
            detail: `${(error as NodeJS.ErrnoException).code ?? ''} ${error.message}`,
          }),
    )
    request.destroy()
  }
  const disarm = clock.at(clock.now() + how.timeoutMs, () =>
    fail(new ChaperoneError('upstream_timeout', `${url.origin} did not answer within ${how.timeoutMs / 1000} s.`)),
  )
  request.once('response', (incoming: IncomingMessage) => {
    how.seen?.({ peer: proxied ? undefined : incoming.socket.remoteAddress })
    const chunks: Buffer[] = []
    let size = 0
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length
      chunks.push(chunk)
      if (size > how.maxBytes) fail(new ChaperoneError('upstream_unavailable', `The answer of ${url.origin} is over ${how.maxBytes} bytes.`))
    })
    incoming.once('error', fail)
    const done = () => {
      try {
        resolve(responseOf(incoming, Buffer.concat(chunks)))
        disarm()
      } catch (error) {
        fail(error as Error)
      }
    }
    incoming.once('end', done)
    if (how.whole) return
    done()
    request.destroy()
  })
  request.once('error', fail)
  // Closed without an answer and without an error: 101 to what asked for no upgrade does that.
  request.once('close', () => fail(new Error('closed without an answer')))
  request.end(how.body)
  return promise
}

/** Throws for a status that no response may have (a server may send 999). */
function responseOf({ statusCode = 0, headers: given }: IncomingMessage, bytes: Buffer): Response {
  const headers = new Headers()
  for (const [key, value] of Object.entries(given)) if (value !== undefined) headers.set(key, [value].flat().join(', '))
  const bare = statusCode === 204 || statusCode === 205 || statusCode === 304
  return new Response(bare ? null : new Uint8Array(bytes), { status: statusCode, headers })
}
