import type { Clock } from '../clock.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Action, Decision } from '../policy/types.ts'

/** A question that this node asked and that may still wait: what it takes to ask policy again. */
export interface Asked {
  readonly request: string
  readonly session: LiveSession
  readonly action: Action
  /** sha256 of what the gateway bound */
  readonly bound: string
  readonly digest: string
  /** characters that the call takes, about */
  readonly size: number
  /** ms since 1970 */
  readonly expiresAt: number
}

/** One node asks people about fewer; what is beyond it waits until it expires, as every question does in the end. */
const MOST = 1_000
const MOST_CHARACTERS = 16 * 1024 * 1024
/** Who waits asks again at once, and says what he asks about instead; what is left behind after this is nobody's. */
const SETTLE_MS = 2_000
/** Judged in one go; then others get their turn. */
const AT_ONCE = 100

/**
 * The questions that nobody may be waiting for any more. When rights change, what needs no answer now is taken back, so that nobody is
 * asked about what a role allows by now, or what would be refused whatever he says. Who still waits asks again by himself (park.ts).
 */
export function keepQuestions({
  clock,
  judge,
  digestOf,
  takeBack,
  failed,
}: {
  readonly clock: Pick<Clock, 'now' | 'at'>
  /** Throws where who asked may not act any more. */
  readonly judge: (session: LiveSession, action: Action) => Decision
  readonly digestOf: (asked: Asked, decision: Decision) => string
  readonly takeBack: (asked: Asked, why: string) => void
  readonly failed: (error: unknown) => void
}) {
  const asked = new Map<string, Asked>()
  let characters = 0
  let waiting = false

  const forget = (request: string): void => {
    const one = asked.get(request)
    if (!one) return
    asked.delete(request)
    characters -= one.size
  }

  const dropOver = (): void => {
    for (const { request, expiresAt } of [...asked.values()]) if (expiresAt <= clock.now()) forget(request)
  }

  /** Why its answer changes nothing any more; undefined while it does. */
  const whyOver = (one: Asked): string | undefined => {
    let decision: Decision
    try {
      decision = judge(one.session, one.action)
    } catch {
      return 'who asked may not act any more'
    }
    if (decision.verdict === 'allow') return 'no longer needed: a role allows it'
    if (decision.verdict === 'deny') return `no longer asked about: it is refused by now (${decision.reason})`
    return digestOf(one, decision) === one.digest ? undefined : 'no longer the same: the rule or the resource has changed'
  }

  const look = async (): Promise<void> => {
    dropOver()
    for (const [i, one] of [...asked.values()].entries()) {
      if (i % AT_ONCE === AT_ONCE - 1) await new Promise((resolve) => setImmediate(resolve))
      const why = whyOver(one)
      if (why === undefined) continue
      forget(one.request)
      takeBack(one, why)
    }
  }

  return {
    remember(one: Asked): void {
      forget(one.request)
      if (asked.size >= MOST || characters + one.size > MOST_CHARACTERS) dropOver()
      if (asked.size >= MOST || characters + one.size > MOST_CHARACTERS) return
      asked.set(one.request, one)
      characters += one.size
    },
    forget,
    get size() {
      return asked.size
    },
    /** Rights have changed: looked at once a moment later, together with what else changes until then. */
    review(): void {
      if (asked.size === 0 || waiting) return
      waiting = true
      clock.at(clock.now() + SETTLE_MS, () => {
        waiting = false
        look().catch(failed)
      })
    },
  }
}
