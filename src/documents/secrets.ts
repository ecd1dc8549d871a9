import type { Verb } from '../access/administration.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { isRecord } from './read.ts'
import type { Fault, Path, PlainDocument } from './types.ts'
import type { World } from './world.ts'

/** There is one name space: whoever reads `{ secret: NAME }` must not have to ask which of two is meant. */
export function* secretInWorld({ name }: PlainDocument, { sealed }: World): Generator<Fault> {
  if (!sealed.has(name)) return
  yield {
    path: ['name'],
    message: `A sealed secret has the name \`${name}\` already.`,
    fix: `Choose another name, or delete the sealed one: chaperone secret delete ${name}`,
  }
}

interface Needed {
  readonly path: Path
  readonly verbs: readonly Verb[]
  readonly what: string
}

/** What whoever writes a reference must hold beside `apply`. */
export function secretNeeds(old: PlainDocument | undefined, next: PlainDocument | undefined): Needed | undefined {
  if (canonicalJson(old?.spec ?? {}) === canonicalJson(next?.spec ?? {})) return undefined
  const from = isRecord(next?.spec.from) ? next.spec.from : {}
  // A command runs as Chaperone itself, and so does what it may read.
  if (from.command !== undefined)
    return { path: ['spec', 'from', 'command'], verbs: ['secrets', 'ca'], what: 'A command that runs as Chaperone itself can read what is behind' }
  return { path: next ? ['spec', 'from'] : [], verbs: ['secrets'], what: 'Where a secret comes from is a matter of' }
}
