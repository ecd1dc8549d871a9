import type { Lease } from '../store/lease.ts'

/** A second off the store's clock, and certificates would begin or end at the wrong time: not ready (design 3.5). */
const MOST_SKEW_MS = 1_000

interface ReadinessParts {
  readonly audit: { failing(): boolean }
  readonly lease: Pick<Lease, 'valid' | 'skewMs'>
}

/** Whether this node should be sent anything: `notReady` says why not. */
export function readinessOf({ audit, lease }: ReadinessParts) {
  let draining = false
  return {
    drain: {
      begin() {
        draining = true
      },
      get under() {
        return draining
      },
    },
    notReady(): string | undefined {
      if (draining) return 'this node is shutting down'
      if (audit.failing()) return 'records cannot be written, so everything is refused'
      if (!lease.valid()) return 'the lease of this node has run out'
      if (Math.abs(lease.skewMs()) > MOST_SKEW_MS) return `the clock of this node is ${Math.round(lease.skewMs())} ms off the store's`
      return undefined
    },
  }
}
