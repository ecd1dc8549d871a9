import { ByName } from './by-name.ts'
import { Names, type Portal, type Run } from './prepared.ts'

/** More savepoints of one transaction are not told apart: what was bound behind them goes with any of the later ones. */
const MOST_SAVEPOINTS = 1000

/** Errors of a Query in a failed transaction that come before the server makes it a portal: that it has failed, and a text that cannot be parsed. */
const BEFORE_ITS_PORTAL = new Set(['25P02', '42601'])

/**
 * The portals that Binds of this client made, as long as the server has them. It has another one that nobody bound: each statement
 * of a simple Query runs in the unnamed portal and takes it from whoever had it. When that statement fails in a transaction, what is
 * left there points into memory that is used for something else by then, and an Execute of it can end the whole server (18.4:
 * SIGSEGV, everybody's connections). So only what stands here is executed.
 */
export class Portals extends Names<Portal> {
  readonly #neverRan: (run: Run) => void
  /** in the order in which they were made; the names of savepoints count in the same order */
  readonly #bornAt = new ByName<number>()
  /** Names that a Bind gave in this transaction: the server may have such a portal still, though it does not stand here. */
  readonly #everBound = new ByName<true>()
  #savepoints: { readonly name: string; readonly at: number }[] = []
  #now = 0

  /** `neverRan`: a portal was bound, and so admitted, and goes without having been executed. */
  constructor(neverRan: (run: Run) => void) {
    super(({ parameters }) => parameters.length)
    this.#neverRan = neverRan
  }

  override know(name: string, portal: Portal | undefined): void {
    this.#gone(this.known(name))
    super.know(name, portal)
    if (portal) {
      this.#bornAt.set(name, ++this.#now)
      if (this.#everBound.size <= MOST_SAVEPOINTS) this.#everBound.set(name, true)
    } else this.#bornAt.delete(name)
  }

  /** A cursor of SQL has the name now: it was free on the server, whatever was believed here. */
  declared(name: string): void {
    this.know(name, undefined)
    if (this.#everBound.size <= MOST_SAVEPOINTS) this.#everBound.delete(name)
  }

  /** Whether a FETCH from the name could come to a portal that was bound. */
  mayBeBound(name: string): boolean {
    return this.#everBound.has(name) || this.#everBound.size > MOST_SAVEPOINTS
  }

  /** The transaction is over, and they with it. */
  override clear(): void {
    for (const portal of this.values()) this.#gone(portal)
    super.clear()
    this.#bornAt.clear()
    this.#everBound.clear()
    if (this.#savepoints.length > 0) this.#savepoints = []
  }

  /** A statement of a Query is done: it ran in the unnamed portal. */
  queryRan(): void {
    this.know('', undefined)
  }

  /** `inFailed`: the transaction had failed before; there most statements are refused before they get a portal. */
  queryFailed(sqlstate: string, inFailed: boolean): void {
    if (!inFailed || !BEFORE_ITS_PORTAL.has(sqlstate)) this.know('', undefined)
  }

  savepoint(name: string): void {
    if (this.#savepoints.length < MOST_SAVEPOINTS) this.#savepoints.push({ name, at: this.#now })
  }

  /** What was bound since then stays. */
  release(name: string): void {
    const at = this.#newest(name)
    if (at >= 0) this.#savepoints.length = at
  }

  /** What was bound since then is gone; the savepoint stays. */
  rollBackTo(name: string): void {
    const at = this.#newest(name)
    if (at >= 0) this.#savepoints.length = at + 1
    const since = this.#savepoints.at(-1)?.at ?? 0
    for (const [portal, bornAt] of [...this.#bornAt]) if (bornAt > since) this.know(portal, undefined)
  }

  #newest(name: string): number {
    return this.#savepoints.findLastIndex((one) => one.name === name)
  }

  #gone(portal: Portal | undefined): void {
    if (portal?.run && !portal.run.sent) this.#neverRan(portal.run)
  }
}
