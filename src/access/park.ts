import type { Clock } from '../clock.ts'
import type { Requests } from './requests/types.ts'
import { type Parked, Refusal } from './types.ts'

export interface Waiting {
  /** ms in all; 0 does not wait */
  readonly ms: number
  /** The client is gone: Chaperone never runs anything for who is not there (rule 12). */
  readonly signal?: AbortSignal
  /** Told when a human is asked, before the waiting begins; and again when the question is another one. */
  readonly parked?: (parked: Parked) => void | Promise<void>
}

/** A question may change under who waits for its answer (a rule, a label); whose question changes each time is not answered for ever. */
const MOST_QUESTIONS = 4

/**
 * The one way to wait for a human: `attempt` describes what the client sent, from scratch, and has it admitted. Refused
 * with a question, it is tried again when that is answered: what was looked at before somebody thought about it for an hour
 * counts for nothing afterwards (peers R35, R39, R48). Rejects with the refusal when the time is over or the signal fires.
 */
export async function admitAsking<T>(
  { requests, clock }: { readonly requests: Pick<Requests, 'decided'>; readonly clock: Clock },
  attempt: () => Promise<T>,
  { ms, signal, parked }: Waiting,
): Promise<T> {
  const until = clock.now() + ms
  let last: string | undefined
  for (let questions = 1; ; questions++) {
    let refusal: Refusal & { readonly parked: Parked }
    try {
      return await attempt()
    } catch (error) {
      if (!isParked(error)) throw error
      refusal = error
    }
    const question = refusal.parked
    if (question.request !== last) await parked?.(question)
    last = question.request
    const left = until - clock.now()
    if (left <= 0 || signal?.aborted || questions > MOST_QUESTIONS) throw refusal
    const { state } = await requests.decided(question.request, { ms: left, ...(signal ? { signal } : {}) })
    // An attempt after an expiry, or after somebody took it back, would ask again.
    if (signal?.aborted || (state !== 'approved' && state !== 'denied')) throw refusal
  }
}

const isParked = (error: unknown): error is Refusal & { readonly parked: Parked } => error instanceof Refusal && error.parked !== undefined
