import { lookup as systemLookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { ProxyEnvironment } from '../network/proxy.ts'
import { mayPointTo, type Reach, reachOf, reachOfHost } from './addresses.ts'
import { type Exchanged, exchange } from './outbound-exchange.ts'

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
  /** where HTTPS_PROXY and NO_PROXY are read; default: of the process */
  readonly env?: ProxyEnvironment | undefined
  /** for tests */
  readonly resolve?: Resolve | undefined
}

export type Resolve = (host: string) => Promise<readonly { readonly address: string; readonly family: number }[]>

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
export function openOutbound({ server, name, ca, clock, depth: known, env, resolve = addressesOf }: OutboundParts): Outbound {
  const given = reachOfHost(server.hostname)
  let depth: Depth = given === undefined ? (known ?? 'public') : given === 'never' ? 'public' : given

  const refused = (url: URL, why: string) =>
    new ChaperoneError('upstream_unavailable', `The MCP server ${name} points to ${url.origin} for its login, ${why}.`, {
      fix: `If that is right, an administrator writes where ${name} itself lies in that network, as https, behind \`url:\` in its document (chaperone get mcp ${name}), and applies it.`,
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

  /** A server proves where it lies by answering there under its own certificate; plain http proves nothing by a name. */
  const seenAt = (url: URL, { peer }: Exchanged): void => {
    // Behind a proxy nobody sees where it lies.
    if (given !== undefined || url.origin !== server.origin || url.protocol !== 'https:' || peer === undefined) return
    const reach = reachOf(peer)
    if (reach !== 'never') depth = reach
  }

  const send = async (whole: boolean, to: string | URL, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(to)
    checkScheme(url)
    const bare = url.hostname.replace(/^\[|\]$/g, '')
    // A socket to an address asks no lookup function.
    if (isIP(bare) !== 0) check(url, bare)
    return exchange(url, {
      method: init.method ?? 'GET',
      headers: Object.fromEntries(new Headers(init.headers)),
      body: init.body === undefined || init.body === null ? undefined : String(init.body),
      lookup: checkedLookup(resolve, (address) => (address === undefined ? refusedEmpty(url) : check(url, address))),
      ca,
      clock,
      env,
      whole,
      maxBytes: MOST_BYTES,
      timeoutMs: MOST_MS,
      what: 'for the login',
      seen: (incoming) => seenAt(url, incoming),
    })
  }
  const refusedEmpty = (url: URL): never => {
    throw refused(url, 'which has no address')
  }
  return {
    fetch: (to, init) => send(true, to, init),
    head: (to, init) => send(false, to, init),
    get depth() {
      return depth
    },
  }
}

/** Checks every address of the name, and gives exactly those to the socket; `check` gets undefined when there is none, and throws. */
const checkedLookup =
  (resolve: Resolve, check: (address: string | undefined) => void): LookupFunction =>
  (host, options, done) => {
    resolve(host).then(
      (found) => {
        try {
          if (found.length === 0) check(undefined)
          for (const { address } of found) check(address)
        } catch (error) {
          return done(error as Error, '')
        }
        if (options.all) done(null, found as { address: string; family: number }[])
        else done(null, found[0]!.address, found[0]!.family)
      },
      (error: Error) => done(error, ''),
    )
  }

const addressesOf: Resolve = (host) => systemLookup(host, { all: true, verbatim: true })

/** One question to an address that a document or a metadata page names. */
export interface Question {
  readonly url: string | URL
  /** default: GET */
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** PEM, believed beside what this process believes */
  readonly ca?: string | undefined
  /** A document says that it lies in a private network, or on this machine (there plain http is allowed too). Default: public addresses alone. */
  readonly allowPrivate?: boolean | undefined
  /** default: 256 KiB */
  readonly maxBytes?: number
  /** default: 10 s */
  readonly timeoutMs?: number
}

/** Everything that Chaperone fetches because somebody wrote or published an address: discovery, keys, client metadata, token endpoints. */
export interface Outgoing {
  /**
   * The whole answer, whatever its status; a redirect is an answer like any other and is not followed. Throws
   * `upstream_unavailable` (an address where nothing of the kind may lie, TLS that does not verify, too many bytes) and
   * `upstream_timeout`.
   */
  fetch(question: Question): Promise<Response>
  /** The same as a `fetch` that libraries take (jose, openid-client, the MCP SDK); `fixed` holds for each of its requests. */
  asFetch(fixed?: Pick<Question, 'ca' | 'allowPrivate' | 'maxBytes' | 'timeoutMs'>): (url: string | URL, init?: RequestInit) => Promise<Response>
}

interface OutgoingParts {
  readonly clock: Clock
  /** where HTTPS_PROXY and NO_PROXY are read; default: of the process */
  readonly env?: ProxyEnvironment | undefined
  /** for tests */
  readonly resolve?: Resolve | undefined
}

export function openOutgoing({ clock, env, resolve = addressesOf }: OutgoingParts): Outgoing {
  const ask = async (question: Question): Promise<Response> => {
    const url = URL.parse(String(question.url))
    if (!url) throw new ChaperoneError('upstream_unavailable', 'What should be fetched has no valid address.')
    const refused = (why: string) =>
      new ChaperoneError('upstream_unavailable', `${url.origin} is not fetched: ${why}.`, {
        fix: 'An address in a private network must be allowed where it is written down (`allow_private: true`).',
      })
    const check = (address: string | undefined): void => {
      if (address === undefined) throw refused('it has no address')
      const reach = reachOf(address)
      if (reach === 'never') throw refused('nothing that answers for others can lie there')
      if (reach !== 'public' && question.allowPrivate !== true) throw refused('it lies in a private network')
      if (url.protocol === 'http:' && reach !== 'loopback') throw refused('it is not https')
    }
    if (url.protocol !== 'https:' && !(url.protocol === 'http:' && question.allowPrivate === true)) throw refused('it is not https')
    if (url.username !== '' || url.password !== '') throw refused('a password stands in the address')
    const bare = url.hostname.replace(/^\[|\]$/g, '')
    // A socket to an address asks no lookup function. Behind a proxy the name is looked up there: what the name itself says is all that is known.
    if (isIP(bare) !== 0) check(bare)
    else if (reachOfHost(bare) === 'loopback') check('127.0.0.1')
    return await exchange(url, {
      method: question.method ?? 'GET',
      headers: question.headers ?? {},
      body: question.body,
      lookup: checkedLookup(resolve, check),
      ca: question.ca,
      clock,
      env,
      whole: true,
      maxBytes: question.maxBytes ?? MOST_BYTES,
      timeoutMs: question.timeoutMs ?? MOST_MS,
      what: '',
    })
  }
  return {
    fetch: ask,
    asFetch:
      (fixed = {}) =>
      (url, init = {}) =>
        ask({
          ...fixed,
          url,
          method: init.method ?? 'GET',
          headers: Object.fromEntries(new Headers(init.headers)),
          ...(init.body === undefined || init.body === null ? {} : { body: String(init.body) }),
        }),
  }
}
