import type { ReasonCode } from '../errors.ts'
import type { Policy, Role, RuleList } from './compile.ts'
import { candidates, matches, type Scope, scopeOf } from './match.ts'
import { boundTo, leastOf, mostOf, NO_OBLIGATIONS } from './obligations.ts'
import type { Rule } from './rule.ts'
import type { Link, Obligations, Question, Verdict, Vocabulary } from './types.ts'

/** What one link of the chain may do, judged with its own identity. */
export interface Judgement {
  readonly link: Link
  readonly verdict: Verdict
  readonly reason: ReasonCode
  readonly rule: Rule | undefined
  readonly obligations: Obligations
  readonly until: number
  readonly failures: readonly string[]
}

export const FOR_EVER = Number.POSITIVE_INFINITY
const NO_FAILURES: readonly string[] = []

/** The roles of a link that count and exist. A role that was deleted gives nothing. */
export function rolesOf(policy: Policy, link: Link): Role[] {
  const roles: Role[] = []
  for (const name of link.identity.roles) {
    if (link.onlyRoles !== undefined && !link.onlyRoles.includes(name)) continue
    const role = policy.roles.get(name)
    if (role) roles.push(role)
  }
  return roles
}

/** What the rules of one verdict came to, so far. */
export interface Tally {
  rule: Rule | undefined
  obligations: Obligations
  until: number
}

/** Adds what one role says: deny, else ask, else allow, else nothing. */
export function judgeRole(role: Role, scope: Scope, tallies: Record<Verdict, Tally>): void {
  const { action, now } = scope.question
  const table = role.kinds.get(action.kind)
  if (table === undefined) return
  const name = action.resource.name
  const state = role.when?.at(now)
  const edge = state?.until ?? FOR_EVER
  if (state?.active === false) {
    // It says nothing now, but when its hours begin its deny ends what another role allowed.
    if (first(candidates(table.deny, name), scope)) tallies.allow.until = tallies.ask.until = Math.min(tallies.allow.until, tallies.ask.until, edge)
    return
  }
  const denied = first(candidates(table.deny, name), scope)
  if (denied) {
    tallies.deny.rule = earlier(tallies.deny.rule, denied)
    return
  }
  const ask = emptyTally()
  const doubt = add(ask, candidates(table.ask, name), scope)
  const allow = emptyTally()
  if (ask.rule === undefined) add(allow, candidates(table.allow, name), scope)
  // An ask that failed grants nothing, but it may be the exception to the allow beside it: that allow does not stand alone.
  if (ask.rule === undefined && allow.rule !== undefined && doubt !== undefined) {
    ask.rule = doubt
    ask.obligations = mostOf(allow.obligations, doubt.obligations ?? NO_OBLIGATIONS, doubt.vocabulary)
  }
  if (ask.rule) join(tallies.ask, ask, edge)
  else if (allow.rule) join(tallies.allow, allow, edge)
}

export const emptyTally = (): Tally => ({ rule: undefined, obligations: NO_OBLIGATIONS, until: FOR_EVER })

/** The first rule that matches or fails: for sections in which a match can only tighten. */
function first(rules: readonly Rule[], scope: Scope): Rule | undefined {
  for (const rule of rules) if (matches(rule, scope) !== false) return rule
  return undefined
}

/** Adds the matching rules. Returns the first that failed. */
function add(tally: Tally, rules: readonly Rule[], scope: Scope): Rule | undefined {
  let failed: Rule | undefined
  for (const rule of rules) {
    const found = matches(rule, scope)
    if (found === undefined) failed ??= rule
    if (found !== true) continue
    const demands = rule.obligations ?? NO_OBLIGATIONS
    tally.obligations = tally.rule === undefined ? demands : leastOf(tally.obligations, demands, rule.vocabulary)
    tally.rule ??= rule
    // Nothing binds less than nothing, and the rest of this list could only unbind.
    if (rule.obligations === undefined) break
  }
  return failed
}

function join(into: Tally, from: Tally, edge: number): void {
  const rule = from.rule!
  into.obligations = into.rule === undefined ? from.obligations : leastOf(into.obligations, from.obligations, rule.vocabulary)
  into.rule = earlier(into.rule, rule)
  into.until = Math.min(into.until, edge)
}

/** Which of two rules is named: by document and place, so that the order of an identity's roles shows nowhere. */
function earlier(a: Rule | undefined, b: Rule): Rule {
  if (a === undefined) return b
  if (a.ref.document !== b.ref.document) return a.ref.document < b.ref.document ? a : b
  return a.ref.index <= b.ref.index ? a : b
}

export function judgeLink(policy: Policy, vocabulary: Vocabulary, question: Question, link: Link): Judgement {
  const scope = scopeOf(question, link)
  const tallies = { allow: emptyTally(), ask: emptyTally(), deny: emptyTally() }
  for (const role of rolesOf(policy, link)) judgeRole(role, scope, tallies)
  let verdict: Verdict = tallies.deny.rule ? 'deny' : tallies.allow.rule ? 'allow' : tallies.ask.rule ? 'ask' : 'deny'
  let { rule, obligations } = tallies[verdict]
  const until = verdict === 'deny' ? FOR_EVER : tallies[verdict].until
  let reason: ReasonCode = verdict === 'allow' ? 'allowed' : verdict === 'ask' ? 'approval_required' : rule ? 'denied_by_rule' : 'no_rule'

  const guards = policy.guardrails.get(question.action.kind)
  if (guards !== undefined) {
    const name = question.action.resource.name
    const refusing = first(candidates(guards.deny, name), scope)
    if (refusing) {
      verdict = 'deny'
      reason = 'denied_by_guardrail'
      rule = refusing
    } else if (verdict !== 'deny') {
      const asking = tighten(guards.ask, name, scope)
      if (asking.rule !== undefined) {
        verdict = 'ask'
        reason = 'approval_required'
        rule = asking.rule
      }
      const limits = tighten(guards.limit, name, scope)
      obligations = mostOf(mostOf(obligations, asking.obligations, vocabulary), limits.obligations, vocabulary)
    }
  }
  obligations = verdict === 'deny' ? NO_OBLIGATIONS : boundTo(link.identity, obligations, vocabulary)
  return { link, verdict, reason, rule, obligations, until, failures: scope.failures ?? NO_FAILURES }
}

/** Everything that the matching rules of guardrails add. */
function tighten(list: RuleList, name: string, scope: Scope): Tally {
  const tally = emptyTally()
  for (const rule of candidates(list, name)) {
    if (matches(rule, scope) === false) continue
    tally.rule ??= rule
    tally.obligations = mostOf(tally.obligations, rule.obligations ?? NO_OBLIGATIONS, rule.vocabulary)
  }
  return tally
}
