import type { Bag } from '../bag.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Action, Decision, Obligations } from '../policy/types.ts'
import type { Approval } from './approvals.ts'
import type { Taken } from './meter.ts'

/** What a cut of its connection ends. */
export interface Cuttable {
  sayGoodbye(reason: unknown): void
  cut(reason: unknown): void
}

interface PermitParts {
  readonly id: string
  readonly session: LiveSession
  readonly action: Action
  readonly decision: Decision
  readonly approval: Approval | undefined
  readonly taken: Taken | undefined
  /** `Admission.cut` */
  readonly goodbye: ((reason: unknown) => void) | undefined
  /** A goodbye failed: the others must still be cut. */
  readonly failed: (error: unknown) => void
}

/**
 * A permit that is out, and what must still hold while it is. A class, because an object with getters of its own, made for
 * every request, is one that V8 neither lays out nor collects well.
 */
export class OpenPermit implements Cuttable {
  readonly id: string
  readonly action: Action
  readonly decision: Decision
  readonly obligations: Obligations
  readonly #parts: PermitParts
  /** Most permits are over before anybody asks for their signal, and a signal costs more than deciding. */
  #controller: AbortController | undefined
  #ended: { readonly reason: unknown } | undefined
  #place = -1
  /** What its connection and its time would cut, taken back. */
  #unhook: (() => void) | undefined
  #forget: (() => void) | undefined

  constructor(parts: PermitParts) {
    this.id = parts.id
    this.action = parts.action
    this.decision = parts.decision
    this.obligations = parts.decision.obligations
    this.#parts = parts
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#ended) this.#controller.abort(this.#ended.reason)
    return this.#controller.signal
  }

  get session(): LiveSession {
    return this.#parts.session
  }

  get approval(): Approval | undefined {
    return this.#parts.approval
  }

  /** It was cut already. */
  get ended(): boolean {
    return this.#ended !== undefined
  }

  putInto(open: Bag<OpenPermit>, unhook: (() => void) | undefined, forget: (() => void) | undefined): void {
    this.#place = open.add(this)
    this.#unhook = unhook
    this.#forget = forget
  }

  /** False when it was taken out before. */
  takeOut(open: Bag<OpenPermit>): boolean {
    if (!open.delete(this.#place, this)) return false
    this.#unhook?.()
    this.#forget?.()
    this.#parts.taken?.over()
    return true
  }

  /** The first half of a cut: it permits nothing any more, and the client is told. */
  sayGoodbye(reason: unknown): void {
    if (this.#ended) return
    this.#ended = { reason }
    try {
      this.#parts.goodbye?.(reason)
    } catch (error) {
      this.#parts.failed(error)
    }
  }

  /** Ends what it permits. */
  cut(reason: unknown): void {
    this.sayGoodbye(reason)
    this.#controller?.abort(this.#ended?.reason)
  }
}
