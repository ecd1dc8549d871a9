import { AsyncResource } from 'node:async_hooks'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Store } from '../store/store.ts'
import { type Claimed, claim, settle, sweep, toldOf, untold } from './outbox.ts'
import type { Attempt, Notifier } from './types.ts'

interface DelivererParts {
  readonly store: Store
  readonly clock: Clock
  /** Those that are applied now. */
  readonly notifiers: () => readonly Notifier[]
  /** One attempt. Never rejects; ends when the signal fires. */
  readonly send: (notifier: Notifier, delivery: Claimed, signal: AbortSignal) => Promise<Attempt>
  /** Recorded before the row says so. */
  readonly givenUp: (notifier: Notifier, delivery: Claimed, error: string) => Promise<void>
  /** Recorded once for many that there was no room for. */
  readonly lost: (name: string, count: number) => Promise<void>
  readonly counted: (result: 'done' | 'failed' | 'given_up') => void
  readonly failed: (error: unknown) => void
  /** between 0 and 1 */
  readonly random: () => number
}

export interface Deliverer {
  /** There is something new: looked at as soon as its transaction is over. */
  wake(): void
  /** Resolves when nothing is being looked at or sent. */
  settled(): Promise<void>
  /** Takes nothing new, gives what is under way a moment, then leaves it to the next start. */
  close(): Promise<void>
}

const POLL_MS = 1_000
const SOON_MS = 50
const DRAIN_MS = 2_000
const SWEEP_MS = 600_000
/** Sockets to one receiver. One that failed last is tried with one alone until it answers. */
const AT_ONCE = 4
const FIRST_WAIT_MS = 5_000
const LONGEST_WAIT_MS = 3_600_000
const TRY_FOR_MS = 24 * 3_600_000

/** Twice as long each time, up to an hour; half of it by chance, so that what failed together does not come back together. */
function waitAfter(attempts: number, random: number): number {
  const full = Math.min(FIRST_WAIT_MS * 2 ** Math.min(attempts - 1, 20), LONGEST_WAIT_MS)
  return Math.round(full / 2 + (full / 2) * random)
}

/**
 * Sends what waits in the outbox. Each notifier has a queue and sockets of its own, so one that hangs delays no other, and
 * nobody who acts ever waits for one. At least once, in no promised order: a node that dies after sending and before it said
 * so leaves a row that is sent again, under the same id.
 */
export function startDeliverer(parts: DelivererParts): Deliverer {
  const { store, clock } = parts
  const underWay = new Map<string, Set<Promise<void>>>()
  const failing = new Set<string>()
  const stop = new AbortController()
  let looking: Promise<void> | undefined
  let again = false
  let sweptAt = Number.NEGATIVE_INFINITY
  let closed = false
  let disarm = () => {}

  const flightsOf = (name: string) => {
    const known = underWay.get(name)
    if (known) return known
    const made = new Set<Promise<void>>()
    underWay.set(name, made)
    return made
  }

  async function carry(notifier: Notifier, delivery: Claimed): Promise<void> {
    const attempt = await parts.send(notifier, delivery, stop.signal)
    const now = clock.now()
    if (attempt.ok) {
      failing.delete(notifier.name)
      await settle(store, delivery, { state: 'done' })
      return parts.counted('done')
    }
    // What we cut short ourselves says nothing about the receiver, and another node may take it at once.
    if (stop.signal.aborted) return void (await settle(store, delivery, { state: 'waiting', at: now }))
    if (!attempt.final) failing.add(notifier.name)
    const { error } = attempt
    const at = now + Math.max(waitAfter(delivery.attempts, parts.random()), attempt.retryAfterMs ?? 0)
    if (!attempt.final && at <= delivery.created_at + TRY_FOR_MS) {
      await settle(store, delivery, { state: 'waiting', at, error, ...(attempt.rest === undefined ? {} : { payload: attempt.rest }) })
      return parts.counted('failed')
    }
    await parts.givenUp(notifier, delivery, error)
    await settle(store, delivery, { state: 'given_up', error })
    parts.counted('given_up')
  }

  async function lookAt(notifier: Notifier): Promise<void> {
    const flights = flightsOf(notifier.name)
    const free = (failing.has(notifier.name) ? 1 : AT_ONCE) - flights.size
    if (free <= 0) return
    for (const delivery of await claim(store, notifier.name, clock.now(), free)) {
      const flight = carry(notifier, delivery)
        .catch(parts.failed) // the claim runs out, and it is sent again
        .finally(() => {
          flights.delete(flight)
          look() // the next of this queue need not wait for the clock
        })
      flights.add(flight)
    }
  }

  async function lookRound(): Promise<void> {
    const notifiers = parts.notifiers()
    const names = notifiers.map(({ name }) => name)
    const now = clock.now()
    if (now - sweptAt >= SWEEP_MS) {
      sweptAt = now
      await sweep(store, names, now)
    }
    for (const { notifier, ids } of await untold(store, names)) {
      await parts.lost(notifier, ids.length)
      await toldOf(store, ids)
    }
    const looked = await Promise.allSettled(notifiers.map(lookAt))
    for (const one of looked) if (one.status === 'rejected') parts.failed(one.reason)
  }

  // Bound to no transaction: whoever wakes us may be inside one, and ours would wait for it for ever.
  const look = AsyncResource.bind((): void => {
    if (closed) return
    if (looking) {
      again = true
      return
    }
    disarm()
    looking = lookRound()
      .catch(parts.failed)
      .finally(() => {
        looking = undefined
        if (closed) return
        if (again) {
          again = false
          return look()
        }
        disarm = clock.at(clock.now() + POLL_MS, look)
      })
  })
  look()

  const settled = async () => {
    for (;;) {
      const all = [looking, ...[...underWay.values()].flatMap((flights) => [...flights])].filter((one) => one !== undefined)
      if (all.length === 0) return
      await Promise.allSettled(all)
    }
  }

  return {
    wake: AsyncResource.bind(() => {
      if (closed || looking) return
      disarm()
      disarm = clock.at(clock.now() + SOON_MS, look)
    }),
    settled,
    async close() {
      closed = true
      disarm()
      const late = clock.at(clock.now() + DRAIN_MS, () => stop.abort(new ChaperoneError('draining', 'this node stops')))
      await settled()
      late()
    },
  }
}
