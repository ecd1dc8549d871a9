import { toChaperoneError } from '../../../errors.ts'
import { type RowMasks, readRowDescription } from '../masks/rows.ts'
import { hideWords } from '../masks/words.ts'
import type { Passage } from '../wire/scanner.ts'
import type { Item, Run } from './prepared.ts'

/** What the server says, held against the masks of the statements that it was asked. `failed` settles a run that was not as planned. */
export class Masking {
  readonly #failed: (run: Run, reason: string) => void
  /** Something was asked in this transaction that the server's words could quote hidden values of. */
  #quotes = false

  constructor(failed: (run: Run, reason: string) => void) {
    this.#failed = failed
  }

  /** A constraint may fail as late as at the end of the transaction. */
  note(run: Run | undefined): void {
    this.#quotes ||= run?.masks?.guarded === true
  }

  transactionOver(): void {
    this.#quotes = false
  }

  /** What the server says of a result, before any row of it goes on. `run`: the one that it is the result of, if it is known. */
  description(frame: Buffer | undefined, head: Item | undefined, run: Run | undefined): Passage {
    // What is described for a run that hides nothing flows by: most of what goes through here.
    if (run ? !run.masks : !head?.shape) return 'keep'
    if (!frame) return 'whole'
    const fields = readRowDescription(frame)
    if (head?.shape) head.shape.fields = fields
    if (run?.masks) this.#hide(run, (masks) => masks.describe(fields))
    return 'keep'
  }

  /** A row, when `count` lets it pass. */
  row(frame: Buffer | undefined, head: Item | undefined, run: Run | undefined, count: () => Passage): Passage {
    if (!run?.masks) return count()
    if (!frame && run.masks.rewrites) return 'whole'
    this.#hide(run, (masks) => masks.assertDescribed(head?.portal?.prepared.shape.fields))
    const passage = count()
    return passage === 'keep' && frame ? this.#hide(run, (masks) => masks.row(frame)) : passage
  }

  /** An error or notice without what could quote hidden values. */
  words(frame: Buffer, runs: readonly Run[]): Passage {
    for (const run of runs) this.note(run)
    return this.#quotes ? (hideWords(frame) ?? 'drop') : 'keep'
  }

  /** A result that is not as it was planned is not shown, and the record says why. */
  #hide<T>(run: Run, hide: (masks: RowMasks) => T): T {
    try {
      return hide(run.masks!)
    } catch (error) {
      this.#failed(run, toChaperoneError(error).code)
      throw error
    }
  }
}
