import { isIPv6 } from 'node:net'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'

/** Enough for a team behind one address on a Monday morning, far too few to guess anything. */
const BURST = 60
const PER_SECOND = 1
const MOST_BUCKETS = 10_000

/** Counts one request of this address at this door. Throws `too_many`. */
export type Throttle = (address: string, door?: string) => void

/**
 * A token bucket an address and door, for the routes that anybody can reach: an office that signs in ten terminals has not
 * shut out its own machines at another door. The table is bounded: the bucket that was used longest ago makes room, so a
 * flood of addresses costs memory for 10,000 and no more. Guessing is bounded elsewhere (failures are counted by identity,
 * secrets have 256 bits); this keeps one noisy client from stopping the others.
 */
export function makeThrottle(
  clock: Clock,
  { burst, perSecond }: { readonly burst: number; readonly perSecond: number } = { burst: BURST, perSecond: PER_SECOND },
): Throttle {
  const buckets = new Map<string, { left: number; at: number }>()
  return (address, door = '') => {
    // No door has a space in it.
    const key = `${door} ${networkOf(address)}`
    const now = clock.now()
    const before = buckets.get(key)
    buckets.delete(key)
    if (buckets.size >= MOST_BUCKETS) buckets.delete(buckets.keys().next().value!)
    const refilled = before ? Math.max(0, now - before.at) * (perSecond / 1000) : 0
    const left = Math.min(burst, (before?.left ?? burst) + refilled) - 1
    buckets.set(key, { left: Math.max(left, -1), at: now })
    if (left < 0) throw new ChaperoneError('too_many', 'Too many attempts from this address.', { fix: 'Wait a minute and try again.' })
  }
}

/** Whom an address belongs to: one subscriber has a whole /64 of IPv6 addresses. */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined) return mapped
  const [head = '', tail] = address.split('%', 1)[0]!.split('::')
  const front = head === '' ? [] : head.split(':')
  const back = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = tail === undefined ? front : [...front, ...Array(Math.max(0, 8 - front.length - back.length)).fill('0'), ...back]
  return groups
    .slice(0, 4)
    .map((group) => group.toLowerCase().replace(/^0+(?=.)/, ''))
    .join(':')
}

/** Of an IPv6 network, the /48 that it is of, which one customer is given; undefined for an IPv4 address. */
export const siteOf = (network: string): string | undefined => (network.includes(':') ? network.split(':').slice(0, 3).join(':') : undefined)
