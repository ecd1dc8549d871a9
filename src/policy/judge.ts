import { canonicalJson } from '../encoding/canonical-json.ts'
import type { ReasonCode } from '../errors.ts'
import type { Policy, Role, RuleList } from './compile.ts'
import { candidates, matches, opensWay, type Scope, scopeOf } from './match.ts'
import { type LimitPart, type Narrowing, narrowingOf } from './narrowing.ts'
import { boundTo, leastOf, mostOf, NO_OBLIGATIONS } from './obligations.ts'
import type { Rule } from './rule.ts'
import type { GrantedRole, Link, Obligations, Question, Verdict, Vocabulary } from './types.ts'
import { whereScope } from './where.ts'
import { LIMITS_UNITS } from './where-meter.ts'

/** What one link of the chain may do, judged with its own identity. */
export interface Judgement {
  readonly link: Link
  readonly verdict: Verdict
  readonly reason: ReasonCode
  readonly rule: Rule | undefined
  readonly obligations: Obligations
  readonly until: number
  /** On `ask`: every rule that wants a yes, its role's first. */
  readonly asks: readonly Rule[]
  /** What it rests on besides the identity's own roles; the first is the one to name. */
  readonly grants: readonly GrantedRole[]
  readonly failures: readonly string[]
  /** The part of its delegation's limits that does not leave it; then nothing else was asked. */
  readonly limit?: LimitPart
}

export const FOR_EVER = Number.POSITIVE_INFINITY
const NO_FAILURES: readonly string[] = []
const NO_RULES: readonly Rule[] = []
const NO_GRANTS: readonly GrantedRole[] = []

/** Whether the delegation of this link leaves the role to it. */
export const leaves = (link: Link, role: string): boolean => link.limits?.roles?.includes(role) !== false

/** The identity's own roles that count on a link and exist. A role that was deleted gives nothing. */
export function ownRoles(policy: Policy, link: Link): Role[] {
  const roles: Role[] = []
  for (const name of link.identity.roles) {
    if (!leaves(link, name)) continue
    const role = policy.roles.get(name)
    if (role) roles.push(role)
  }
  return roles
}

/**
 * The granted roles that count on a link now, for this resource: those that are not over, that exist, and that the delegation
 * does not leave out. Each once: of two grants of one role the one that lasts longer.
 */
export function grantsOf(policy: Policy, link: Link, now: number, resourceId: string): readonly GrantedRole[] {
  if (link.grants === undefined || link.grants.length === 0) return NO_GRANTS
  const found = new Map<string, GrantedRole>()
  for (const grant of link.grants) {
    if (grant.until <= now || (grant.resourceId !== undefined && grant.resourceId !== resourceId)) continue
    if (!leaves(link, grant.role) || !policy.roles.has(grant.role)) continue
    const known = found.get(grant.role)
    if (!known || grant.until > known.until || (grant.until === known.until && grant.request < known.request)) found.set(grant.role, grant)
  }
  return [...found.values()].sort((a, b) => (a.role < b.role ? -1 : 1))
}

/** Every role that counts on a link for this resource: its own, and those it was given for a while. */
export function rolesOf(policy: Policy, link: Link, now: number, resourceId: string): Role[] {
  const own = ownRoles(policy, link)
  for (const { role } of grantsOf(policy, link, now, resourceId)) {
    const granted = policy.roles.get(role)!
    if (!own.includes(granted)) own.push(granted)
  }
  return own
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
  if (ask.rule === undefined && allow.rule === undefined) addWayIn(allow, candidates(table.ask, name), scope)
  if (ask.rule) join(tallies.ask, ask, edge)
  else if (allow.rule) join(tallies.allow, allow, edge)
}

