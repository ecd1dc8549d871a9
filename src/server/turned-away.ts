import type { AuditLog, Draft } from '../audit/record.ts'
import type { Clock } from '../clock.ts'

/** Refusals of strangers that one address gets on record one by one within a window; the rest of it is counted. */
const ONE_BY_ONE = 20
const WINDOW_MS = 60_000
/** Addresses that are told apart; beyond these, all others share one count. */
const MOST_ADDRESSES = 1_000

interface Window {
  recorded: number
  /** refused since the last record of its own */
  uncounted: number
  last: { readonly id: string; readonly seq: number }
  readonly disarm: () => void
}

/**
 * The record as it is written for those who have not said who they are. Each `connection.refused` is a durable write, and
 * anybody can cause one with a few bytes: at full speed a stranger would fill the disk, and with a full disk nothing is
 * allowed any more (peers R75, rule 11). So the first ones of an address are recorded whole, the others as a number when
 * the minute is over. Whatever else is appended passes as it is.
 */
export function recordStrangers({
  audit,
  clock,
  failed,
}: {
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly failed: (error: unknown) => void
}): Pick<AuditLog, 'append'> & { close(): Promise<void> } {
  const windows = new Map<string, Window>()

  const close = async (key: string): Promise<void> => {
    const window = windows.get(key)
    if (!window) return
    windows.delete(key)
    window.disarm()
    if (window.uncounted === 0) return
    await audit
      .append({ type: 'connection.refused', data: { reason: 'too_many', from: key, more: window.uncounted, withinMs: WINDOW_MS } })
      .catch(failed)
  }

  return {
    async append(draft: Draft) {
      if (draft.type !== 'connection.refused') return audit.append(draft)
      const from = String(draft.data?.from ?? '')
      const key = windows.has(from) || windows.size < MOST_ADDRESSES ? from : 'others'
      const known = windows.get(key)
      if (known && known.recorded >= ONE_BY_ONE) {
        known.uncounted++
        // The record that stands for it.
        return known.last
      }
      const window = known ?? {
        recorded: 0,
        uncounted: 0,
        last: { id: '', seq: 0 },
        disarm: clock.at(clock.now() + WINDOW_MS, () => void close(key)),
      }
      windows.set(key, window)
      window.recorded++
      window.last = await audit.append(draft)
      return window.last
    },
    async close() {
      for (const key of [...windows.keys()]) await close(key)
    },
  }
}
