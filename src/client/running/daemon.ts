import type { Clock } from '../../clock.ts'
import { type ChaperoneError, REASONS, type ReasonCode, toChaperoneError } from '../../errors.ts'
import type { Keeper } from '../credential.ts'
import { sleepAwake } from '../sleep.ts'
import { type Lender, lender } from './lent.ts'

const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 60_000
/** What ran for this long was well: the next pause is a short one again. */
const WELL_MS = 60_000

/** An agent that is stopped stays stopped, whatever it could prove. */
const STOPPED: ReadonlySet<ReasonCode> = new Set(['locked', 'identity_disabled'])

export interface DaemonOptions {
  /** Joins, or begins a session. */
  readonly join: () => Promise<Keeper>
  /** Whether it can be called again when that session is over. Else its end is the end. */
  readonly joinsAgain: boolean
  /** One start of the program. Resolves with its exit code. */
  readonly run: (keeper: Keeper) => Promise<number>
  readonly stop: AbortSignal
  /** Called once, when there is a session. */
  readonly ready?: () => void
  readonly say: (line: string) => void
  readonly clock: Clock
}

/**
 * A program that is started again whenever it ends, in one session, until it is told to stop (0) or its identity ends (the exit
 * code of the reason). What waiting mends is waited for, and told once.
 */
export async function runDaemon({ join, joinsAgain, run, stop, ready, say, clock }: DaemonOptions): Promise<number> {
  let held: Lender | undefined
  let told: string | undefined
  const waits = pauses(clock, stop)
  const starts = pauses(clock, stop)
  const wait = async (why: string) => {
    const line = `${why}; trying again, at the latest every ${LONGEST_PAUSE_MS / 1000} s`
    if (line !== told) say(line)
    told = line
    await waits.next()
  }
  /** Throws what waiting would not mend: whoever started us must hear of it. */
  const attempt = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    try {
      const value = await work()
      told = undefined
      waits.well()
      return value
    } catch (cause) {
      const error = toChaperoneError(cause)
      if (stop.aborted || held?.keeper.signal.aborted) return undefined
      if (REASONS[error.code].exit !== REASONS.upstream_unavailable.exit) throw error
      await wait(error.message)
      return undefined
    }
  }

  try {
    while (!stop.aborted) {
      if (held === undefined) {
        const keeper = await attempt(join)
        if (keeper === undefined) continue
        held = lender(keeper)
        ready?.()
        ready = undefined
        if (stop.aborted) break
      }
      const { keeper, lend } = held
      const began = clock.now()
      const lent = lend()
      const code = await attempt(() => run(lent)).finally(() => lent.close())
      if (stop.aborted) break
      if (clock.now() - began > WELL_MS) starts.well()
      if (keeper.signal.aborted) {
        const error = keeper.signal.reason as ChaperoneError
        if (STOPPED.has(error.code)) return REASONS[error.code].exit
        if (!joinsAgain) {
          say('its session is over, and it has nothing to join again with: give it a method (--method), or start it with a new token')
          return REASONS[error.code].exit
        }
        say('it joins again')
        held = undefined
        await keeper.close()
        await starts.next()
      } else if (code !== undefined) {
        say(`it ended with ${code}, and is started again in ${Math.round(starts.ms() / 1000)} s`)
        await starts.next()
      }
    }
    return 0
  } finally {
    await held?.keeper.close()
  }
}

/** One second, then two, up to a minute; `well` begins anew. */
function pauses(clock: Clock, stop: AbortSignal) {
  let ms = FIRST_PAUSE_MS
  return {
    ms: () => ms,
    well: () => {
      ms = FIRST_PAUSE_MS
    },
    async next() {
      const now = ms
      ms = Math.min(ms * 2, LONGEST_PAUSE_MS)
      await sleepAwake(clock, now, stop)
    },
  }
}
