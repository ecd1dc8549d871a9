import type { Clock } from '../clock.ts'

/** `most` at once, and as many again within each `window` ms. */
export interface Rate {
  readonly most: number
  readonly window: number
}

/** Token buckets by owner and key. They keep to a clock that nobody can set; one that jumps back adds nothing. */
export interface Buckets {
  /** 0 when one may be taken now, else the ms until it may. */
  wait(owner: string, key: string, rate: Rate): number
  take(owner: string, key: string, rate: Rate): void
  giveBack(owner: string, key: string, rate: Rate): void
  /** buckets in memory */
  readonly size: number
}

/** A full bucket is as good as none, so only those are kept that something was taken from. */
interface Bucket {
  /** what was taken and has not run off yet: in tokens times the window (ms), so that every sum is a whole number */
  level: number
  at: number
  fullAt: number
}

/** A client that invents names of tools is slowed down when it has so many counts, and nobody else is. */
const MOST_PER_OWNER = 4096
const FIRST_SWEEP = 4096

export function makeBuckets(clock: Clock): Buckets {
  const owners = new Map<string, Map<string, Bucket>>()
  let size = 0
  let sweepAt = FIRST_SWEEP
  let latest = Number.NEGATIVE_INFINITY

  const now = (): number => {
    latest = Math.max(latest, Math.floor(clock.monotonic?.() ?? clock.now()))
    return latest
  }
  const levelOf = (bucket: Bucket, { most }: Rate, at: number) => Math.max(0, bucket.level - (at - bucket.at) * most)
  const sweep = (owner: string, owned: Map<string, Bucket>, at: number): void => {
    for (const [key, bucket] of owned) {
      if (bucket.fullAt > at) continue
      owned.delete(key)
      size--
    }
    if (owned.size === 0) owners.delete(owner)
  }

  return {
    wait(owner, key, rate) {
      const at = now()
      const owned = owners.get(owner)
      const bucket = owned?.get(key)
      if (bucket) {
        const over = levelOf(bucket, rate, at) + rate.window - rate.most * rate.window
        return over <= 0 ? 0 : Math.ceil(over / rate.most)
      }
      if (!owned || owned.size < MOST_PER_OWNER) return 0
      sweep(owner, owned, at)
      return owned.size < MOST_PER_OWNER ? 0 : rate.window
    },

    take(owner, key, rate) {
      const at = now()
      if (size >= sweepAt) {
        for (const [each, owned] of owners) sweep(each, owned, at)
        sweepAt = Math.max(FIRST_SWEEP, 2 * size)
      }
      const owned = owners.get(owner) ?? new Map<string, Bucket>()
      owners.set(owner, owned)
      const before = owned.get(key)
      const level = (before ? levelOf(before, rate, at) : 0) + rate.window
      owned.set(key, { level, at, fullAt: at + Math.ceil(level / rate.most) })
      if (!before) size++
    },

    giveBack(owner, key, rate) {
      const bucket = owners.get(owner)?.get(key)
      if (bucket) bucket.level = Math.max(0, bucket.level - rate.window)
    },

    get size() {
      return size
    },
  }
}
