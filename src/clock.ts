/** Time, as a part that is handed in: tests move it by hand, and nothing else reads `Date.now()`. */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  now(): number
  /** Calls `wake` once, when `now()` has reached `at` (ms since 1970). Returns a function that takes it back. */
  at(at: number, wake: () => void): () => void
  /** Milliseconds since some moment; nobody can set it, and it may stand still while the machine is suspended. Absent: `now()` will do. */
  monotonic?(): number
}

/**
 * Waits are taken in steps of at most this. Node's timers stand still while a machine is suspended, and know nothing of a
 * clock that is set forward: a deadline that passed meanwhile is met within one step and not hours later (rule 4).
 */
const LONGEST_STEP_MS = 10_000

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  at(at, wake) {
    let timer: NodeJS.Timeout
    const arm = () => {
      const left = at - Date.now()
      // A timer may fire a millisecond early; a deadline never may.
      timer = left <= 0 ? setTimeout(wake, 0) : setTimeout(() => (Date.now() >= at ? wake() : arm()), Math.min(left, LONGEST_STEP_MS))
      timer.unref()
    }
    arm()
    return () => clearTimeout(timer)
  },
}

/** Two clocks of one machine drift apart by seconds a day; a machine's time that is kept right is followed, and waited for. */
const SLEWED_MS = 1_000

/**
 * A clock that never goes back, and never slower than the monotonic one: set back by an hour, it goes on as before. What ends
 * at a minute then ends at that minute, whatever somebody does to the machine's time (rule 4).
 */
export function steadyClock(clock: Clock): Clock {
  const monotonic = () => clock.monotonic?.() ?? 0
  let wall = clock.now()
  let since = monotonic()
  const now = () => {
    const [machine, passed] = [clock.now(), monotonic()]
    const expected = wall + Math.max(0, passed - since)
    wall = expected - machine > SLEWED_MS ? expected : Math.max(wall, machine)
    since = passed
    // Fractions come from the monotonic clock, and times are whole milliseconds.
    return Math.floor(wall)
  }
  return {
    now,
    at(at, wake) {
      let cancel = () => {}
      const arm = () => {
        const left = at - now()
        cancel = clock.at(clock.now() + Math.min(Math.max(0, left), LONGEST_STEP_MS), () => (now() >= at ? wake() : arm()))
      }
      arm()
      return () => cancel()
    },
    ...(clock.monotonic ? { monotonic: clock.monotonic } : {}),
  }
}

/**
 * A clock for tests: stands still until `advance` moves it, then wakes whoever is due, in order. `armed` resolves when somebody wants
 * to be woken `ms` from now: what is advanced before that wakes nobody.
 */
export function manualClock(start: number): Clock & { advance(ms: number): void; armed(ms: number): Promise<void> } {
  let now = start
  const waiting = new Set<{ at: number; wake: () => void }>()
  const looking = new Set<() => void>()
  return {
    now: () => now,
    at(at, wake) {
      const entry = { at, wake }
      waiting.add(entry)
      for (const look of [...looking]) look()
      return () => waiting.delete(entry)
    },
    armed(ms) {
      const at = now + ms
      return new Promise((done) => {
        const look = () => {
          if (![...waiting].some((entry) => entry.at === at)) return
          looking.delete(look)
          done()
        }
        looking.add(look)
        look()
      })
    },
    advance(ms) {
      const end = now + ms
      for (;;) {
        const due = [...waiting].filter((entry) => entry.at <= end).sort((a, b) => a.at - b.at)[0]
        if (!due) break
        waiting.delete(due)
        now = Math.max(now, due.at)
        due.wake()
      }
      now = end
    },
  }
}
