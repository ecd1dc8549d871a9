import { resolve } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads'

/**
 * Fairness between the threads of this process that write one SQLite file. SQLite has no queue: whoever finds the lock
 * free takes it, and beside an audit writer that commits without pause the main thread waited 0.4 s for one write (p90),
 * most of a lease's life. So each takes a ticket and writes when it is called, as at a baker's.
 *
 * This is courtesy, not safety; safety is SQLite's own lock. A thread that dies with its ticket is passed over.
 */
export interface Turnstile {
  /** Waits without stopping the thread. Call the result when done. */
  enter(): Promise<() => void>
  /** The same for a thread that does nothing but write: it sleeps. */
  enterAsleep(): () => void
  /** How many wait or write. */
  waiting(): number
}

/** A turn is about one commit, 0.2 to 20 ms; a ticket that blocks the queue for this long belongs to nobody. */
const PATIENCE_MS = 5000
const [NEXT, SERVING] = [0, 1]

/** The one of the file at `path`, for whichever thread asks; threads started after the store was opened inherit it. */
export function turnstileOf(path: string, patienceMs = PATIENCE_MS): Turnstile {
  const key = `chaperone: turnstile of ${resolve(path)}`
  let shared = getEnvironmentData(key)
  if (!(shared instanceof SharedArrayBuffer)) {
    shared = new SharedArrayBuffer(8)
    setEnvironmentData(key, shared)
  }
  return turnstile(new Int32Array(shared as SharedArrayBuffer), patienceMs)
}

/** Runs `work` as one transaction of a connection of another thread, in its turn. */
export function writeAsleep<T>(database: DatabaseSync, turns: Turnstile, work: () => T): T {
  const leave = turns.enterAsleep()
  try {
    database.exec('begin immediate')
    try {
      const result = work()
      database.exec('commit')
      return result
    } catch (error) {
      // After SQLITE_FULL or SQLITE_IOERR, SQLite has rolled back by itself.
      if (database.isTransaction) database.exec('rollback')
      throw error
    }
  } finally {
    leave()
  }
}

function turnstile(shared: Int32Array<SharedArrayBuffer>, patienceMs: number): Turnstile {
  /** Negative: to come. Zero: our turn. Positive: we were passed over, and go now. Right also when the numbers wrap. */
  const place = (ticket: number) => (Atomics.load(shared, SERVING) - ticket) | 0
  const passOver = (served: number, ticket: number) => Atomics.compareExchange(shared, SERVING, served, ticket)
  const leave = (ticket: number) => {
    if (Atomics.compareExchange(shared, SERVING, ticket, (ticket + 1) | 0) === ticket) Atomics.notify(shared, SERVING)
  }
  return {
    async enter() {
      const ticket = Atomics.add(shared, NEXT, 1)
      let served = Atomics.load(shared, SERVING)
      let since = performance.now()
      // Looked at again and again, not Atomics.waitAsync, which would not keep the process from ending meanwhile.
      for (let attempt = 0; place(ticket) < 0; attempt++) {
        await new Promise<void>((again) => (attempt < 20 ? setImmediate(again) : setTimeout(again, 1)))
        const now = Atomics.load(shared, SERVING)
        if (now !== served) [served, since] = [now, performance.now()]
        else if (performance.now() - since > patienceMs) passOver(served, ticket)
      }
      return () => leave(ticket)
    },
    enterAsleep() {
      const ticket = Atomics.add(shared, NEXT, 1)
      while (place(ticket) < 0) {
        const served = Atomics.load(shared, SERVING)
        if (served !== ticket && Atomics.wait(shared, SERVING, served, patienceMs) === 'timed-out') passOver(served, ticket)
      }
      return () => leave(ticket)
    },
    waiting: () => (Atomics.load(shared, NEXT) - Atomics.load(shared, SERVING)) | 0,
  }
}
