import { createHash } from 'node:crypto'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { toYaml } from './export.ts'
import type { Change, DocumentKinds, PlainDocument, StoredDocument } from './types.ts'
import { unifiedDiff } from './unified-diff.ts'

/** sha256 hex of the canonical JSON of the whole document: what tells a changed document from an unchanged one. */
export const digestOf = ({ kind, name, labels, spec }: PlainDocument): string =>
  createHash('sha256').update(canonicalJson({ kind, name, labels, spec })).digest('hex')

/** What an apply would do to one document. */
export interface Step {
  readonly op: Change['op']
  readonly kind: string
  readonly name: string
  readonly before?: StoredDocument
  readonly after?: PlainDocument
}

/** `kind/name`: unique in a store. */
export const keyOf = ({ kind, name }: { readonly kind: string; readonly name: string }): string => `${kind}/${name}`

/** Compares what is wanted with what is stored. `remove` are keys of stored documents that must go. */
export function planChanges(stored: readonly StoredDocument[], wanted: readonly PlainDocument[], remove: ReadonlySet<string>): readonly Step[] {
  const byKey = new Map(stored.map((document) => [keyOf(document), document]))
  const steps = wanted.map((after): Step => {
    const before = byKey.get(keyOf(after))
    const { kind, name } = after
    if (!before) return { op: 'create', kind, name, after }
    // Digested anew: the stored digest may be of an older form.
    return { op: digestOf(before) === digestOf(after) ? 'unchanged' : 'update', kind, name, before, after }
  })
  for (const key of remove) {
    const before = byKey.get(key)
    if (before) steps.push({ op: 'delete', kind: before.kind, name: before.name, before })
  }
  return steps
}

/** The step as people see it, with the diff of the YAML. */
export function toChange({ op, kind, name, before, after }: Step, kinds: DocumentKinds): Change {
  if (op === 'unchanged') return { op, kind, name }
  const diff = unifiedDiff(before ? toYaml(before, kinds) : '', after ? toYaml(after, kinds) : '')
  return { op, kind, name, diff }
}
