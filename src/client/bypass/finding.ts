/** A way past Chaperone, tried from where we are. */
export interface Finding {
  /** `mcp/github`, `postgres/orders`, or a file */
  readonly what: string
  /** the address that was tried, or the entry of the file */
  readonly where: string
  /**
   * `open`: it lets us in. `guarded`: it can be reached, and wants a credential that somebody might have. `closed`: it cannot be
   * reached, or takes nobody but Chaperone. `unclear`: it answers in a way that says neither.
   */
  readonly state: 'open' | 'guarded' | 'closed' | 'unclear'
  readonly says: string
  /** the line that closes it */
  readonly fix?: string
}

/** All of what is tried: a slow server holds nothing up. */
export const PROBE = { timeoutMs: 5_000, most: 200, atOnce: 8, answer: 64 * 1024 } as const

/** Runs over all of them, a few at a time, in order of the answers given. */
export async function eachOf<T, R>(all: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(all.length)
  let next = 0
  const worker = async () => {
    for (let at = next++; at < all.length; at = next++) results[at] = await work(all[at]!)
  }
  await Promise.all(Array.from({ length: Math.min(PROBE.atOnce, all.length) }, worker))
  return results
}
