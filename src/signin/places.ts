import { networkOf, siteOf } from '../network/throttle.ts'

/** What somebody without a credential holds of the places that there are. */
export interface Held {
  /** address, or network of it */
  readonly from: string
  readonly count: number
  /** of his oldest, ms since 1970; any order that goes with it */
  readonly since: number
}

/**
 * From where one gives way when all places are taken, the oldest: from whoever holds the most. Whoever takes many places from a hundred
 * networks takes them from himself then, and who holds one keeps it as long as anybody holds two. A customer is one IPv4 address, or one
 * IPv6 /48. Pure.
 */
export function whoGivesWay(held: readonly Held[]): Held | undefined {
  const customers = new Map<string, { count: number; oldest: Held }>()
  for (const one of held) {
    const network = networkOf(one.from)
    const customer = siteOf(network) ?? network
    const { count = 0, oldest = one } = customers.get(customer) ?? {}
    customers.set(customer, { count: count + one.count, oldest: one.since < oldest.since ? one : oldest })
  }
  let most: { readonly count: number; readonly oldest: Held } | undefined
  for (const share of customers.values())
    if (!most || share.count > most.count || (share.count === most.count && share.oldest.since < most.oldest.since)) most = share
  return most?.oldest
}
