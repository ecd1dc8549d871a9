import { BlockList, isIP } from 'node:net'
import { ChaperoneError } from '../errors.ts'

/** Where a connection leads, before anybody is asked for an address. */
export interface Destination {
  readonly host: string
  readonly port: number
  /** TLS comes next: then HTTPS_PROXY holds, else HTTP_PROXY */
  readonly secure: boolean
}

/** The variables that every program of a company's machine reads; the rest of the environment is nobody's business here. */
export type ProxyEnvironment = Readonly<Record<string, string | undefined>>

/**
 * The proxy for a destination, or undefined for a direct connection. Lower-case names win, as for curl. `HTTP_PROXY` is not
 * read where `REQUEST_METHOD` is set (a CGI program's environment comes from the request: CVE-2016-5385). This machine is
 * never reached through a proxy: to the proxy, its own loopback is another one. Nor is a private address that is written as
 * one: what lies in this network is no business of the way out of it. A name is, unless `NO_PROXY` has it. Throws `usage`
 * for a value that is no URL.
 */
export function proxyFor({ host, port, secure }: Destination, env: ProxyEnvironment): URL | undefined {
  const plain = env.http_proxy || (env.REQUEST_METHOD === undefined ? env.HTTP_PROXY : undefined)
  const written = (secure ? env.https_proxy || env.HTTPS_PROXY : plain) || env.all_proxy || env.ALL_PROXY
  if (!written) return undefined
  const bare = host
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
    .toLowerCase()
  if (isNear(bare) || without(bare, port, env.no_proxy || env.NO_PROXY || '')) return undefined
  const url = URL.parse(written.includes('://') ? written : `http://${written}`)
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:') || url.hostname === '') {
    // Its value may hold a password.
    throw new ChaperoneError('usage', `${secure ? 'HTTPS_PROXY' : 'HTTP_PROXY'} is no address of an HTTP proxy.`, {
      fix: 'Write it as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT; SOCKS is not supported.',
    })
  }
  return url
}

/** RFC 6890: this machine, this link, and private networks; mapped into IPv6 as well, which BlockList looks into. */
const NEAR = new BlockList()
for (const [net, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
] as const)
  NEAR.addSubnet(net, prefix, 'ipv4')
for (const [net, prefix] of [
  ['::', 127],
  ['fc00::', 7],
  ['fe80::', 10],
] as const)
  NEAR.addSubnet(net, prefix, 'ipv6')

const familyOf = (address: string) => (isIP(address) === 6 ? 'ipv6' : 'ipv4')

const isNear = (host: string): boolean => (isIP(host) === 0 ? host === 'localhost' || host.endsWith('.localhost') : NEAR.check(host, familyOf(host)))

/** `NO_PROXY`: `*`, names (with everything below them, with a leading dot or without), addresses, ranges, each with a port or without. */
function without(host: string, port: number, list: string): boolean {
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((one) => one !== '')
    .some((one) => one === '*' || matches(host, port, one))
}

function matches(host: string, port: number, written: string): boolean {
  const range = /^\[?([0-9a-f:.]+)\]?\/(\d{1,3})$/.exec(written)
  if (range) {
    const [, net = '', prefix = ''] = range
    if (isIP(net) === 0 || isIP(host) !== isIP(net) || Number(prefix) > (isIP(net) === 6 ? 128 : 32)) return false
    const list = new BlockList()
    list.addSubnet(net, Number(prefix), familyOf(net))
    return list.check(host, familyOf(host))
  }
  if (isIP(written) !== 0) return written === host
  const [, name = '', atPort] = /^(.*?)(?::(\d{1,5}))?$/.exec(written)!
  if (atPort !== undefined && Number(atPort) !== port) return false
  const bare = name.replace(/^\[|\]$/g, '').replace(/^\*?\./, '')
  return bare !== '' && (host === bare || host.endsWith(`.${bare}`))
}

/** A proxy as messages may name it: without its password. */
export const proxyName = ({ protocol, host }: URL) => `${protocol}//${host}`
