import type { Envelope } from '../audit/record.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { shownObligations } from '../policy/limits.ts'
import type { Decision } from '../policy/types.ts'

/**
 * Which demands (masks, caps, limits) of what was sent on would be others now, by name; 'unknown' where the record does not hold all
 * of them. What was refused demanded nothing.
 */
export function changedDemands({ type, decision }: Envelope, then: Decision): readonly string[] | 'unknown' {
  if (type !== 'action.intent' || !decision || then.verdict === 'deny') return []
  const was: unknown = decision.obligations
  if (!isFields(was) || isCut(was)) return 'unknown'
  const now = shownObligations(then.obligations)
  const names = [...new Set([...Object.keys(was), ...Object.keys(now)])].sort()
  if (names.some((name) => isCut(was[name]))) return 'unknown'
  return names.filter((name) => textOf(was[name]) !== textOf(now[name]))
}

type Fields = Readonly<Record<string, unknown>>
const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null

/** As the record cuts what is too long (audit/envelope.ts). */
function isCut(value: unknown): boolean {
  if (typeof value === 'string') return value.includes('… [cut: ')
  if (Array.isArray(value)) return value.some(isCut)
  return isFields(value) && isFields(value.cut) && 'sha256' in value.cut
}

/** A limit names the rule that it stands in, which may have another number in other documents and is the same limit. */
const textOf = (value: unknown): string => {
  if (value === undefined) return ''
  return canonicalJson(Array.isArray(value) ? value.map((one) => (typeof one === 'string' ? one.replace(/ \([^()]*\)$/, '') : one)) : value)
}
