import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Requests } from './requests/types.ts'
import { type Parked, Refusal } from './types.ts'

export interface Waiting {
  /** ms in all; 0 does not wait */
  readonly ms: number
  /**
   * The client is gone: Chaperone never runs anything for who is not there (rule 12). What it is told is the reason, where that is a
   * ChaperoneError (a session that ended), and otherwise the refusal with the question, which goes on.
   */
  readonly signal?: AbortSignal
  /** Told when a human is asked, before the waiting begins; and again when the question is another one. */
  readonly parked?: (parked: Parked) => void | Promise<void>
}

/** A question may change under who waits for its answer (a rule, a label); whose question changes each time is not answered for ever. */
const MOST_QUESTIONS = 4

/**
 * The one way to wait for a human: `attempt` describes what the client sent, from scratch, and has it admitted. Refused
 * with a question, it is tried again when that is answered: what was looked at before somebody thought about it for an hour
 * counts for nothing afterwards (peers R35, R39, R48). It is tried again as well when rights change: a lock that stops the call
 * stops it now and not when the wait is over, and what needs no human any more waits for none. `known` is the question that was
 * recorded for this wait already (`Asking.known`).
 */
export async function admitAsking<T>(
  { requests, clock }: { readonly requests: Pick<Requests, 'decided' | 'rights'>; readonly clock: Clock },
  attempt: (known?: string) => Promise<T>,
  { ms, signal, parked }: Waiting,
): Promise<T> {
  const until = clock.now() + ms
  let last: string | undefined
  let questions = 0
  for (;;) {
    // Counted before it is looked at: what changes in between wakes at once.
    const { rights } = requests
    let refusal: Refusal & { readonly parked: Parked }
    try {
      return await attempt(last)
    } catch (error) {
      if (!isParked(error)) throw error
      refusal = error
    }
    const question = refusal.parked
    if (question.request !== last) {
      await parked?.(question)
      questions++
    }
    last = question.request
    const left = until - clock.now()
    if (signal?.aborted) throw whyEnded(signal, refusal)
    if (left <= 0 || questions > MOST_QUESTIONS) throw refusal
    const { state, decidedBy } = await requests.decided(question.request, { ms: left, rights, ...(signal ? { signal } : {}) })
    if (signal?.aborted) throw whyEnded(signal, refusal)
    const changed = state === 'pending' && requests.rights !== rights
    // Another one who waited for the same was let in without an answer.
    const notNeeded = state === 'withdrawn' && decidedBy === undefined
    // An attempt after an expiry, or after somebody took it back, would ask again.
    if (!changed && !notNeeded && state !== 'approved' && state !== 'denied') throw refusal
  }
}

const isParked = (error: unknown): error is Refusal & { readonly parked: Parked } => error instanceof Refusal && error.parked !== undefined

const whyEnded = ({ reason }: AbortSignal, refusal: Refusal): ChaperoneError => (reason instanceof ChaperoneError ? reason : refusal)
