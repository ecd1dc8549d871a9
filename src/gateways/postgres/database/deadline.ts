import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'

/** Runs `work` until `signal` fires or `ms` are over, whichever is first; throws the ChaperoneError of what ended it. */
export async function withDeadline<T>(signal: AbortSignal, clock: Clock, ms: number, work: (deadline: AbortSignal) => Promise<T>): Promise<T> {
  const late = new AbortController()
  const disarm = clock.at(clock.now() + ms, () => late.abort(new ChaperoneError('upstream_timeout', 'The database did not answer in time.')))
  const deadline = AbortSignal.any([signal, late.signal])
  try {
    return await work(deadline)
  } catch (error) {
    if (deadline.aborted && deadline.reason instanceof ChaperoneError) throw deadline.reason
    throw error
  } finally {
    disarm()
  }
}

/** The work's result, or the reason of `signal`, whichever is first: for work that cannot be told to stop. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>()
  const stop = () => aborted.reject(signal.reason)
  if (signal.aborted) stop()
  else signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([work, aborted.promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
