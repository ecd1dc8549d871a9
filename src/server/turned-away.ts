import type { AuditLog, Draft } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { networkOf } from '../network/throttle.ts'

/** Refusals of strangers that one address gets on record one by one within a window; the rest of it is counted. */
const ONE_BY_ONE = 20
const WINDOW_MS = 60_000
/** The same for all addresses together: so many at once, and then one every two seconds. A year of it fits on a small disk. */
const HOUSE = { burst: 300, perMs: 0.5 / 1000 } as const
/** Addresses that are told apart; beyond these, all others share one count. */
const MOST_ADDRESSES = 1_000
const OTHERS = 'others'

type Recorded = Awaited<ReturnType<AuditLog['append']>>

interface Window {
  readonly type: Draft['type']
  readonly from: string
  /** whose door it was, where the proof named somebody */
  readonly actor: Draft['actor']
  recorded: number
  /** refused since the last record of its own */
  uncounted: number
  last: Recorded
  readonly disarm: () => void
}

/** What anybody can cause with a few bytes: a refused connection, a bad secret, a wrong code. Of whoever is signed in, nothing is. */
const isOfStranger = ({ type, session, data }: Draft): boolean =>
  type === 'connection.refused' ||
  ((type === 'credential.refused' || type === 'factor.refused') && session === undefined && typeof data?.from === 'string')

/**
 * The record as it is written for those who have not said who they are. Each refusal is a durable write, and anybody can
 * cause one: at full speed a stranger would fill the disk, and with a full disk nothing is allowed any more (peers R75,
 * rule 11). So the first ones of an address are recorded whole, while the house as a whole has room for them, the others
 * as a number when the minute is over. What was asked is refused all the same. Whatever else is appended passes as it is.
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
  const house = { left: HOUSE.burst as number, at: clock.now() }
  /** The newest of all: it stands for what is only counted, where the address has none of its own. */
  let newest: Recorded = { id: '', seq: 0 }

  const close = async (key: string): Promise<void> => {
    const window = windows.get(key)
    if (!window) return
    windows.delete(key)
    window.disarm()
    if (window.uncounted === 0) return
    const { type, actor, from, uncounted } = window
    const data = { reason: 'too_many', from, more: uncounted, withinMs: WINDOW_MS }
    await audit.append({ type, ...(actor ? { actor } : {}), data }).catch(failed)
  }

  const open = (key: string, { type, actor }: Draft, from: string): Window => {
    const disarm = clock.at(clock.now() + WINDOW_MS, () => void close(key))
    const window = { type, actor, from, recorded: 0, uncounted: 0, last: newest, disarm }
    windows.set(key, window)
    return window
  }

  const houseHasRoom = (): boolean => {
    const now = clock.now()
    house.left = Math.min(HOUSE.burst, house.left + Math.max(0, now - house.at) * HOUSE.perMs)
    house.at = now
    return house.left >= 1
  }

  return {
    async append(draft, ...more) {
      if (!isOfStranger(draft)) return audit.append(draft, ...more)
      const address = networkOf(String(draft.data?.from ?? ''))
      const own = `${draft.type} ${draft.actor?.id ?? ''} ${address}`
      const room = houseHasRoom()
      // No window for an address that gets no record: a flood of addresses would have a summary for each.
      const apart = windows.has(own) || (room && windows.size < MOST_ADDRESSES)
      const key = apart ? own : `${draft.type} ${OTHERS}`
      const window = windows.get(key) ?? (apart ? open(key, draft, address) : open(key, { ...draft, actor: undefined }, OTHERS))
      if (!room || window.recorded >= ONE_BY_ONE) {
        window.uncounted++
        return window.last
      }
      house.left--
      window.recorded++
      newest = await audit.append(draft, ...more)
      window.last = newest
      return newest
    },
    async close() {
      for (const key of [...windows.keys()]) await close(key)
    },
  }
}
