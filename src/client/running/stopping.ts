import { type Clock, systemClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Keeper } from '../credential.ts'
import { sleepAwake } from '../sleep.ts'

/** What a join that is under way is given when we are told to end: when it comes through, its session is ended as well. */
const LAST_MS = 1_000

/**
 * Begins, unless it is told to stop: a server that does not answer must not keep whoever ends us waiting. Rejects with
 * `session_ended` then; `left` is told when something is still under way.
 */
export async function unlessStopped(
  begin: () => Promise<Keeper>,
  { stop, left, clock = systemClock }: { readonly stop: AbortSignal; readonly left: () => void; readonly clock?: Clock },
): Promise<Keeper> {
  const stopped = () => new ChaperoneError('session_ended', 'It was told to end before it had begun.')
  if (stop.aborted) throw stopped()
  const begun = begin()
  const told = new AbortController()
  const over = new Promise<undefined>((done) => {
    const wait = () => void sleepAwake(clock, LAST_MS, told.signal).then(() => done(undefined))
    stop.addEventListener('abort', wait, { once: true })
    told.signal.addEventListener('abort', () => stop.removeEventListener('abort', wait), { once: true })
  })
  try {
    const keeper = await Promise.race([begun, over])
    if (keeper !== undefined && !stop.aborted) return keeper
    await keeper?.close()
    if (keeper === undefined) {
      left()
      begun.then(
        (late) => late.close(),
        () => {},
      )
    }
    throw stopped()
  } finally {
    told.abort()
  }
}
