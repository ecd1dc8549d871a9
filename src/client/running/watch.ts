import { type Clock, systemClock } from '../../clock.ts'
import { type Api, openApi } from '../api.ts'
import type { Keeper } from '../credential.ts'
import { sleep } from '../sleep.ts'

/** A stream that is there all the time: a fault of a moment is no reason to ask at once again. */
const FIRST_RETRY_MS = 500
const LONGEST_RETRY_MS = 15_000

/**
 * Hears within a moment when the session ends (a lock, `chaperone sessions kill`, a delegation taken back): its own stream of notices
 * is cut, and then the keeper asks why. Without it, a child would work on until the next renewal, half a credential's life away.
 */
export function watchSession(keeper: Keeper, options: { readonly clock?: Clock; readonly open?: (keeper: Keeper) => Api } = {}): { close(): void } {
  const clock = options.clock ?? systemClock
  const over = new AbortController()
  const signal = AbortSignal.any([over.signal, keeper.signal])
  const open =
    options.open ??
    ((of: Keeper) => {
      const { key, certificate, profile } = of.current()
      return openApi({ address: profile.address, authorities: profile.bundles.server, identity: { key, certificate } })
    })

  const listen = async () => {
    for (let wait = FIRST_RETRY_MS; !signal.aborted; ) {
      const api = open(keeper)
      try {
        for await (const _ of api.events('/v1/sessions/watch', signal)) wait = FIRST_RETRY_MS
      } catch {
        // Whether that means anything is what the next line asks.
      } finally {
        api.close()
      }
      if (signal.aborted || (await keeper.whyCut?.()) !== undefined) return
      await sleep(clock, wait, signal)
      wait = Math.min(wait * 2, LONGEST_RETRY_MS)
    }
  }
  void listen()
  return { close: () => over.abort() }
}
