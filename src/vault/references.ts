import { isOwnVariable, type SecretSpec } from '../catalog/secret.ts'
import type { Clock } from '../clock.ts'
import { parseDuration } from '../encoding/duration.ts'
import { type ChaperoneError, toChaperoneError } from '../errors.ts'
import { type Source, textOf, unreadable } from './source.ts'
import { commandSource } from './source-command.ts'
import { fileSource } from './source-file.ts'

/** Reading one, whatever it is. */
const READ_MS = 10_000

interface ReferencesParts {
  /** The document of that name as it is applied now. */
  readonly specOf: (name: string) => SecretSpec | undefined
  /** paths that no secret may be taken from */
  readonly kept: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  /** Gets every value as soon as it is read, before anybody can use it (rule 5). */
  readonly see: (value: string) => void
}

/** Secrets that are kept elsewhere. A value is kept in memory alone, for as long as its document says. */
export interface References {
  has(name: string): boolean
  /** Throws `upstream_unavailable` when it cannot be read now: an old value is not used, since somebody may have taken it away. */
  reveal(name: string): Promise<string>
  /** Reads those that were not read yet, so that records mask them from the moment they are named and not from their first use. Never rejects. */
  look(names: readonly string[]): Promise<void>
  /** Why it cannot be had now, for whoever wrote where it is; undefined when it can. Never rejects. */
  trouble(name: string): Promise<ChaperoneError | undefined>
}

interface Kept {
  readonly spec: string
  readonly until: number
  readonly value: Promise<string>
}

export function openReferences({ specOf, kept, env, clock, see }: ReferencesParts): References {
  const values = new Map<string, Kept>()

  const sourceOf = ({ from }: SecretSpec): Source => {
    if ('file' in from) return fileSource({ path: from.file, kept })
    if ('command' in from) return commandSource(from.command)
    return { read: async () => variable(env, from.env) }
  }

  const read = async (spec: SecretSpec): Promise<string> => {
    const stop = new AbortController()
    const disarm = clock.at(clock.now() + READ_MS, () => stop.abort())
    try {
      const value = await sourceOf(spec).read(stop.signal)
      see(value)
      return value
    } finally {
      disarm()
    }
  }

  const looked = new Map<string, string>()
  const references: References = {
    async look(names) {
      for (const name of looked.keys()) if (!names.includes(name)) looked.delete(name)
      // What no document names any more is nobody's business, and lies nowhere.
      for (const name of values.keys()) if (!specOf(name)) values.delete(name)
      const fresh = names.filter((name) => looked.get(name) !== JSON.stringify(specOf(name)))
      for (const name of fresh) looked.set(name, JSON.stringify(specOf(name)))
      // One that cannot be read now is told to whoever uses it.
      await Promise.allSettled(fresh.map((name) => references.reveal(name)))
    },

    trouble: (name) => references.reveal(name).then(() => undefined, toChaperoneError),

    has: (name) => specOf(name) !== undefined,

    reveal(name) {
      const spec = specOf(name)
      if (!spec) {
        values.delete(name)
        return Promise.reject(unreadable('nowhere', 'its document was deleted'))
      }
      const text = JSON.stringify(spec)
      const known = values.get(name)
      if (known && known.spec === text && known.until > clock.now()) return known.value
      const value = read(spec)
      values.set(name, { spec: text, until: clock.now() + parseDuration(spec.refresh), value })
      value.catch(() => {
        if (values.get(name)?.value === value) values.delete(name)
      })
      return value
    },
  }
  return references
}

function variable(env: ReferencesParts['env'], name: string): string {
  const place = `the variable ${name} of the server`
  // Documents of before this was refused are still there.
  if (isOwnVariable(name)) throw unreadable(place, "it is one of Chaperone's own", 'Set the value under another name where the server is started.')
  const value = env[name]
  if (value === undefined) throw unreadable(place, 'it is not set', 'Set it where the server is started, and restart it.')
  return textOf(Buffer.from(value), place)
}