/** Where only a human's yes allows something, its holder must still be able to connect. */
function addWayIn(allow: Tally, asks: readonly Rule[], scope: Scope): void {
  const { action } = scope.question
  for (const rule of asks) {
    if (rule.vocabulary.opens?.(action) !== true || !opensWay(rule, scope)) continue
    allow.rule = rule
    allow.obligations = rule.obligations ?? NO_OBLIGATIONS
    return
  }
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

/**
 * One link, by its own roles; and once more with those it was given for a while, where that gives more. So a grant never takes
 * away, and what did not need it does not end with it.
 */
export function judgeLink(policy: Policy, vocabulary: Vocabulary, question: Question, link: Link): Judgement {
  if (link.limits === undefined) return judgeFreely(policy, vocabulary, question, link)
  // Asked before any rule: what a delegation does not leave, no role, no grant and no approver gives (rule 7).
  const limit = exceeded(narrowingOf(link.limits), vocabulary, question, link)
  if (limit !== undefined) return { ...NOTHING, link, limit, reason: 'delegation_exceeded' }
  const judged = judgeFreely(policy, vocabulary, question, link)
  if (judged.reason !== 'no_rule' || link.limits.roles === undefined) return judged
  const { roles, ...rest } = link.limits
  // Only to say why: it stays refused.
  const before = judgeFreely(policy, vocabulary, question, { ...link, limits: rest })
  return before.verdict === 'deny' ? judged : { ...judged, limit: 'roles', reason: 'delegation_exceeded' }
}

const NOTHING = {
  verdict: 'deny',
  rule: undefined,
  obligations: NO_OBLIGATIONS,
  until: FOR_EVER,
  asks: NO_RULES,
  grants: NO_GRANTS,
  failures: NO_FAILURES,
} as const

function exceeded(narrowing: Narrowing, vocabulary: Vocabulary, question: Question, link: Link): LimitPart | undefined {
  return narrowing.excludes(question.action, vocabulary, () =>
    whereScope(question, link.identity, vocabulary.variables?.(question.action) ?? {}, LIMITS_UNITS),
  )
}

function judgeFreely(policy: Policy, vocabulary: Vocabulary, question: Question, link: Link): Judgement {
  const own = judgeWith(policy, vocabulary, question, link, NO_GRANTS)
  // What an own role or a guardrail over the identity denies is not to be had by asking for another role.
  if (link.grants === undefined || own.reason === 'denied_by_rule') return own
  const grants = grantsOf(policy, link, question.now, question.action.resource.id)
  if (grants.length === 0) return own
  const granted = judgeWith(policy, vocabulary, question, link, grants)
  return gives(granted, own, vocabulary) ? granted : own
}

const ORDER: Readonly<Record<Verdict, number>> = { deny: 0, ask: 1, allow: 2 }

/** Whether `a` gives more than `b`: a better verdict, or the same one with fewer demands. */
function gives(a: Judgement, b: Judgement, vocabulary: Vocabulary): boolean {
  if (a.verdict !== b.verdict) return ORDER[a.verdict] > ORDER[b.verdict]
  // Neither gives: then it is told why what was granted does not help.
  if (a.verdict === 'deny') return a.reason === 'denied_by_guardrail' && b.reason === 'no_rule'
  if (b.obligations === NO_OBLIGATIONS) return false
  const [less, more] = [canonicalJson(a.obligations), canonicalJson(b.obligations)]
  return less !== more && canonicalJson(mostOf(b.obligations, a.obligations, vocabulary)) === more
}

function judgeWith(policy: Policy, vocabulary: Vocabulary, question: Question, link: Link, grants: readonly GrantedRole[]): Judgement {
  const scope = scopeOf(question, link)
  const tallies = { allow: emptyTally(), ask: emptyTally(), deny: emptyTally() }
  for (const role of ownRoles(policy, link)) judgeRole(role, scope, tallies)
  if (link.limits?.roles !== undefined && tallies.deny.rule === undefined) judgeLeftOut(policy, link, scope, tallies)
  const given = grants.length === 0 ? undefined : judgeGrants(policy, grants, scope, tallies)
  let verdict: Verdict = tallies.deny.rule ? 'deny' : tallies.allow.rule ? 'allow' : tallies.ask.rule ? 'ask' : 'deny'
  let { rule, obligations } = tallies[verdict]
  const until = verdict === 'deny' ? FOR_EVER : tallies[verdict].until
  let reason: ReasonCode = verdict === 'allow' ? 'allowed' : verdict === 'ask' ? 'approval_required' : rule ? 'denied_by_rule' : 'no_rule'
  let asks: readonly Rule[] = verdict === 'ask' ? [rule!] : NO_RULES
  const used = (verdict !== 'deny' && given?.[verdict]) || NO_GRANTS

  const guards = policy.guardrails.get(question.action.kind)
  if (guards !== undefined) {
    const name = question.action.resource.name
    const held = used.length === 0 ? scope : withRoles(scope, link, used)
    const refusing = first(candidates(guards.deny, name), held)
    if (refusing) {
      verdict = 'deny'
      reason = 'denied_by_guardrail'
      rule = refusing
    } else if (verdict !== 'deny') {
      const asking = tighten(guards.ask, name, held)
      if (asking.rule !== undefined) {
        verdict = 'ask'
        reason = 'approval_required'
        rule = asking.rule
        asks = [...asks, ...asking.rules]
      }
      const limits = tighten(guards.limit, name, held)
      obligations = mostOf(mostOf(obligations, asking.obligations, vocabulary), limits.obligations, vocabulary)
    }
    if (held !== scope && held.failures) scope.failures = held.failures
  }
  if (verdict === 'ask' && vocabulary.unasked?.(question.action)) {
    verdict = 'allow'
    reason = 'allowed'
    asks = NO_RULES
  }
  const denied = verdict === 'deny'
  obligations = denied ? NO_OBLIGATIONS : boundTo(link.identity, obligations, vocabulary)
  return {
    link,
    verdict,
    reason,
    rule,
    obligations,
    until: denied ? FOR_EVER : until,
    asks: denied ? NO_RULES : asks,
    grants: denied ? NO_GRANTS : used,
    failures: scope.failures ?? NO_FAILURES,
  }
}

/** A role that the delegation leaves out gives nothing, and what it denies stays denied: less must never be more (rule 7). */
function judgeLeftOut(policy: Policy, link: Link, scope: Scope, tallies: Record<Verdict, Tally>): void {
  const { action } = scope.question
  for (const name of link.identity.roles) {
    if (leaves(link, name)) continue
    const role = policy.roles.get(name)
    const deny = role?.kinds.get(action.kind)?.deny
    if (role && deny) judgeRole({ ...role, kinds: new Map([[action.kind, { allow: NO_LIST, ask: NO_LIST, deny }]]) }, scope, tallies)
  }
}

const NO_LIST: RuleList = { byName: new Map(), others: NO_RULES, all: NO_RULES }

/**
 * Adds what granted roles say, until they end; and which of them gave something. What such a role denies limits itself alone:
 * the identity could as well not have asked for it.
 */
function judgeGrants(
  policy: Policy,
  grants: readonly GrantedRole[],
  scope: Scope,
  tallies: Record<Verdict, Tally>,
): Record<'allow' | 'ask', GrantedRole[]> {
  const gave: Record<'allow' | 'ask', GrantedRole[]> = { allow: [], ask: [] }
  for (const grant of grants) {
    const said = { allow: emptyTally(), ask: emptyTally(), deny: emptyTally() }
    judgeRole(policy.roles.get(grant.role)!, scope, said)
    for (const verdict of ['allow', 'ask'] as const) {
      if (said[verdict].rule === undefined) continue
      join(tallies[verdict], said[verdict], Math.min(said[verdict].until, grant.until))
      gave[verdict].push(grant)
    }
  }
  return gave
}

/** Guardrails over holders of a role hold those too who were given it for a while, in what they do with it. */
function withRoles(scope: Scope, link: Link, grants: readonly GrantedRole[]): Scope {
  const identity = { ...link.identity, roles: [...link.identity.roles, ...grants.map(({ role }) => role)] }
  return { ...scopeOf(scope.question, { ...link, identity }), failures: scope.failures }
}

/** Everything that the matching rules of guardrails add. */
function tighten(list: RuleList, name: string, scope: Scope): Tally & { readonly rules: readonly Rule[] } {
  const tally = { ...emptyTally(), rules: [] as Rule[] }
  for (const rule of candidates(list, name)) {
    if (matches(rule, scope) === false) continue
    tally.rule ??= rule
    tally.rules.push(rule)
    tally.obligations = mostOf(tally.obligations, rule.obligations ?? NO_OBLIGATIONS, rule.vocabulary)
  }
  return tally
}
