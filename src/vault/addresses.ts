import { BlockList, isIP } from 'node:net'

/**
 * How deep in a network an address lies. `never`: nothing that an OAuth server could live at, above all the metadata
 * service of a cloud, which hands out credentials to whoever asks from the inside.
 */
export type Reach = 'public' | 'private' | 'loopback' | 'never'

type Range = readonly [net: string, prefix: number]

const listOf = (v4: readonly Range[], v6: readonly Range[]): BlockList => {
  const list = new BlockList()
  for (const [net, prefix] of v4) list.addSubnet(net, prefix, 'ipv4')
  for (const [net, prefix] of v6) list.addSubnet(net, prefix, 'ipv6')
  return list
}

/** RFC 6890 and its registries; beside them what some clouds serve their metadata at. */
const NEVER = listOf(
  [
    ['0.0.0.0', 8],
    ['169.254.0.0', 16],
    ['192.0.0.0', 24],
    ['192.0.2.0', 24],
    ['192.88.99.0', 24],
    ['198.18.0.0', 15],
    ['198.51.100.0', 24],
    ['203.0.113.0', 24],
    ['224.0.0.0', 3],
    ['100.100.100.200', 32], // Alibaba
    ['168.63.129.16', 32], // Azure
  ],
  [
    ['fd00:ec2::', 32], // Amazon
    ['fd20:ce::', 32], // Google
    ['2001::', 23], // Teredo and other tunnels
    ['2001:db8::', 32],
    ['2002::', 16], // 6to4 holds an IPv4 address that nothing here would have looked at
    ['3fff::', 20],
  ],
)
const LOOPBACK = listOf([['127.0.0.0', 8]], [['::1', 128]])
const PRIVATE = listOf(
  [
    ['10.0.0.0', 8],
    ['100.64.0.0', 10],
    ['172.16.0.0', 12],
    ['192.168.0.0', 16],
  ],
  [['fc00::', 7]],
)
const GLOBAL_V6 = listOf([], [['2000::', 3]])

/** Of an IPv4 or IPv6 address as text; of anything else `never`. */
export function reachOf(address: string): Reach {
  const version = isIP(address)
  if (version === 0 || address.includes('%')) return 'never'
  if (version === 6) {
    const inside = embedded(address)
    if (inside !== undefined) return reachOf(inside)
  }
  const family = version === 4 ? 'ipv4' : 'ipv6'
  if (NEVER.check(address, family)) return 'never'
  if (LOOPBACK.check(address, family)) return 'loopback'
  if (PRIVATE.check(address, family)) return 'private'
  return version === 4 || GLOBAL_V6.check(address, family) ? 'public' : 'never'
}

/** The IPv4 address inside `::ffff:0:0/96` (mapped) and `64:ff9b::/96` (NAT64): that is where it leads. */
function embedded(address: string): string | undefined {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = [...left, ...Array.from({ length: 8 - left.length - right.length }, () => '0'), ...right].map((text) => Number.parseInt(text, 16))
  const prefix = groups.slice(0, 6).join(':')
  if (prefix !== '0:0:0:0:0:65535' && prefix !== '100:65435:0:0:0:0') return undefined
  const [high = 0, low = 0] = groups.slice(6)
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}

const DEPTH: Readonly<Record<Exclude<Reach, 'never'>, number>> = { public: 0, private: 1, loopback: 2 }

/** Whether somebody who lies at `from` may point at `to`: only outwards, or to where it lies itself. */
export const mayPointTo = (from: Exclude<Reach, 'never'>, to: Reach): boolean => to !== 'never' && DEPTH[to] <= DEPTH[from]

/** What a URL's host says by itself, without asking anybody: an address, or `localhost`. */
export function reachOfHost(hostname: string): Reach | undefined {
  const bare = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')
  if (isIP(bare) !== 0) return reachOf(bare)
  return bare === 'localhost' || bare.endsWith('.localhost') ? 'loopback' : undefined
}
