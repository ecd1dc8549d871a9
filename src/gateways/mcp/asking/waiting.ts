import { admitAsking } from '../../../access/park.ts'
import type { Requests } from '../../../access/requests/types.ts'
import { type Parked, Refusal } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import type { Turn } from '../exchange.ts'
import type { McpSession } from '../lanes.ts'
import type { McpLimits } from '../limits.ts'
import { spanAt } from '../text/json-text.ts'
import { sseEvent } from '../text/sse.ts'
import { canBeAsked } from '../translation/input-responses.ts'
import { isObject, type Request, type RequestId, readUpstream } from '../wire.ts'
import { waitingFor } from './rounds.ts'
import { plainly } from './written.ts'

/** How one request of a client is held while a human is asked. */
export interface Held {
  /** ms at the most */
  readonly ms: number
  /** The client has gone, has cancelled, does not want to wait, or its session is over. */
  readonly signal: AbortSignal
  /** Tells the client, and goes on doing so. */
  tell(parked: Parked): void
  /** It is held no longer. */
  over(): void
}

export interface Waitings {
  /** Holds the request. In the modern era `ms` says how long; a batch is not held at all. */
  hold(turn: Turn, server: string, message: Request, answer: Answer, poll: number): Held
  /** The client has cancelled a request: true when that was held here, and no server knows of it. */
  cancelled(of: McpSession, id: RequestId): boolean
}

interface WaitingsParts {
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'approvalMs' | 'approvalProgressMs' | 'progressMs'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/**
 * Steps of our own progress, so small that all of them lie below the first that a server reports under the same token: the
 * values of one token must rise.
 */
const STEP = 1e-6
const MOST_UNHELD = 64

export function makeWaitings({ clock, limits, log }: WaitingsParts): Waitings {
  const held = new WeakMap<McpSession, Map<RequestId, AbortController>>()
  /** What was cancelled and was not held: it may be on its way to us. */
  const unheld = new WeakMap<McpSession, Set<RequestId>>()
  let nextId = 1

  return {
    hold(turn, server, message, answer, poll) {
      const of = turn.of()
      const legacy = of.era === 'legacy'
      const meta = message.params._meta
      const token = legacy && answer.streams && isObject(meta) ? meta.progressToken : undefined
      const stop = new AbortController()
      const mine = held.get(of) ?? new Map<RequestId, AbortController>()
      held.set(of, mine)
      // In the modern era several clients of a session may use the same ids, and cancel by leaving.
      if (legacy) mine.set(message.id, stop)
      if (legacy && unheld.get(of)?.delete(message.id)) stop.abort()
      answer.whenGone(() => stop.abort())
      const { caller } = turn
      // Why the session is over is what the client must hear, and not that it may try again after a yes.
      const ends = [of.over, caller.connection.signal].map((signal) => ({ signal, end: () => stop.abort(signal.reason) }))
      for (const { signal, end } of ends) {
        if (signal.aborted) end()
        signal.addEventListener('abort', end)
      }
      let disarm = () => {}
      let withdraw = () => {}
      let steps = 0
      of.busy++

      const progress = (parked: Parked, what: string): void => {
        const params = { progressToken: token, progress: ++steps * STEP, message: `${waitingFor(parked, what)} ${parked.url}` }
        answer.open()
        void answer.write(sseEvent(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress', params })))
        disarm = clock.at(clock.now() + limits.progressMs, () => {
          if (!stop.signal.aborted) progress(parked, what)
        })
      }

      /** Shows the page to the person at the client (2025-11-25). What he answers there approves nothing. */
      const elicit = (parked: Parked, what: string): void => {
        const { inquiries } = of
        const params = { mode: 'url', elicitationId: parked.request, url: parked.url, message: waitingFor(parked, what) }
        if (!inquiries || !canBeAsked(of.capabilities, 'elicitation/create', params)) return
        const me = {}
        const id = `chaperone-approval-${nextId++}`
        const asked = new AbortController()
        const say = (method: string, given: object) => {
          if (answer.began === 'stream' && !answer.gone) void answer.write(sseEvent(JSON.stringify({ jsonrpc: '2.0', method, params: given })))
        }
        withdraw = () => {
          const shown = inquiries.withdrawn(id, me)
          asked.abort(new ChaperoneError('session_ended', 'Nobody waits for it any more.'))
          if (shown !== undefined) say('notifications/cancelled', { requestId: shown, reason: 'Nobody waits for it any more.' })
          say('notifications/elicitation/complete', { elicitationId: parked.request })
        }
        const text = JSON.stringify({ jsonrpc: '2.0', id, method: 'elicitation/create', params })
        inquiries.ask(readUpstream(text), answer, me, asked.signal).then(
          (given) => {
            const span = spanAt(given, ['result', 'action'])
            const action: unknown = span && JSON.parse(given.slice(span.start, span.end))
            if (action === 'decline' || action === 'cancel') stop.abort()
          },
          (error: unknown) => {
            if (!asked.signal.aborted) log('mcp.approval.untold', { server, error: toChaperoneError(error).message })
          },
        )
      }

      return {
        ms: turn.waits === false ? 0 : legacy ? (token === undefined ? limits.approvalMs : limits.approvalProgressMs) : poll,
        signal: stop.signal,
        tell(parked) {
          if (!legacy || turn.waits === false) return
          disarm()
          withdraw()
          const what = `${plainly(String(message.params.name ?? message.params.uri ?? message.method))} on ${server}`
          elicit(parked, what)
          if (token !== undefined) progress(parked, what)
        },
        over() {
          disarm()
          withdraw()
          of.busy--
          if (mine.get(message.id) === stop) mine.delete(message.id)
          for (const { signal, end } of ends) signal.removeEventListener('abort', end)
        },
      }
    },

    cancelled(of, id) {
      const stop = held.get(of)?.get(id)
      stop?.abort()
      if (stop) return true
      const known = unheld.get(of) ?? new Set()
      unheld.set(of, known.add(id))
      if (known.size > MOST_UNHELD) known.delete(known.values().next().value!)
      return false
    },
  }
}

export interface Patience {
  readonly requests: Pick<Requests, 'decided' | 'rights'>
  readonly clock: Clock
  readonly waitings: Waitings
}

interface Waiter {
  readonly turn: Turn
  /** name of the server */
  readonly server: string
  readonly message: Request
  readonly answer: Answer
  /** how long a modern client is held for this question */
  readonly poll: (parked: Parked) => number
}

/** Admits, and waits where a human is asked. Nothing of the waiting is made for a call that needs none. */
export const makePatience =
  ({ requests, clock, waitings }: Patience) =>
  async <T>({ turn, server, message, answer, poll }: Waiter, attempt: (known?: string) => Promise<T>): Promise<T> => {
    let first: (Refusal & { readonly parked: Parked }) | undefined
    const { rights } = requests
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof Refusal) || !error.parked) throw error
      first = error as Refusal & { readonly parked: Parked }
    }
    const held = waitings.hold(turn, server, message, answer, poll(first.parked))
    const again = (known?: string): Promise<T> => {
      const refusal = first
      first = undefined
      if (refusal === undefined) return attempt(known)
      return rights === requests.rights ? Promise.reject(refusal) : attempt(refusal.parked.request)
    }
    try {
      return await admitAsking({ requests, clock }, again, { ms: held.ms, signal: held.signal, parked: (question) => held.tell(question) })
    } finally {
      held.over()
    }
  }
