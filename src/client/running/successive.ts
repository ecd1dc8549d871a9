import { type Clock, systemClock } from '../../clock.ts'
import { type ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Held, Keeper } from '../credential.ts'

/** Before a session reaches its end, the next one is begun; late enough that it is rare, early enough for a few tries. */
const LEAD = 0.1
const LONGEST_LEAD_MS = 5 * 60_000
const RETRY_MS = 5_000

/**
 * One credential over many sessions: where an agent can prove anew what it is (a workload token, a bound key), a session's longest
 * life is no reason to end its program. What was connected under the session before goes on until that one's own end.
 */
export async function keepSuccessive(
  begin: () => Promise<Keeper>,
  options: { readonly clock?: Clock; readonly skewMs?: () => number; readonly onTrouble?: (error: ChaperoneError) => void } = {},
): Promise<Keeper> {
  const clock = options.clock ?? systemClock
  const now = () => clock.now() + (options.skewMs?.() ?? 0)
  const over = new AbortController()
  const watchers: ((held: Held) => void)[] = []
  let cancel = () => {}
  let current = await begin()
  const before = new Set<Keeper>()

  const tell = (held: Held) => {
    for (const see of watchers) see(held)
  }
  const plan = (ms: number) => {
    cancel()
    cancel = clock.at(clock.now() + Math.max(0, ms), () => void next())
  }
  const take = (keeper: Keeper) => {
    keeper.onRenew((held) => {
      if (keeper === current) tell(held)
    })
    keeper.signal.addEventListener('abort', () => {
      before.delete(keeper)
      if (keeper !== current || over.signal.aborted) return
      cancel()
      over.abort(keeper.signal.reason)
    })
    const left = keeper.current().profile.sessionUntil - now()
    plan(left - Math.min(LONGEST_LEAD_MS, left * LEAD))
  }
  const next = async () => {
    if (over.signal.aborted) return
    try {
      const fresh = await begin()
      if (over.signal.aborted) return void fresh.close()
      before.add(current)
      current = fresh
      take(fresh)
      tell(fresh.current())
    } catch (cause) {
      options.onTrouble?.(toChaperoneError(cause))
      plan(RETRY_MS)
    }
  }

  take(current)
  return {
    current: () => current.current(),
    onRenew: (see) => void watchers.push(see),
    signal: over.signal,
    whyCut: async () => current.whyCut?.(),
    async close() {
      cancel()
      const all = [current, ...before]
      if (!over.signal.aborted) over.abort(current.signal.reason)
      await Promise.all(all.map((keeper) => keeper.close()))
    },
  }
}
