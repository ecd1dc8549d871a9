import { isIPv6 } from 'node:net'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'

/** Enough for a team behind one address on a Monday morning, far too few to guess anything. */
const BURST = 60
const PER_SECOND = 1
const MOST_ADDRESSES = 10_000

/**
 * A token bucket an address, for the routes that anybody can reach. The table is bounded: the address that was seen
 * longest ago makes room, so a flood of addresses costs memory for 10,000 and no more. Guessing is bounded elsewhere
 * (failures are counted by identity, secrets have 256 bits); this keeps one noisy client from stopping the others.
 */
export function makeThrottle(
  clock: Clock,
  { burst, perSecond }: { readonly burst: number; readonly perSecond: number } = { burst: BURST, perSecond: PER_SECOND },
): (address: string) => void {
  const buckets = new Map<string, { left: number; at: number }>()
  return (address) => {
    const key = networkOf(address)
    const now = clock.now()
    const before = buckets.get(key)
    buckets.delete(key)
    if (buckets.size >= MOST_ADDRESSES) buckets.delete(buckets.keys().next().value!)
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
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')
}
