import type { Given } from '../asking/bound.ts'
import { readExecute } from '../wire/client.ts'
import { FROM_CLIENT } from '../wire/codes.ts'
import type { Asked } from './asked.ts'
import { IN_PIPELINE, NOT_RUN, whyNot } from './cannot.ts'
import type { Reading } from './parking.ts'
import type { Item, Names, Portal } from './prepared.ts'

const { close, describe, execute, sync } = FROM_CLIENT

interface AloneParts {
  readonly portals: Names<Portal>
  askedBy(portal: Portal): Asked | undefined
  /** The same, read anew. */
  readAgain(portal: Portal): Asked
  admit(item: Item, asked: readonly Asked[], cannot?: string): void
  park(item: Item, read: () => Reading): void
}

/**
 * A Bind that a human must be asked about. Only a statement by itself can wait, and whether it is by itself is seen when its Sync
 * comes: until then nothing is decided, and nothing of it is sent.
 */
export class Alone {
  readonly #parts: AloneParts
  /** Something was bound since the last Sync. */
  #bound = false
  #bind: { readonly item: Item; readonly portal: Portal; readonly given: Given } | undefined

  constructor(parts: AloneParts) {
    this.#parts = parts
  }

  /** A Bind was taken; true when it is the first of its segment. */
  isFirst(): boolean {
    const first = !this.#bound
    this.#bound = true
    return first
  }

  holds(item: Item, portal: Portal, given: Given): void {
    item.waiting = true
    this.#bind = { item, portal, given }
  }

  /** Whether the message may stand behind it: what describes it, runs it once, and ends. If not, the Bind is refused. */
  bears(type: number, frame: Buffer): boolean {
    if (!this.#bind || this.#standsWith(this.#bind.portal, type, frame)) return true
    this.refuse(IN_PIPELINE)
    return false
  }

  #standsWith(portal: Portal, type: number, frame: Buffer): boolean {
    if (type === sync || type === describe) return true
    if (type === close) return portal.executed
    return type === execute && !portal.executed && this.#parts.portals.find(readExecute(frame).portal) === portal
  }

  segmentEnds(): void {
    this.#bound = false
  }

  /** The Sync came, and is in line. */
  decide(): void {
    if (!this.#bind) return
    const { item, portal, given } = this.#bind
    const { described } = portal.prepared
    const cannot = !portal.executed ? NOT_RUN : described && whyNot(described)
    if (cannot !== undefined) {
      this.refuse(cannot)
      return
    }
    this.#bind = undefined
    this.#parts.park(item, () => ({ asked: this.#parts.readAgain(portal), given }))
  }

  refuse(cannot: string): void {
    if (!this.#bind) return
    const { item, portal } = this.#bind
    this.#bind = undefined
    this.#parts.admit(item, [this.#parts.askedBy(portal)!], cannot)
  }
}
