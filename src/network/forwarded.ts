import type { IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'
import { ChaperoneError } from '../errors.ts'

/** Which header the balancer writes. One alone is read: the other may come from the client, through the balancer, unchanged. */
export const FORWARDED_HEADERS = ['x-forwarded-for', 'forwarded'] as const
export type ForwardedHeader = (typeof FORWARDED_HEADERS)[number]

export interface Balancers {
  /** Whether what this address says of its client is believed. */
  trusts(address: string | undefined): boolean
  /** Notes, for `addressOf`, from where a request really came. To be done once, first of all. */
  note(request: IncomingMessage): void
}

const real = new WeakMap<IncomingMessage, string>()
/** A chain of balancers is two or three; a longer list is somebody's attempt. */
const MOST_HOPS = 16

/** The address of whoever asks, as text: of the connection, or of the client of a balancer that was configured. Never for a decision, only for limits and the record. */
export const addressOf = (request: IncomingMessage): string => real.get(request) ?? plain(request.socket.remoteAddress)

/** `trusted`: addresses and ranges (CIDR). Throws `usage`. */
export function balancersAt(trusted: readonly string[], header: ForwardedHeader = 'x-forwarded-for'): Balancers {
  const list = new BlockList()
  for (const written of trusted) addRange(list, written)
  const trusts = (address: string | undefined): boolean => {
    const bare = plain(address)
    return isIP(bare) !== 0 && list.check(bare, isIP(bare) === 6 ? 'ipv6' : 'ipv4')
  }
  return {
    trusts,
    note(request) {
      if (trusted.length === 0 || !trusts(request.socket.remoteAddress)) return
      const hops = hopsIn(header, request.headers[header])
      let address = plain(request.socket.remoteAddress)
      // From the right: each balancer writes behind what it was given, and what stands before the first one that we know is anybody's.
      for (let i = hops.length - 1; i >= Math.max(0, hops.length - MOST_HOPS) && trusts(address); i--) {
        const hop = hops[i]!
        if (isIP(hop) === 0) break
        address = hop
      }
      real.set(request, address)
    },
  }
}

function addRange(list: BlockList, written: string): void {
  const [address = '', prefix, ...more] = written.split('/')
  const version = isIP(address)
  const bits = prefix === undefined ? undefined : Number(prefix)
  const most = version === 6 ? 128 : 32
  if (version === 0 || more.length > 0 || (prefix !== undefined && (!/^\d{1,3}$/.test(prefix) || bits! > most)))
    throw new ChaperoneError('usage', `\`${written.slice(0, 64)}\` is neither an address nor a range.`, { fix: 'Write 10.0.0.7 or 10.0.0.0/8.' })
  const family = version === 6 ? 'ipv6' : 'ipv4'
  if (bits === 0) throw new ChaperoneError('usage', `\`${written}\` is everybody.`, { fix: 'Name the addresses of the balancers.' })
  list.addSubnet(address, bits ?? most, family)
}

/** A listener on `::` shows IPv4 clients as mapped addresses. */
const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '')

function hopsIn(header: ForwardedHeader, value: string | string[] | undefined): readonly string[] {
  const text = [value ?? []].flat().join(',')
  if (text === '') return []
  return text.split(',').map((one) => node(header === 'forwarded' ? (/(?:^|;)\s*for\s*=\s*("[^"]*"|[^;\s]+)/i.exec(one)?.[1] ?? '') : one))
}

/** An address without quotes, brackets and port (RFC 7239 section 6; some balancers write ports into X-Forwarded-For too). */
function node(written: string): string {
  const bare = written.trim().replace(/^"|"$/g, '')
  const bracketed = /^\[([^\]]+)\](?::\d{1,5})?$/.exec(bare)?.[1]
  return plain(bracketed ?? (isIP(bare) !== 0 ? bare : bare.replace(/:\d{1,5}$/, '')))
}

/** Whether somebody stands between: also one that nobody configured, whose own address then says nothing of who asks. */
export const wasForwarded = ({ headers }: IncomingMessage): boolean =>
  headers['x-forwarded-for'] !== undefined || headers.forwarded !== undefined || headers.via !== undefined || headers['x-real-ip'] !== undefined
