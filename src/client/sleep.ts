import type { Clock } from '../clock.ts'

/** Resolves after `ms`, or at once when `signal` fires; never rejects. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      cancel()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const cancel = clock.at(clock.now() + ms, done)
    if (signal.aborted) done()
    else signal.addEventListener('abort', done)
  })
}

/** The same for what is all that a command does meanwhile: timers of the clock and idle connections hold no process, and it would end. */
export async function sleepAwake(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  const awake = setInterval(() => {}, 60_000)
  try {
    await sleep(clock, ms, signal)
  } finally {
    clearInterval(awake)
  }
}
