import { EFFECTS, type Effect } from '../../../policy/types.ts'
import type { Described } from '../describe.ts'
import type { Source } from '../masks/types.ts'
import { bothCovered } from './handles.ts'

/** More names than this on one connection are a fault of the client; their FETCH is then taken as anything. */
const MOST_CURSORS = 1000
/** Characters of the statements of all cursors of one connection. */
const MOST_CHARACTERS = 8 * 1024 * 1024
/** Different statements that one name of a cursor may have stood for. */
const MOST_SOURCES = 16
const UNREADABLE: Source = { text: '(', path: undefined }

interface Known {
  readonly read: readonly string[]
  readonly written: readonly string[]
  readonly behind: readonly string[]
  readonly covered: Described['covered']
  readonly columns: Described['columns']
  readonly functions: readonly string[]
  readonly kinds: readonly string[]
  readonly effects: readonly Effect[]
  readonly opaque: boolean
  readonly loose: boolean
  readonly stands: readonly Source[]
}

/**
 * What the cursors of SQL read from, so that FETCH is judged as what it fetches. A name is never forgotten and its
 * meanings add up: whatever the server made of a DECLARE that failed, was rolled back or declared again, a FETCH is judged
 * by at least what it can reach.
 */
export class Cursors {
  readonly #known = new Map<string, Known>()
  /** of all texts that are kept */
  #characters = 0

  /** The description with what its cursor adds to it; remembers a DECLARE. `isPortal`: a portal of the protocol has the name that it fetches from. */
  follow(described: Described, path: readonly string[] | undefined, isPortal = false): Described {
    if (described.declares !== undefined) this.#remember(described.declares, described, { text: described.text, path })
    if (described.fetches === undefined) return described
    // A portal has the masks and caps of its Execute; under the name of what was once declared FETCH would show it without them.
    const known = isPortal ? undefined : this.#known.get(described.fetches)
    if (!known) {
      // A cursor that a function opened, or a portal of the protocol: what it reads cannot be known here.
      return { ...described, effects: EFFECTS, opaque: true, loose: true }
    }
    return {
      ...described,
      effects: known.effects,
      read: known.read,
      written: known.written,
      behind: known.behind,
      covered: known.covered,
      columns: known.columns,
      functions: known.functions,
      kinds: [...new Set([...described.kinds, ...known.kinds.filter((kind) => kind !== 'cursor')])].sort(),
      opaque: known.opaque,
      loose: known.loose,
      stands: known.stands,
      summary: `${described.summary} from ${described.fetches.slice(0, 63)}`,
    }
  }

  #remember(name: string, { read, written, behind, covered, columns, functions, kinds, effects, opaque, loose }: Described, source: Source): void {
    const before = this.#known.get(name)
    const isRoom = this.#characters < MOST_CHARACTERS
    if (!before && (this.#known.size >= MOST_CURSORS || !isRoom)) return
    const stands = joinSources(before?.stands, source)
    const isNew = stands !== before?.stands
    if (isNew) this.#characters += source.text.length
    this.#known.set(name, {
      read: join(before?.read, read),
      written: join(before?.written, written),
      behind: join(before?.behind, behind),
      covered: bothCovered(before?.covered, covered),
      columns: { read: join(before?.columns.read, columns.read), written: join(before?.columns.written, columns.written) },
      functions: join(before?.functions, functions),
      kinds: join(before?.kinds, kinds),
      effects: EFFECTS.filter((effect) => effects.includes(effect) || before?.effects.includes(effect)),
      opaque: opaque || before?.opaque === true,
      loose: loose || before?.loose === true,
      stands: isRoom || !isNew ? stands : [UNREADABLE],
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
