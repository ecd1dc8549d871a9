import type { Clock } from '../clock.ts'
import { formatDuration } from '../encoding/duration.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { countOf, type Limit, limitsOf, limitText } from '../policy/limits.ts'
import type { Action, Decision } from '../policy/types.ts'
import { makeBuckets } from './buckets.ts'
import type { Budgets } from './budgets.ts'

/** What one action has taken from its limits. Each of the two does something once, and only the first of them that is called. */
export interface Taken {
  /** The action is over: it is no longer one of so many at the same time. */
  over(): void
  /** It never happened: nothing was used. */
  undo(): void
}

export interface Metered {
  /** the decision as it was given, or a refusal that says when to try again */
  readonly decision: Decision
  readonly taken: Taken
}

export interface Meter {
  /**
   * Counts an allowed action, or refuses it when a limit is reached; a refused one counts nowhere. `item` is what is used
   * of the resource. Rejects when budgets cannot be counted.
   */
  take(decision: Decision, action: Action, item: string): Metered | Promise<Metered>
}

interface MeterParts {
  readonly clock: Clock
  /** Without them a rule with a budget allows nothing. */
  readonly budgets?: Budgets | undefined
  /** A budget could not be given back: whoever has it has less than is his. */
  readonly failed: (error: unknown) => void
}

const NOTHING: Taken = { over() {}, undo() {} }

/** There is no telling when one of those that run will be over. */
const CONCURRENT_MS = 1_000

const REASON: Readonly<Record<Limit['kind'], ReasonCode>> = { rate: 'rate_limited', budget: 'budget_spent', concurrent: 'too_many' }

/** A limit and where it is counted for one action. */
interface Count extends Limit {
  /** whom the memory of it is charged to */
  readonly owner: string
  readonly key: string
}

/**
 * Counts what the limits of a decision speak of. Rates and concurrency are counted by this node, budgets in the store. Every
 * link of a chain has its own limits and its own counts: however many agents a person has, together they use what is hers.
 */
export function makeMeter({ clock, budgets, failed }: MeterParts): Meter {
  const buckets = makeBuckets(clock)
  const running = new Map<string, number>()

  const waitOf = (count: Count): number => {
    if (count.kind === 'rate') return buckets.wait(count.owner, count.key, count)
    return (running.get(count.key) ?? 0) < count.most ? 0 : CONCURRENT_MS
  }
  const enter = (counts: readonly Count[]): void => {
    for (const count of counts) {
      if (count.kind === 'rate') buckets.take(count.owner, count.key, count)
      else running.set(count.key, (running.get(count.key) ?? 0) + 1)
    }
  }
  const leave = (counts: readonly Count[]): void => {
    for (const { kind, key } of counts) {
      if (kind !== 'concurrent') continue
      const left = running.get(key)! - 1
      if (left > 0) running.set(key, left)
      else running.delete(key)
    }
  }
  const takenFrom = (local: readonly Count[], giveBack: () => void): Taken => {
    let open = true
    const once = (act: () => void) => () => {
      if (open) act()
      open = false
    }
    return {
      over: once(() => leave(local)),
      undo: once(() => {
        leave(local)
        for (const { kind, owner, key, ...rate } of local) if (kind === 'rate') buckets.giveBack(owner, key, rate)
        giveBack()
      }),
    }
  }

  const spend = async (decision: Decision, action: Action, local: readonly Count[], durable: readonly Count[]): Promise<Metered> => {
    const early = takenFrom(local, () => {})
    try {
      if (!budgets) throw new ChaperoneError('obligation_unsupported', 'The rule demands a budget, and budgets cannot be counted here.')
      const spent = await budgets.take(durable)
      if (!('waitMs' in spent)) return { decision, taken: takenFrom(local, () => budgets.giveBack(spent).catch(failed)) }
      early.undo()
      return refused(decision, action, durable[spent.purse]!, spent.waitMs)
    } catch (error) {
      early.undo()
      throw error
    }
  }

  return {
    take(decision, action, item) {
      const limits = limitsOf(decision.obligations)
      // A handshake or a list does nothing to the resource; without them nobody could use what is left.
      if (limits.length === 0 || action.partial) return { decision, taken: NOTHING }
      const counts = limits.map((limit) => countFor(limit, action, item))
      const local = counts.filter(({ kind }) => kind !== 'budget')
      const [longest] = local.map((count) => ({ count, wait: waitOf(count) })).toSorted((a, b) => b.wait - a.wait)
      if (longest && longest.wait > 0) return refused(decision, action, longest.count, longest.wait)
      enter(local)
      const durable = counts.filter(({ kind }) => kind === 'budget')
      return durable.length > 0 ? spend(decision, action, local, durable) : { decision, taken: takenFrom(local, () => {}) }
    },
  }
}

function countFor(limit: Limit, { resource }: Action, item: string): Count {
  const key = [countOf(limit), resource.id, ...(limit.per === 'item' ? [item] : [])].join(' ')
  return { ...limit, key, owner: limit.per === 'resource' ? resource.id : (limit.identity?.id ?? '') }
}

function refused(decision: Decision, action: Action, limit: Limit, waitMs: number): Metered {
  const retryAfter = Math.max(1, Math.ceil(waitMs / 1000))
  const long = retryAfter > 120 ? ` (${formatDuration(retryAfter * 1000)})` : ''
  const when = limit.kind === 'concurrent' ? 'when one of those that run is over' : `in ${retryAfter} seconds${long}`
  return {
    decision: {
      ...decision,
      verdict: 'deny',
      reason: REASON[limit.kind],
      rule: limit.rule,
      link: limit.identity?.name ?? decision.link,
      message: `${action.summary} on ${action.resource.name} is over a limit: ${limitText(limit)}. Try again ${when}.`,
      retryAfter,
    },
    taken: NOTHING,
  }
}
