import { canonicalJson } from '../encoding/canonical-json.ts'
import type { Draft } from './record.ts'

/**
 * A draft as the canonical text of its leaf, cut where the writer puts in what it adds. Made once, where the record is made:
 * as JSON it was read again on the writer's thread and written anew, which with the messages was 21 of its 67 us a statement.
 */
export type DraftText = readonly [beforeAt: string, beforeNode: string, beforeSeq: string, beforeV: string]

/** In the order of RFC 8785; between the groups the writer adds `at` and `bodies`, `node`, `seq` and `v`. */
const GROUPS = [
  ['action', 'actor'],
  ['chain', 'connection', 'credential', 'data', 'decision', 'id', 'issuer'],
  ['outcome', 'permit', 'purpose', 'request', 'resource'],
  ['session', 'trace', 'type'],
] as const satisfies readonly (readonly (keyof Draft)[])[]

/** A field of Draft that is in no group would lose its records their short way: the compiler shows it here. */
type Grouped = (typeof GROUPS)[number][number] | 'bodies'
const LABELS: Readonly<Record<Exclude<keyof Draft, 'bodies'>, string>> = Object.fromEntries(
  GROUPS.flat().map((key: Grouped) => [key, `"${key}":`]),
) as Record<Grouped, string>

/**
 * Undefined for what has no canonical form (half a surrogate pair, something undefined, a field that nobody knows): such a
 * draft goes as JSON, and the writer repairs it.
 */
export function draftText(draft: Omit<Draft, 'bodies'>): DraftText | undefined {
  let left = Object.keys(draft).length
  const group = (keys: readonly Exclude<keyof Draft, 'bodies'>[]) => {
    let text = ''
    for (const key of keys) {
      const value = draft[key]
      if (value === undefined) continue
      left--
      text += `${LABELS[key]}${canonicalJson(value)},`
    }
    return text
  }
  try {
    const text: DraftText = [`{${group(GROUPS[0])}`, group(GROUPS[1]), group(GROUPS[2]), group(GROUPS[3])]
    return left === 0 ? text : undefined
  } catch {
    return undefined
  }
}

/** The leaf: `bodies` is canonical JSON, or empty for none. */
export function leafText(
  draft: DraftText,
  added: { readonly at: number; readonly bodies: string; readonly node: string; readonly seq: number },
): string {
  const { at, bodies, node, seq } = added
  const bodiesField = bodies === '' ? '' : `"bodies":${bodies},`
  return `${draft[0]}"at":${canonicalJson(at)},${bodiesField}${draft[1]}"node":${canonicalJson(node)},${draft[2]}"seq":${seq},${draft[3]}"v":1}`
}
