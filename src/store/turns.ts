import { AsyncLocalStorage } from 'node:async_hooks'
import { ChaperoneError } from '../errors.ts'
import type { Turnstile } from './turnstile.ts'

/** How many writers may wait. At 5,000 commits a second the last of them waits a second. */
const LONGEST_QUEUE = 5000

/** The writers of this thread, one at a time, first come, first served; between threads the turnstile keeps the order. */
export interface Turns {
  /** Resolves when it is our turn; call the result when done. Throws `too_many`, and `internal` when we hold the turn already. */
  take(): Promise<() => void>
  /** Lets whoever waits finish, then refuses. */
  close(): Promise<void>
}

/** Marks what runs inside `store.write`, so that a second write inside it is refused instead of waiting for itself for ever. */
const writing = new AsyncLocalStorage<{ open: boolean; turn: boolean }>()

/** Runs `work` as one write. Throws `internal` when it is called inside another one. */
export async function asOneWrite<T>(work: () => Promise<T>): Promise<T> {
  if (writing.getStore()?.open) throw nested()
  const mark = { open: true, turn: false }
  try {
    return await writing.run(mark, work)
  } finally {
    mark.open = false // what was started inside and still runs may write now
  }
}

function nested(): ChaperoneError {
  return new ChaperoneError('internal', 'Something went wrong inside Chaperone.', {
    detail: 'store.write inside store.write: hand the transaction on instead, this one would wait for itself',
  })
}

export function makeTurns(threads: Turnstile): Turns {
  let last: Promise<void> = Promise.resolve()
  let waiting = 0
  let closed = false
  return {
    async take() {
      const mark = writing.getStore()
      if (mark?.open && mark.turn) throw nested()
      if (closed) throw new Error('the store is closed')
      if (waiting >= LONGEST_QUEUE) throw new ChaperoneError('too_many', 'Too many changes are waiting to be stored.')
      if (mark?.open) mark.turn = true
      waiting++
      const before = last
      let done: () => void = () => {}
      last = new Promise<void>((resolve) => {
        done = resolve
      })
      await before
      const leave = await threads.enter()
      return () => {
        waiting--
        if (mark) mark.turn = false
        leave()
        done()
      }
    },
    async close() {
      closed = true
      await last
    },
  }
}
