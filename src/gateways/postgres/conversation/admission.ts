import type { Asking, Guard, Permit } from '../../../access/types.ts'
import { parseByteSize } from '../../../encoding/byte-size.ts'
import { parseDuration } from '../../../encoding/duration.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Connection, LiveSession } from '../../../identity/types.ts'
import type { Place } from '../describe.ts'
import type { MaskKeeper } from '../masks/keeper.ts'
import type { RowMasks } from '../masks/rows.ts'
import { cannotKeep, type KnownObligations } from '../rules.ts'
import { FROM_CLIENT } from '../wire/codes.ts'
import type { Asked } from './asked.ts'
import { RULES_CHANGED } from './cannot.ts'
import { wayAround } from './covered.ts'
import { type Parking, type Reading, SkippedByServer } from './parking.ts'
import type { Item, Outcome, Run } from './prepared.ts'

const never = (): never => {
  throw new ChaperoneError('internal', 'Nobody can be asked about this.')
}
/** One for all: it is made for every statement. */
const CHANGED: Asking = { cannot: RULES_CHANGED, call: never }

interface AdmissionParts {
  readonly guard: Guard
  readonly session: LiveSession
  readonly connection: Connection
  readonly place: Place
  readonly masks: MaskKeeper
  trace(): string | undefined
  isClosed(): boolean
  readonly parking: Parking
  settle(run: Run, outcome: Outcome): void
  cut(reason: unknown): void
  /** A permit was cut. */
  over(reason: unknown): void
  /** The server skips what comes up to the Sync; so does this. */
  skipToSync(): void
  /** The message waits no more. */
  goOn(): void
}

/** From the question of the guard to a run with all that its rule demands of it, or to a refusal. */
export class Admission {
  readonly #parts: AdmissionParts
  readonly #onCut = (reason: unknown) => this.#parts.over(reason)
  /** How many were admitted. */
  count = 0

  constructor(parts: AdmissionParts) {
    this.#parts = parts
  }

  /**
   * Asks the guard for every statement of the message, all at once: their intents share one write to the disk. `cannot`: why
   * nobody can be asked about it, where a rule wants that (`cannot.ts`).
   */
  admit(item: Item, asked: readonly Asked[], cannot = RULES_CHANGED): void {
    const { guard, session, connection } = this.#parts
    let left = asked.length
    const permits: (Permit | undefined)[] = []
    const arrived = () => {
      if (--left > 0) return
      item.waiting = false
      try {
        asked.forEach((_, i) => {
          const permit = permits[i]
          if (permit) this.#admitted(item, asked[i]!, permit)
        })
      } catch (error) {
        this.#parts.cut(error)
      }
      this.#parts.goOn()
    }
    item.waiting = true
    const trace = this.#parts.trace()
    const asking = cannot === RULES_CHANGED ? CHANGED : { cannot, call: never }
    asked.forEach((one, i) => {
      const { described, action, bodies } = one
      guard.admit(session, action, { connection, bodies, asking, cut: this.#onCut, ...(trace === undefined ? {} : { trace }) }).then(
        (permit) => {
          permits[i] = permit
          arrived()
        },
        (error) => {
          item.refusal ??= { error: toChaperoneError(error), about: described, around: wayAround(this.#parts, one) }
          arrived()
        },
      )
    })
  }

  /** Waits for the human whom a rule wants asked; nothing else of the client is read meanwhile. */
  park(item: Item, read: () => Reading): void {
    item.waiting = true
    this.#parts.parking.wait(read).then(
      ({ asked, permit }) => {
        item.waiting = false
        try {
          this.#admitted(item, asked, permit)
        } catch (error) {
          this.#parts.cut(error)
        }
        this.#parts.goOn()
      },
      (error) => {
        item.waiting = false
        if (error instanceof SkippedByServer) this.#parts.skipToSync()
        else item.refusal = { error: toChaperoneError(error), about: this.#parts.parking.about }
        this.#parts.goOn()
      },
    )
  }

  #admitted(item: Item, asked: Asked, permit: Permit): void {
    const { described } = asked
    const obligations = permit.obligations as KnownObligations
    const masks = this.#masksFor(asked, obligations)
    const run: Run = {
      permit,
      described,
      startedAt: 0,
      rows: 0,
      bytes: 0,
      cap: obligations.max_rows ?? 0,
      capBytes: obligations.max_bytes === undefined ? 0 : parseByteSize(obligations.max_bytes),
      cut: undefined,
      stopped: false,
      wordsCut: false,
      overtime: false,
      withdrawn: undefined,
      withheld: false,
      done: asked.done,
      parameters: item.portal?.parameters ?? '',
      masks: masks instanceof ChaperoneError ? undefined : masks,
      timeoutMs: obligations.statement_timeout === undefined ? 0 : parseDuration(obligations.statement_timeout),
      status: undefined,
      sqlstate: undefined,
      transaction: 0,
      ended: undefined,
      sent: false,
    }
    const closed = this.#parts.isClosed()
    const unkept = closed ? undefined : masks instanceof ChaperoneError ? masks : cannotKeep(permit.obligations, permit.action)
    // A Parse is admitted only to have its refusal recorded; if the rules have changed in between, it is tried again.
    const error =
      unkept ??
      (item.type === FROM_CLIENT.parse
        ? new ChaperoneError('conflict', 'The rules changed while this was judged.', { fix: 'Try again.' })
        : undefined)
    if (closed || error) {
      this.#parts.settle(run, { status: 'failed', sent: false, ...(error ? { reason: error.code } : {}) })
      if (error) item.refusal = { error, about: described }
      return
    }
    this.count++
    item.runs.push(run)
    if (item.portal && item.type === FROM_CLIENT.bind) item.portal.run = run
  }

  /** How the rows of the statement are hidden; undefined when its rule hides nothing; an error when that cannot be done. */
  #masksFor({ described, action, context, types }: Asked, { mask }: KnownObligations): RowMasks | ChaperoneError | undefined {
    if (mask === undefined || Object.keys(mask).length === 0) return undefined
    const { path } = action.facts as { readonly path?: readonly string[] }
    return this.#parts.masks.keep(mask, { text: described.text, path, types }, described.stands, context, action.resource.id)
  }
}
