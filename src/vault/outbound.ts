import { lookup as systemLookup } from 'node:dns/promises'
import http, { type IncomingMessage, type RequestOptions } from 'node:http'
import https from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { getCACertificates } from 'node:tls'
import { urlToHttpOptions } from 'node:url'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { mayPointTo, type Reach, reachOf, reachOfHost } from './addresses.ts'

export interface OutboundParts {
  /** the MCP server, as an administrator wrote it: the one address that nobody else chose */
  readonly server: URL
  /** the server's name, for messages */
  readonly name: string
  /** PEM, believed beside the system's authorities: a company's own server and its login often share one */
  readonly ca?: string | undefined
  readonly clock: Clock
  /** as it was seen at an earlier time */
  readonly depth?: Depth | undefined
  /** for tests */
  readonly resolve?: (host: string) => Promise<readonly { readonly address: string; readonly family: number }[]>
}

export type Depth = Exclude<Reach, 'never'>

/** The fetch that everything of OAuth goes through. */
export interface Outbound {
  fetch(url: string | URL, init?: RequestInit): Promise<Response>
  /** The same without the answer's body, which may be a stream without end. */
  head(url: string | URL, init?: RequestInit): Promise<Response>
  /** How deep in our network the MCP server itself lies, as far as it has proven it. */
  readonly depth: Depth
}

const MOST_BYTES = 256 * 1024
const MOST_MS = 10_000

/**
 * What an MCP server points us to is untrusted: its metadata, its authorization server and their endpoints could be
 * addresses inside our own network (SSRF). Its own origin is where the administrator sent us; anything else must be https
 * and lie no deeper in the network than the server itself. A name is looked up once and the answer that was checked is the
 * one that is connected to (DNS rebinding). No redirect is followed here.
 */
export function openOutbound({ server, name, ca, clock, depth: known, resolve = addressesOf }: OutboundParts): Outbound {
  const given = reachOfHost(server.hostname)
  let depth: Depth = given === undefined ? (known ?? 'public') : given === 'never' ? 'public' : given

  const refused = (url: URL, why: string) =>
    new ChaperoneError('upstream_unavailable', `The MCP server ${name} points to ${url.origin} for its login, ${why}.`, {
      fix: 'If that is right, the address of the server in its document must lie in the same network.',
    })
  const check = (url: URL, address: string): void => {
    if (url.origin === server.origin) return
    const reach = reachOf(address)
    if (!mayPointTo(depth, reach)) throw refused(url, 'which lies where it may not lead')
    if (url.protocol === 'http:' && reach !== 'loopback') throw refused(url, 'which is not https')
  }
  const checkScheme = (url: URL): void => {
    if (url.username !== '' || url.password !== '') throw refused(url, 'with a password in the address')
    if (url.protocol === 'https:' || url.origin === server.origin) return
    // Development on one machine: nobody else is on that line.
    if (url.protocol === 'http:' && server.protocol === 'http:' && depth === 'loopback') return
    throw refused(url, 'which is not https')
  }

  /** Checks every address of the name, and gives exactly those to the socket. */
  const lookupFor =
    (url: URL): LookupFunction =>
    (host, options, done) => {
      resolve(host).then(
        (found) => {
          try {
            if (found.length === 0) throw refused(url, 'which has no address')
            for (const { address } of found) check(url, address)
          } catch (error) {
            return done(error as Error, '')
          }
          if (options.all) done(null, found as { address: string; family: number }[])
          else done(null, found[0]!.address, found[0]!.family)
        },
        (error: Error) => done(error, ''),
      )
    }

  /** A server proves where it lies by answering there under its own certificate; plain http proves nothing by a name. */
  const seenAt = (url: URL, incoming: IncomingMessage): void => {
    if (given !== undefined || url.origin !== server.origin || url.protocol !== 'https:') return
    const reach = reachOf(incoming.socket.remoteAddress ?? '')
    if (reach !== 'never') depth = reach
  }

  const send = async (whole: boolean, to: string | URL, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(to)
    checkScheme(url)
    const bare = url.hostname.replace(/^\[|\]$/g, '')
    // A socket to an address asks no lookup function.
    if (isIP(bare) !== 0) check(url, bare)
    const body = init.body === undefined || init.body === null ? undefined : String(init.body)
    const options: RequestOptions = {
      ...urlToHttpOptions(url),
      method: init.method ?? 'GET',
      agent: false,
      lookup: lookupFor(url),
      maxHeaderSize: 16 * 1024,
      headers: {
        ...Object.fromEntries(new Headers(init.headers)),
        'accept-encoding': 'identity',
        ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }),
      },
    }
    const secure = url.protocol === 'https:'
    return exchange(secure ? https.request : http.request, secure ? { ...options, ...trust(ca), minVersion: 'TLSv1.2' } : options, body, {
      url,
      clock,
      whole,
      seen: (incoming) => seenAt(url, incoming),
    })
  }
  return {
    fetch: (to, init) => send(true, to, init),
    head: (to, init) => send(false, to, init),
    get depth() {
      return depth
    },
  }
}

const trust = (ca: string | undefined) => (ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] })

const addressesOf = (host: string) => systemLookup(host, { all: true, verbatim: true })

function exchange(
  open: typeof http.request,
  options: https.RequestOptions,
  body: string | undefined,
  how: { readonly url: URL; readonly clock: Clock; readonly whole: boolean; readonly seen: (incoming: IncomingMessage) => void },
): Promise<Response> {
  const { url, clock } = how
  const { promise, resolve, reject } = Promise.withResolvers<Response>()
  const request = open(options)
  const fail = (error: Error) => {
    disarm()
    reject(
      error instanceof ChaperoneError
        ? error
        : new ChaperoneError('upstream_unavailable', `${url.origin} cannot be reached for the login.`, {
            detail: `${(error as NodeJS.ErrnoException).code ?? ''} ${error.message}`,
          }),
    )
    request.destroy()
  }
  const disarm = clock.at(clock.now() + MOST_MS, () =>
    fail(new ChaperoneError('upstream_timeout', `${url.origin} did not answer within ${MOST_MS / 1000} s.`)),
  )
  request.once('response', (incoming: IncomingMessage) => {
    how.seen(incoming)
    const chunks: Buffer[] = []
    let size = 0
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length
      chunks.push(chunk)
      if (size > MOST_BYTES) fail(new ChaperoneError('upstream_unavailable', `The answer of ${url.origin} is over ${MOST_BYTES} bytes.`))
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
  request.end(body)
  return promise
}

/** Throws for a status that no response may have (a server may send 999). */
function responseOf({ statusCode = 0, headers: given }: IncomingMessage, bytes: Buffer): Response {
  const headers = new Headers()
  for (const [key, value] of Object.entries(given)) if (value !== undefined) headers.set(key, [value].flat().join(', '))
  const bare = statusCode === 204 || statusCode === 205 || statusCode === 304
  return new Response(bare ? null : new Uint8Array(bytes), { status: statusCode, headers })
}
