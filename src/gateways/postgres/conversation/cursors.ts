import { EFFECTS, type Effect } from '../../../policy/types.ts'
import type { Described } from '../describe.ts'

/** More names than this on one connection are a fault of the client; their FETCH is then taken as anything. */
const MOST_CURSORS = 1000

interface Known {
  readonly read: readonly string[]
  readonly written: readonly string[]
  readonly functions: readonly string[]
  readonly kinds: readonly string[]
  readonly effects: readonly Effect[]
  readonly opaque: boolean
}

/**
 * What the cursors of SQL read from, so that FETCH is judged as what it fetches. A name is never forgotten and its
 * meanings add up: whatever the server made of a DECLARE that failed, was rolled back or declared again, a FETCH is judged
 * by at least what it can reach.
 */
export class Cursors {
  readonly #known = new Map<string, Known>()

  /** The description with what its cursor adds to it; remembers a DECLARE. */
  follow(described: Described): Described {
    if (described.declares !== undefined) this.#remember(described.declares, described)
    if (described.fetches === undefined) return described
    const known = this.#known.get(described.fetches)
    if (!known) {
      // A cursor that a function opened, or a portal of the protocol: what it reads cannot be known here.
      return { ...described, effects: EFFECTS, opaque: true }
    }
    return {
      ...described,
      effects: known.effects,
      read: known.read,
      written: known.written,
      functions: known.functions,
      kinds: [...new Set([...described.kinds, ...known.kinds.filter((kind) => kind !== 'cursor')])].sort(),
      opaque: known.opaque,
      summary: `${described.summary} from ${described.fetches.slice(0, 63)}`,
    }
  }

  #remember(name: string, { read, written, functions, kinds, effects, opaque }: Described): void {
    const before = this.#known.get(name)
    if (!before && this.#known.size >= MOST_CURSORS) return
    this.#known.set(name, {
      read: join(before?.read, read),
      written: join(before?.written, written),
      functions: join(before?.functions, functions),
      kinds: join(before?.kinds, kinds),
      effects: EFFECTS.filter((effect) => effects.includes(effect) || before?.effects.includes(effect)),
      opaque: opaque || before?.opaque === true,
    })
  }
}

const join = (before: readonly string[] = [], now: readonly string[]) => [...new Set([...before, ...now])].sort()
