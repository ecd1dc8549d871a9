import { EFFECTS } from '../../../policy/types.ts'
import type { Described } from '../describe.ts'
import type { Portals } from './portals.ts'
import type { Names, Naming, Prepared } from './prepared.ts'

/** What the statements of one text have made and taken away before the one that is looked at: they run in order, or not at all. */
export class Overlay {
  readonly #made = new Map<string, Described | undefined>()
  #allForgotten = false

  note(described: Described): void {
    const { prepares, forgets } = described
    if (forgets === null) {
      this.#made.clear()
      this.#allForgotten = true
    } else if (forgets !== undefined) this.#made.set(forgets, undefined)
    if (prepares !== undefined) this.#made.set(prepares, described)
  }

  /** `elsewhere`: what counts when this text says nothing of the name. */
  find<T>(name: string, elsewhere: () => T): T | Described | undefined {
    if (this.#made.has(name)) return this.#made.get(name)
    return this.#allForgotten ? undefined : elsewhere()
  }
}

/** EXECUTE as what it executes: its own parameters may call something too, so both count. */
export function executed(described: Described, body: Described | undefined, path: readonly string[] | undefined): Described {
  if (!body) {
    // Prepared where nobody could see it, by a function perhaps.
    return { ...described, effects: EFFECTS, opaque: true, loose: true }
  }
  return {
    ...described,
    effects: EFFECTS.filter((effect) => described.effects.includes(effect) || body.effects.includes(effect)),
    kinds: [...new Set([...described.kinds, ...body.kinds.filter((kind) => kind !== 'prepare')])].sort(),
    read: join(described.read, body.read),
    written: join(described.written, body.written),
    behind: join(described.behind, body.behind),
    covered: bothCovered(described.covered, body.covered),
    columns: { read: join(described.columns.read, body.columns.read), written: join(described.columns.written, body.columns.written) },
    functions: join(described.functions, body.functions),
    settings: join(described.settings, body.settings),
    opaque: described.opaque || body.opaque,
    loose: described.loose || body.loose,
    through: described.through || body.through,
    everyRow: described.everyRow || body.everyRow,
    unclear: described.unclear ?? body.unclear,
    stands: body.stands ?? [{ text: body.text, path }],
    ...handlesThrough(body, described.executes),
    summary: `${described.summary} of ${body.summary.replace(/^PREPARE\s*/, '') || 'a statement'}`,
  }
}

/**
 * The protocol prepares what PREPARE does not take: CLOSE, DECLARE, DEALLOCATE, COMMIT ... EXECUTE of it does the same to names
 * as the statement itself. What a PREPARE has made in this way has no text that would stay: nobody uses it. (What was prepared by a PREPARE
 * is described as that, with its own name.)
 */
function handlesThrough(
  { prepares, forgets, declares, closes, marks, releases, undoes, ends }: Described,
  name: string | undefined,
): Partial<Described> {
  const all = { forgets: prepares === name ? forgets : (prepares ?? forgets), declares, closes, marks, releases, undoes, ends }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}

/** Whether names of prepared statements may mean something else after it. Code that cannot be seen may PREPARE and DEALLOCATE. */
export const movesStatements = ({ prepares, forgets, opaque, loose }: Described): boolean =>
  prepares !== undefined || forgets !== undefined || (opaque && loose)

/** Whether names of portals may mean something else after it: a cursor of DECLARE is a portal as well. */
export const movesPortals = ({ declares, closes }: Described): boolean => declares !== undefined || closes !== undefined

/** Nothing of what follows is read before the server is done with it. */
export const mustBeOver = (described: Described): boolean =>
  described.loose || described.effects.includes('admin') || movesStatements(described) || movesPortals(described)

/** Every Query takes away the unnamed statement, and most the unnamed portal (portals.ts); which, is known when it is answered. */
export function takesUnnamed(statements: Names<Prepared>, portals: Portals): Naming | undefined {
  if (!statements.mayHave('') && !portals.mayHave('')) return undefined
  statements.propose('', undefined)
  portals.propose('', undefined)
  const withdraw = () => {
    statements.withdraw()
    portals.withdraw()
  }
  const failed = () => statements.know('', undefined)
  const confirm = () => {
    withdraw()
    failed()
  }
  return { confirm, withdraw, failed }
}

/** What is true of the names once the server has run the statement; undefined: nothing changes. */
export function whenDone(
  { prepares, forgets, declares, closes, marks, releases, undoes }: Described,
  statements: Names<Prepared>,
  portals: Portals,
  prepared: () => Prepared,
): (() => void) | undefined {
  if ([prepares, forgets, declares, closes, marks, releases, undoes].every((name) => name === undefined)) return undefined
  const drop = (name: string) => portals.know(name, undefined)
  return () => {
    if (prepares !== undefined) statements.know(prepares, prepared())
    if (forgets === null) statements.clearNamed()
    else if (forgets !== undefined) statements.know(forgets, undefined)
    if (closes === null) for (const name of [...portals.names()]) drop(name)
    else if (closes !== undefined) drop(closes)
    // The name was free on the server, whatever was believed here.
    if (declares !== undefined) portals.declared(declares)
    if (marks !== undefined) portals.savepoint(marks)
    if (releases !== undefined) portals.release(releases)
    if (undoes === null) portals.clear()
    else if (undoes !== undefined) portals.rollBackTo(undoes)
  }
}

/** What either of them covers. */
export function bothCovered(some: Described['covered'], more: Described['covered']): Described['covered'] {
  if (!some || !more) return some ?? more
  return { read: join(some.read, more.read), written: join(some.written, more.written), behind: join(some.behind, more.behind) }
}

const join = (some: readonly string[], more: readonly string[]) => [...new Set([...some, ...more])].sort()
