import { isDeepStrictEqual } from 'node:util'
import { ChaperoneError } from '../../../errors.ts'
import { type Described, type DescriptionCache, type Place, statementAction } from '../describe.ts'
import type { Bearings } from './bearings.ts'
import { Cursors } from './cursors.ts'
import { executed, Overlay } from './handles.ts'
import type { Portals } from './portals.ts'
import type { Names, Prepared, Shape } from './prepared.ts'

interface MeaningsParts {
  readonly place: Place
  readonly cache: DescriptionCache
  readonly statements: Names<Prepared>
  readonly portals: Portals
  readonly bearings: Bearings
  /** A statement before it in the same segment may change what names mean. */
  unsettled(): boolean
}

/** Prepared statements that execute prepared statements, one through the other; more are taken as anything. */
const MOST_DEPTH = 5

/** Search paths under which one prepared statement is used; for more it is to be prepared anew. */
const MOST_PATHS = 1000

/** EXECUTE has the kinds of its body besides its own, and FETCH those of its cursor. */
const PLANNED: ReadonlySet<string> = new Set(['select', 'insert', 'update', 'delete', 'merge'])

/** What a statement does by way of names: of cursors, of portals, of prepared statements. */
export class Meanings {
  readonly #parts: MeaningsParts
  readonly #cursors = new Cursors()
  /** The relations that a prepared statement meant when it was first seen under a search path. */
  readonly #meant = new WeakMap<Shape, Map<string, readonly string[]>>()
  /** EXECUTE of EXECUTE of ... */
  #depth = 0

  constructor(parts: MeaningsParts) {
    this.#parts = parts
  }

  /** The statement as what it runs: through a cursor, or a prepared statement; and whether it moves names. */
  follow(one: Described, overlay = new Overlay()): Described | 'wait' {
    const { portals } = this.#parts
    const portal = one.fetches === undefined ? undefined : portals.find(one.fetches)
    if (portal === 'wait') return 'wait'
    const isPortal = portal !== undefined || (one.fetches !== undefined && portals.mayBeBound(one.fetches))
    let described = this.#cursors.follow(one, this.#parts.bearings.context.path, isPortal)
    if (described.executes !== undefined) {
      const name = described.executes
      const found = overlay.find(name, () => this.#parts.statements.find(name))
      if (found === 'wait') return 'wait'
      // The protocol can prepare an EXECUTE, of itself even; the server ends that with its stack.
      const body = this.#depth >= MOST_DEPTH ? undefined : found && ('source' in found ? this.#deeper(found) : found)
      described = executed(described, body, this.#parts.bearings.context.path)
    }
    overlay.note(described)
    if (this.#parts.bearings.mayRollBack && !described.loose && described.kinds.includes('transaction')) described = { ...described, loose: true }
    return described
  }

  #deeper(prepared: Prepared): Described | undefined {
    this.#depth++
    try {
      return this.again(prepared).described
    } finally {
      this.#depth--
    }
  }

  /**
   * The server plans these when they are bound. All others look their names up when they run, by what the search path, a cursor or a
   * prepared statement is then: who has bound a COPY, and then moves the path, would have the one table judged and the other copied.
   * Throws `conflict`.
   */
  assertSame(bound: Prepared): void {
    const { described } = bound
    if (!described || (described.executes === undefined && described.kinds.every((kind) => PLANNED.has(kind)))) return
    if (isDeepStrictEqual(this.again(bound).described, described)) return
    throw new ChaperoneError('conflict', 'What it stands for has changed since it was bound.', { fix: 'Bind it anew, and run it right behind.' })
  }

  /** What a statement means may have moved since it was prepared: other cursors, another search path, another definition. */
  again(prepared: Prepared): Prepared {
    const { described: before } = prepared
    const context = this.#parts.unsettled()
      ? { ...this.#parts.bearings.context, path: undefined, pinnedReadOnly: false }
      : this.#parts.bearings.context
    const follows = before && (before.fetches !== undefined || before.executes !== undefined || before.kinds.includes('transaction'))
    if (!before || (prepared.context === context && !follows)) return prepared
    const described = this.follow(this.#parts.cache.describe(prepared.text, context, prepared.types)[0]!)
    // A name that is just changing hands: what it will stand for is not known yet.
    const sure = described === 'wait' ? executed(before, undefined, undefined) : described
    const now = { ...prepared, described: sure, action: statementAction(this.#parts.place, sure, context), context }
    this.assertStillMeant(now)
    return now
  }

  /**
   * The server keeps what it made of the names of a prepared statement until the search path is another one, or what they lead to is
   * changed. A newer table that stands before the old one on the same path is not seen: it would be judged, and the old one read.
   * To be called where the server looks at the names: Parse, Bind, Describe. Throws `conflict`.
   */
  assertStillMeant({ described, context: { path }, shape }: Prepared): void {
    if (!described || !path || described.executes !== undefined || described.fetches !== undefined) return
    const meant = this.#meant.get(shape) ?? new Map<string, readonly string[]>()
    this.#meant.set(shape, meant)
    const key = JSON.stringify(path)
    const now = [...described.read, ...described.written]
    const before = meant.get(key)
    // A name that was not known then has no schema.
    const gone = before?.some((name) => name.includes('.') && !now.includes(name)) ?? meant.size >= MOST_PATHS
    if (gone)
      throw new ChaperoneError('conflict', 'Its names lead elsewhere than when it was prepared.', {
        fix: 'Close it (DEALLOCATE), and prepare it anew.',
      })
    if (!before) meant.set(key, now)
  }
}
