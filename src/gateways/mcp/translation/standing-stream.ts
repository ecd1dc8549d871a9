import type { Permit } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import type { McpLimits } from '../limits.ts'
import type { SseEvent } from '../text/sse.ts'
import type { ClientHeaders, Errand, Upstream } from '../types.ts'
import type { Notification, UpstreamMessage } from '../wire.ts'
import { Tap } from './tap.ts'

/** What the specification lets a client wait before it connects again when the server named no time. */
const RETRY_MS = 1000

/** The permit, ended earlier than the guard would end it. */
export const narrowed = (permit: Permit, signal: AbortSignal): Permit => ({ ...permit, signal: AbortSignal.any([permit.signal, signal]) })

/** Not a method of MCP: the GET of its endpoint. */
const STREAM: Notification = { kind: 'notification', method: 'stream', params: {}, text: '{"jsonrpc":"2.0","method":"stream"}', lossy: new Set() }

/** Where a stream of events was left, so that it can be taken up again there. */
export class Trail {
  id: string | undefined
  retryMs = RETRY_MS

  see(event: Pick<SseEvent, 'id' | 'raw'>): void {
    if (event.id !== undefined && event.id !== '') this.id = event.id
    const retry = /^retry: ?(\d{1,6})\s*$/m.exec(event.raw.toString('latin1'))?.[1]
    if (retry !== undefined) this.retryMs = Number(retry)
  }
}

export interface StandingStreamParts {
  readonly inner: Upstream
  readonly errand: Errand
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'lineBytes' | 'backoffMs'>
  readonly headers: () => ClientHeaders
  readonly told: (message: UpstreamMessage) => void
  readonly answered: (message: UpstreamMessage) => void
  /** Sees the answer that is read into, which is what a question of the server on it names. */
  readonly reading?: (answer: Answer) => void
  readonly log: (error: unknown) => void
}

/** What nobody reads: a tap still sees every message that goes there. */
export function nobody(opened: () => void = () => {}): Answer {
  return {
    began: 'no',
    gone: false,
    streams: true,
    whenGone() {},
    send() {},
    begin() {},
    open: opened,
    async write() {},
    end() {},
    break() {},
  }
}

/** Resolves after `ms`, or at once when the signal aborts. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const disarm = clock.at(clock.now() + ms, resolve)
  const stop = () => {
    disarm()
    resolve()
  }
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop, { once: true })
  return promise.finally(() => signal.removeEventListener('abort', stop))
}

/** Reads a stream by GET once, from where the trail was left. Returns false when the server has no such stream. Rejects when it broke. */
export async function readStream(parts: StandingStreamParts, trail: Trail, signal: AbortSignal, opened: () => void = () => {}): Promise<boolean> {
  const { inner, errand, limits, headers, told, answered } = parts
  const tap = new Tap({
    to: nobody(opened),
    maxBytes: limits.lineBytes,
    told(message) {
      told(message)
      return undefined
    },
    seen: (event) => trail.see(event),
    answered,
  })
  parts.reading?.(tap)
  const { 'content-type': _, ...common } = headers()
  const all = { ...common, accept: 'text/event-stream', ...(trail.id === undefined ? {} : { 'last-event-id': trail.id }) }
  const outcome = await errand(STREAM, async (permit) => {
    try {
      return await inner.stream(narrowed(permit, signal), tap, all)
    } catch (error) {
      if (!signal.aborted || permit.signal.aborted) throw error
      // Nobody needs it any more, which is how a stream without an end ends.
      return { status: 'ok', facts: { ended: signal.reason instanceof ChaperoneError ? signal.reason.code : 'over' } }
    }
  })
  return outcome.status !== 'failed'
}

/**
 * The standalone stream of one legacy session, on which a server says what belongs to no request. Opened when somebody first
 * needs it, kept open until the session ends, taken up again where it broke off.
 */
export class StandingStream {
  readonly #parts: StandingStreamParts
  readonly #stop = new AbortController()
  #open: Promise<void> | undefined

  constructor(parts: StandingStreamParts) {
    this.#parts = parts
  }

  /** Resolves when it is open, or known to be none. */
  need(): Promise<void> {
    if (this.#open) return this.#open
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#open = promise
    void this.#keep(resolve).finally(resolve)
    return promise
  }

  end(why: ChaperoneError): void {
    this.#stop.abort(why)
  }

  async #keep(opened: () => void): Promise<void> {
    const { clock, limits, log } = this.#parts
    const { signal } = this.#stop
    const trail = new Trail()
    let failures = 0
    while (!signal.aborted) {
      try {
        const begun = () => {
          failures = 0
          opened()
        }
        if (!(await readStream(this.#parts, trail, signal, begun))) return
      } catch (error) {
        if (signal.aborted) return
        failures++
        log(error)
        // What listens is told by its end that nothing comes; who waits for the first opening waits no longer.
        opened()
      }
      await pause(clock, Math.min(trail.retryMs * 2 ** failures, limits.backoffMs), signal)
    }
  }
}
