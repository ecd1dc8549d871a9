import type { RequestEvent } from '../access/requests/types.ts'
import { toChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import type { ApiParts } from './parts.ts'
import type { RequestNotice } from './requests-contract.ts'
import { rowsOf, type SeenRequest } from './requests-rows.ts'
import type { Streamed } from './route.ts'
import { makeStreams, STREAM_LIMITS, type StreamEvent } from './stream.ts'

/** Requests in a snapshot. */
const MOST = 200

export interface RequestEvents {
  /**
   * What this session may see, as it happens, each looked at anew with the rights of that moment. First a snapshot: what waits,
   * and with the id of the last event that was received, what has changed since. Ends with the session. Throws `too_many`.
   */
  open(session: LiveSession, lastEvent?: string): Streamed
  close(): void
}

export function makeRequestEvents(parts: Pick<ApiParts, 'requests' | 'store' | 'state' | 'link' | 'clock' | 'log'>): RequestEvents {
  const { requests } = parts
  const streams = makeStreams(parts.clock, 'Too many are watching requests already.')
  return {
    open(session, lastEvent) {
      // Its signal fires when the session ends or is locked, and when its proven time is over.
      const connection = session.connect('https')
      const ended = () => connection.closed()
      try {
        const streamed = streams.open(session, connection.signal, (send, end) => feed(session, lastEvent, send, end))
        streamed.done.then(ended, ended)
        return streamed
      } catch (error) {
        ended()
        throw error
      }
    },
    close: () => streams.close(),
  }

  function feed(session: LiveSession, lastEvent: string | undefined, send: (event: StreamEvent) => void, end: () => void): () => void {
    let waiting = 0
    let over = false
    let turn = Promise.resolve()
    /** In the order in which it happened; a failure ends the stream, so that its reader begins again with a snapshot. */
    const next = (work: () => Promise<StreamEvent | undefined>) => {
      if (++waiting > STREAM_LIMITS.behind) return end()
      turn = turn
        .then(async () => {
          const event = over ? undefined : await work()
          waiting--
          if (event) send(event)
        })
        .catch((error: unknown) => {
          if (over) return
          parts.log(toChaperoneError(error), 'GET /v1/requests/events')
          end()
        })
    }
    next(() => snapshot(session, lastEvent))
    const stop = requests.watch((event) => next(() => notice(session, event)))
    return () => {
      over = true
      stop()
    }
  }

  async function snapshot(session: LiveSession, lastEvent: string | undefined): Promise<StreamEvent> {
    const since = Number(lastEvent?.split('-', 1)[0] ?? Number.NaN)
    const seen = new Map<string, SeenRequest>()
    for (const one of await requests.list(session, { state: 'pending', limit: MOST })) seen.set(one.id, one)
    if (Number.isFinite(since))
      for (const one of await requests.list(session, { limit: MOST })) if (one.updatedAt >= since && !seen.has(one.id)) seen.set(one.id, one)
    const newest = Math.max(Number.isFinite(since) ? since : 0, ...[...seen.values()].map(({ updatedAt }) => updatedAt))
    const data: RequestNotice = { type: 'snapshot', requests: await rowsOf(parts, [...seen.values()]) }
    return { id: `${newest}-snapshot`, data }
  }

  async function notice(session: LiveSession, { type, request: { id } }: RequestEvent): Promise<StreamEvent | undefined> {
    let seen: SeenRequest
    try {
      seen = await requests.show(session, id)
    } catch (error) {
      // Nothing that this session may see.
      if (toChaperoneError(error).code === 'not_found') return undefined
      throw error
    }
    const [request] = await rowsOf(parts, [seen])
    return { id: `${seen.updatedAt}-${id}-${type}`, data: { type, request: request! } satisfies RequestNotice }
  }
}
