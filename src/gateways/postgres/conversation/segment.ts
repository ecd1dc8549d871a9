import { ChaperoneError } from '../../../errors.ts'
import type { Described } from '../describe.ts'
import { movesPortals, movesStatements, mustBeOver } from './handles.ts'

/** What the messages since the last Sync leave open for those that are read after them. The server answers none of them before the Sync. */
export class Segment {
  /** a refusal was found: the rest up to Sync is not even looked at */
  skipping = false
  /** Something of the extended protocol was taken since the last Sync. */
  begun = false
  /** In this segment names of prepared statements, or of portals, may have changed hands. */
  statementsMoved = false
  portalsMoved = false
  /** What must be over before anything else is read was asked for: in this segment, or before it and not finished. */
  #unsettledHere = false
  #unsettledBefore = false

  get isUnsettled(): boolean {
    return this.#unsettledHere
  }

  /** `described`, once it runs, may change what is read after it. */
  unsettles(described: Described): void {
    this.#unsettledHere ||= mustBeOver(described)
    this.statementsMoved ||= movesStatements(described)
    this.portalsMoved ||= movesPortals(described)
  }

  /** A simple Query is a segment of its own. */
  handOn(): void {
    this.#unsettledBefore ||= this.#unsettledHere
    this.#unsettledHere = false
  }

  end(): void {
    this.skipping = false
    this.begun = false
    this.handOn()
    this.statementsMoved = false
    this.portalsMoved = false
  }

  /** Whether what must be over is over. */
  isSettled(isIdle: () => boolean): boolean {
    if (this.#unsettledBefore && !isIdle()) return false
    this.#unsettledBefore = false
    return true
  }

  assertReadable(): void {
    if (!this.#unsettledHere) return
    throw new ChaperoneError('not_understood', 'A statement before it in the same batch may change what it means.', {
      fix: 'Send a Sync between the two.',
    })
  }
}
