import { compileGlob } from '../../../encoding/glob.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Mirror, Routine } from '../mirror/types.ts'
import { hiddenByEither } from './keys.ts'
import type { Order } from './order.ts'
import { Masker } from './plan.ts'
import { RowMasks } from './rows.ts'
import type { Mask, Source } from './types.ts'

/** What a masked statement stands in. */
export interface MaskContext {
  readonly mirror?: Mirror
  /** Definitions were changed in this transaction: names without a schema may lead elsewhere than the mirror says. */
  readonly unsettled?: boolean
  /** `schema.function`, or globs */
  readonly reviewed?: readonly string[]
}

/** Different masks over one state of a database that are remembered. */
const MOST_MASKS = 64

/** Keeps the masks of all statements of a gateway. */
export class MaskKeeper {
  readonly #key: Uint8Array
  readonly #maskers = new WeakMap<Mirror, Map<string, Masker>>()

  /** `key`: of the hashes */
  constructor(key: Uint8Array) {
    this.#key = key
  }

  /** How the rows of the statement are hidden, or why it cannot run. `of`: the id of the resource. */
  keep(
    mask: Mask,
    statement: Source,
    stands: readonly Source[] | undefined,
    { mirror, reviewed, unsettled }: MaskContext,
    of: string,
  ): RowMasks | ChaperoneError {
    if (!mirror) return refused('what the database holds is not known', 'Connect again.')
    const at = (source: Source) => (unsettled ? { ...source, path: undefined } : source)
    const plan = this.#maskerOf(mask, mirror, reviewed ?? []).plan(at(statement), stands?.map(at))
    if ('why' in plan) return refused(plan.why, plan.fix)
    return new RowMasks(plan, { key: this.#key, of })
  }

  /** How far sessions must be kept from indexes, so that no order of rows tells what any of these masks hides. */
  order(masks: readonly Mask[], { mirror, reviewed }: MaskContext): Order {
    const [first, ...rest] = masks
    if (first === undefined) return 'free'
    return mirror ? this.#maskerOf(rest.reduce(hiddenByEither, first), mirror, reviewed ?? []).order() : 'no index'
  }

  #maskerOf(mask: Mask, mirror: Mirror, reviewed: readonly string[]): Masker {
    const maskers = this.#maskers.get(mirror) ?? new Map<string, Masker>()
    this.#maskers.set(mirror, maskers)
    const key = JSON.stringify([mask, reviewed])
    const known = maskers.get(key)
    if (known) return known
    const tests = reviewed.map((pattern) => compileGlob(pattern))
    const masker = new Masker(mask, mirror, ({ schema, name }: Routine) => tests.some((test) => test(`${schema}.${name}`)))
    if (maskers.size >= MOST_MASKS) maskers.clear()
    maskers.set(key, masker)
    return masker
  }
}

const refused = (why: string, fix: string) => new ChaperoneError('obligation_unsupported', `The rule hides columns, and ${why}.`, { fix })
