import type { Clock } from '../../clock.ts'

export type Log = (what: string, facts: Record<string, unknown>) => void

/** Lines of one kind about one server in a minute; a server that writes nonsense would fill the disk of the log. */
const MOST_LINES = 20
const MINUTE_MS = 60_000
/** Kinds and servers that are counted at once. */
const MOST_COUNTS = 10_000

/** The log, where what repeats itself is cut short. How much was left out stands in the first line after the minute. */
export function quiet(log: Log, clock: Clock): Log {
  const counts = new Map<string, { since: number; lines: number }>()
  return (what, facts) => {
    const key = `${what} ${String(facts.server ?? '')}`
    const now = clock.now()
    const count = counts.get(key)
    if (count && now < count.since + MINUTE_MS && now >= count.since) {
      count.lines++
      if (count.lines <= MOST_LINES) log(what, facts)
      return
    }
    const left = Math.max(0, (count?.lines ?? 0) - MOST_LINES)
    if (counts.size >= MOST_COUNTS) counts.clear()
    counts.set(key, { since: now, lines: 1 })
    log(what, left > 0 ? { ...facts, leftOut: left } : facts)
  }
}
