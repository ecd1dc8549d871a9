import { inReadingOrder } from './reading-order.ts'
import type { RuleSpec } from './rule.ts'
import type { Section } from './types.ts'

const VERB: Readonly<Record<Section, string>> = { allow: 'may use', ask: 'may use, once a human has said yes,', deny: 'may not use' }

/** How it is asked and what is kept to is said after what it is about. */
const AFTER = new Set(['where', 'reason', 'approvers', 'expires', 'escalate', 'limits', 'shadow'])

/**
 * A rule as one sentence, for somebody who does not write rules: `may use mcp files: tools read_*, list_*; only where ...`.
 * All that the rule says stands in it, in the words of its vocabulary. Pure.
 */
export function ruleWords(rule: RuleSpec, section: Section, kinds: readonly string[]): string {
  const kind = kinds.find((one) => Object.hasOwn(rule, one)) ?? Object.keys(rule)[0] ?? ''
  const { [kind]: about, ...rest } = rule
  const parts = Object.entries(inReadingOrder(rest))
  const what = parts
    .filter(([key]) => !AFTER.has(key))
    .map(([key, value]) => `${key === 'can' ? '' : `${key.replaceAll('_', ' ')} `}${textOf(value)}`)
  const after = parts
    .filter(([key]) => AFTER.has(key))
    .map(([key, value]) => (key === 'shadow' ? 'tried out only, it decides nothing' : `${key === 'where' ? 'only where' : key} ${textOf(value)}`))
  return [
    `${VERB[section]} ${about === 'any' ? `all of ${kind}` : `${kind} ${textOf(about)}`}${what.length > 0 ? `: ${what.join(', ')}` : ''}`,
    ...after,
  ].join('; ')
}

function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.map(textOf).join(', ')
  if (typeof value !== 'object' || value === null) return String(value)
  return Object.entries(value)
    .map(([key, one]) => `${key} ${textOf(one)}`)
    .join(', ')
}
