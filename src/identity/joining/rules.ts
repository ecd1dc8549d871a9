import { compileGlob, isGlob } from '../../encoding/glob.ts'
import type { Claims } from './method.ts'

/** What a document wants of one claim: a value, a pattern, or a list of them. */
export type ClaimRule = string | readonly string[]
/** All of it must hold. */
export type JoinRule = Readonly<Record<string, ClaimRule>>

/** Which claim kept a proof out, and of which rule. */
export interface Mismatch {
  readonly claim: string
  /** what the rule wants; for the record only */
  readonly wanted: ClaimRule
  readonly value: string | readonly string[] | undefined
}

/** A claim that is not there matches nothing, `*` included: a rule about it was written because it matters. */
export function claimMatches(value: string | readonly string[] | undefined, wanted: ClaimRule): boolean {
  if (value === undefined) return false
  const values = typeof value === 'string' ? [value] : value
  const rules = typeof wanted === 'string' ? [wanted] : wanted
  return rules.some((rule) => {
    const matches = isGlob(rule) ? compileGlob(rule) : (text: string) => text === rule
    return values.some(matches)
  })
}

/**
 * Whether one of the rules holds as a whole; else what kept it out of the rule that came nearest (the first, of several),
 * which is what its author most likely meant. Pure.
 */
export function matchRules(rules: readonly JoinRule[], claims: Claims): { readonly met: true } | { readonly met: false; readonly by: Mismatch } {
  let nearest: { readonly left: number; readonly by: Mismatch } | undefined
  for (const rule of rules) {
    const missed = Object.entries(rule).filter(([claim, wanted]) => !claimMatches(claimIn(claims, claim), wanted))
    const [first] = missed
    if (!first) return { met: true }
    const [claim, wanted] = first
    if (!nearest || missed.length < nearest.left) nearest = { left: missed.length, by: { claim, wanted, value: claimIn(claims, claim) } }
  }
  // No rule at all lets nobody in.
  return { met: false, by: nearest?.by ?? { claim: 'allow', wanted: [], value: undefined } }
}

/** `__proto__` is a name that anybody can write into a token. */
const claimIn = (claims: Claims, name: string) => (Object.hasOwn(claims, name) ? claims[name] : undefined)
