import type { Body } from '../../../audit/record.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Action } from '../../../policy/types.ts'
import { NO_PARAMETERS } from '../asking/bound.ts'
import { type Described, type DescriptionCache, type Place, type SqlContext, statementAction } from '../describe.ts'
import { statementBodies } from '../record/keep.ts'
import type { Bearings } from './bearings.ts'
import { whenDone } from './handles.ts'
import type { Meanings } from './meanings.ts'
import type { Reading } from './parking.ts'
import type { Portals } from './portals.ts'
import { assertRoom, type Names, type Portal, type Prepared } from './prepared.ts'
import type { Segment } from './segment.ts'

/** One statement that is to be judged for good, and recorded. */
export interface Asked {
  readonly described: Described
  readonly action: Action
  /** what it was described in */
  readonly context: SqlContext
  readonly bodies: readonly Body[]
  /** as in {@link Prepared} */
  readonly types?: readonly number[] | undefined
  /** What is true of the session's names once the server has run it. */
  readonly done?: (() => void) | undefined
}

interface AskingParts {
  readonly place: Place
  readonly cache: DescriptionCache
  readonly statements: Names<Prepared>
  readonly portals: Portals
  readonly bearings: Bearings
  readonly meanings: Meanings
  readonly segment: Segment
  readonly limits: { readonly names: number }
}

/** From what a statement was found to do to what is asked of the guard, and what it leaves behind. */
export class StatementAsking {
  readonly #parts: AskingParts

  constructor(parts: AskingParts) {
    this.#parts = parts
  }

  action(described: Described, context = this.#parts.bearings.context): Action {
    return statementAction(this.#parts.place, described, context)
  }

  bodies(described: Described, text: string, parameters = ''): readonly Body[] {
    return statementBodies(this.#parts.place.keeping, text, parameters, described)
  }

  /** `text`: of the statement alone; `source`: the whole that it came in. */
  ofText(described: Described, context: SqlContext, text: string, source: string): Asked {
    const action = this.action(described, context)
    return { described, action, context, bodies: this.bodies(described, text), done: this.#whenDone(described, text, source) }
  }

  ofPortal({ prepared: { described, action, text, source, context, types }, parameters }: Portal): Asked | undefined {
    return (
      described &&
      action && {
        described,
        action,
        context,
        types,
        bodies: this.bodies(described, text, parameters),
        done: this.#whenDone(described, text, source),
      }
    )
  }

  /** One statement of a Query as everything is now. Nothing else is under way. */
  queryAgain(text: string): Reading {
    const { bearings, cache, meanings } = this.#parts
    const [one, second] = cache.describe(text, bearings.context)
    const described = one && !second ? meanings.follow(one) : 'wait'
    if (described === 'wait') throw new ChaperoneError('conflict', 'What the statement means has changed.', { fix: 'Send it again.' })
    this.#unsettlesWhatFollows(described)
    return { asked: this.ofText(described, bearings.context, text, text), given: NO_PARAMETERS }
  }

  portalAgain(portal: Portal): Asked {
    portal.prepared = this.#parts.meanings.again(portal.prepared)
    const asked = this.ofPortal(portal)!
    this.#unsettlesWhatFollows(asked.described)
    return asked
  }

  /** What the statement, once it runs, leaves unsettled for what is read after it. */
  unsettles(described: Described): void {
    this.#parts.segment.unsettles(described)
    if (described.opaque && described.loose) this.#parts.bearings.doubtNames()
  }

  #unsettlesWhatFollows(described: Described): void {
    this.unsettles(described)
    this.#parts.segment.handOn()
  }

  #whenDone(described: Described, text: string, source: string): (() => void) | undefined {
    const { portals, statements, meanings, limits } = this.#parts
    const { context } = this.#parts.bearings
    if (described.prepares !== undefined) assertRoom(statements, limits.names, 'prepared statements')
    const shape = { fields: undefined }
    const prepared = (): Prepared => ({ described, action: this.action(described, context), text, source, context, shape })
    if (described.prepares !== undefined) meanings.assertStillMeant(prepared())
    return whenDone(described, statements, portals, prepared)
  }
}
