import { EFFECTS, type Effect } from '../../../policy/types.ts'
import type { Described } from '../describe.ts'
import type { Source } from '../masks/types.ts'

/** More names than this on one connection are a fault of the client; their FETCH is then taken as anything. */
const MOST_CURSORS = 1000
/** Different statements that one name of a cursor may have stood for. */
const MOST_SOURCES = 16
const UNREADABLE: Source = { text: '(', path: undefined }

interface Known {
  readonly read: readonly string[]
  readonly written: readonly string[]
  readonly functions: readonly string[]
  readonly kinds: readonly string[]
  readonly effects: readonly Effect[]
  readonly opaque: boolean
  readonly stands: readonly Source[]
}

/**
 * What the cursors of SQL read from, so that FETCH is judged as what it fetches. A name is never forgotten and its
 * meanings add up: whatever the server made of a DECLARE that failed, was rolled back or declared again, a FETCH is judged
 * by at least what it can reach.
 */
export class Cursors {
  readonly #known = new Map<string, Known>()

  /** The description with what its cursor adds to it; remembers a DECLARE. */
  follow(described: Described, path: readonly string[] | undefined): Described {
    if (described.declares !== undefined) this.#remember(described.declares, described, { text: described.text, path })
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
      stands: known.stands,
      summary: `${described.summary} from ${described.fetches.slice(0, 63)}`,
    }
  }

  #remember(name: string, { read, written, functions, kinds, effects, opaque }: Described, source: Source): void {
    const before = this.#known.get(name)
    if (!before && this.#known.size >= MOST_CURSORS) return
    this.#known.set(name, {
      read: join(before?.read, read),
      written: join(before?.written, written),
      functions: join(before?.functions, functions),
      kinds: join(before?.kinds, kinds),
      effects: EFFECTS.filter((effect) => effects.includes(effect) || before?.effects.includes(effect)),
      opaque: opaque || before?.opaque === true,
      stands: joinSources(before?.stands, source),
    })
  }
}

const join = (before: readonly string[] = [], now: readonly string[]) => [...new Set([...before, ...now])].sort()

/** Each once. More than these are not held against each other: then it stands for something that nobody can read. */
function joinSources(before: readonly Source[] = [], source: Source): readonly Source[] {
  const same = (one: Source) => one.text === source.text && one.path?.join('\0') === source.path?.join('\0')
  if (before.some(same)) return before
  return before.length < MOST_SOURCES ? [...before, source] : [UNREADABLE]
}
