import { stringify } from 'yaml'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { inReadingOrder } from '../policy/reading-order.ts'
import type { DocumentKinds, PlainDocument } from './types.ts'

/**
 * The document as its author could have written it. What the kind would fill in by itself is left out, so that what was
 * applied and what comes back read alike; applying it again changes nothing.
 */
export function toYaml({ kind, name, labels, spec }: PlainDocument, kinds: DocumentKinds): string {
  const document = {
    kind,
    name,
    ...(Object.keys(labels).length > 0 ? { labels } : {}),
    spec: inReadingOrder(withoutDefaults(kind, name, spec, kinds)),
  }
  // yaml quotes what another reader could take for a number, a date or (YAML 1.1) a boolean.
  return stringify(document, { version: '1.2', schema: 'core', compat: 'yaml-1.1', lineWidth: 0, aliasDuplicateObjects: false })
}

function withoutDefaults(kindName: string, name: string, spec: PlainDocument['spec'], kinds: DocumentKinds): PlainDocument['spec'] {
  const kind = kinds.get(kindName)
  if (!kind) return spec
  const whole = canonicalJson(spec)
  let short: Record<string, unknown> = { ...spec }
  for (const key of Object.keys(spec)) {
    const { [key]: _, ...rest } = short
    const checked = kind.check(rest, name)
    if (checked.spec && canonicalJson(checked.spec) === whole) short = rest
  }
  return short
}
