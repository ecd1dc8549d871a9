import { stringify } from 'yaml'
import type { Policy, RuleList } from './compile.ts'
import { conclude, decide, judgeChain } from './decide.ts'
import { emptyTally, type Judgement, judgeRole, leaves } from './judge.ts'
import { matches, type Scope, scopeOf, whereOf } from './match.ts'
import type { LimitPart } from './narrowing.ts'
import { limitsInWords } from './narrowing-words.ts'
import { inReadingOrder } from './reading-order.ts'
import type { Rule } from './rule.ts'
import type { Decision, Link, Question, Verdict } from './types.ts'

/** What one rule said, and which part of it did not fit: `for`, `resource`, `where`, or one of the vocabulary's fields. */
export interface RuleSaid {
  readonly title: string
  readonly section: Rule['ref']['section']
  readonly said: 'matches' | 'does not match' | 'failed'
  readonly part?: string
  readonly rule: Rule
  /** it decides nothing */
  readonly shadow?: true
}

export interface RoleSaid {
  readonly name: string
  readonly state: 'counts' | 'outside its hours' | 'left out by the delegation' | 'does not exist' | 'over' | 'given for another resource'
  /** absent: it says nothing about this action */
  readonly verdict?: Verdict
  readonly rules: readonly RuleSaid[]
  /** It was given for a while: by which request, until when (ms since 1970), and whether for one resource alone. */
  readonly grant?: { readonly request: string; readonly until: number; readonly resourceId?: string }
}

export interface LinkSaid {
  readonly name: string
  readonly verdict: Verdict
  readonly reason: Decision['reason']
  /** title of the rule that decided on this link */
  readonly rule?: string
  readonly roles: readonly RoleSaid[]
  readonly guardrails: readonly RuleSaid[]
  /** What the delegation leaves to this link, and the part of it that stands in the way. */
  readonly limits?: { readonly words: readonly string[]; readonly exceeded?: LimitPart }
}

/** Why a decision is as it is. For whoever may read policy: it names everything, seen or not. */
export interface Explanation {
  readonly decision: Decision
  readonly links: readonly LinkSaid[]
  /** the rule that decided, else the one that came nearest, else what a rule would have to say; as YAML */
  readonly ruleText?: string
  /** for a refusal: what would have to be otherwise, in one sentence */
  readonly missing?: string
  /** the grant without which it would be less */
  readonly grant?: { readonly request: string; readonly role: string; readonly link: string; readonly until: number }
}

/** Never throws where {@link decide} does not. */
export function explain(policy: Policy, question: Question): Explanation {
  const decision = decide(policy, question)
  // What could not be judged at all has no rules to show.
  if (decision.reason === 'policy_error') return { decision, links: [], missing: 'Deciding itself failed; the log has the reason.' }
  const judgements = judgeChain(policy, question)
  if (!judgements) return { decision, links: [], missing: withoutRules(policy, question) }
  const links = judgements.map((judged) => explainLink(policy, question, judged))
  const concluded = conclude(policy, question, judgements)
  const deciding = judgements.findLast(({ link, rule }) => link.identity.name === concluded.link && rule !== undefined)?.rule
  const rested = judgements.findLast(({ grants }) => grants.length > 0)
  const by = rested?.grants[0]
  const grant =
    decision.grant !== undefined && rested && by
      ? { grant: { request: by.request, role: by.role, link: rested.link.identity.name, until: by.until } }
      : {}
  if (decision.verdict === 'allow') return { decision, links, ...(deciding ? { ruleText: textOf(deciding) } : {}), ...grant }
  if (decision.limit) return { decision, links, missing: beyond(decision.limit), ...grant }
  const lacking = links.findLast((link) => link.name === decision.link) ?? links.at(-1)!
  if (deciding) return { decision, links, ruleText: textOf(deciding), missing: overruled(decision, deciding), ...grant }
  return { decision, links, ...nearest(question, policy, lacking) }
}

function explainLink(policy: Policy, question: Question, judged: Judgement): LinkSaid {
  const { link } = judged
  // Rules in the shadow are shown with the others, so what is listed comes from the policy in which they stand.
  const all = policy.enforced ?? policy
  const guards = all.guardrails.get(question.action.kind)
  return {
    name: link.identity.name,
    verdict: judged.verdict,
    reason: judged.reason,
    ...(judged.rule ? { rule: judged.rule.title } : {}),
    roles: [
      ...link.identity.roles.map((name) => explainRole(policy, name, question, link)),
      ...(link.grants ?? []).map(({ role, request, until, resourceId }): RoleSaid => {
        const said = explainRole(policy, role, question, link)
        const grant = { request, until, ...(resourceId === undefined ? {} : { resourceId }) }
        if (said.state !== 'counts') return { ...said, grant }
        if (until <= question.now) return { name: role, state: 'over', rules: [], grant }
        if (resourceId !== undefined && resourceId !== question.action.resource.id)
          return { name: role, state: 'given for another resource', rules: [], grant }
        return { ...said, grant }
      }),
    ],
    ...(link.limits ? { limits: { words: limitsInWords(link.limits), ...(judged.limit ? { exceeded: judged.limit } : {}) } } : {}),
    guardrails: guards ? ruleLists(guards).map((rule) => saidBy(rule, scopeOf(question, link))) : [],
  }
}

function explainRole(policy: Policy, name: string, question: Question, link: Link): RoleSaid {
  const role = policy.roles.get(name)
  if (!role) return { name, state: 'does not exist', rules: [] }
  const scope = scopeOf(question, link)
  const tallies = { allow: emptyTally(), ask: emptyTally(), deny: emptyTally() }
  judgeRole(role, scope, tallies)
  const verdict = (['deny', 'ask', 'allow'] as const).find((each) => tallies[each].rule)
  const table = (policy.enforced ?? policy).roles.get(name)?.kinds.get(question.action.kind)
  // It gives nothing, and what it denies stays denied.
  if (!leaves(link, name)) {
    const rules = table ? table.deny.all.map((rule) => saidBy(rule, scope)) : []
    return { name, state: 'left out by the delegation', ...(tallies.deny.rule ? { verdict: 'deny' as const } : {}), rules }
  }
  return {
    name,
    state: role.when?.at(question.now).active === false ? 'outside its hours' : 'counts',
    ...(verdict ? { verdict } : {}),
    rules: table ? ruleLists(table).map((rule) => saidBy(rule, scope)) : [],
  }
}

const ruleLists = (table: Readonly<Record<string, RuleList>>) => Object.values(table).flatMap((list) => list.all)

function saidBy(rule: Rule, scope: Scope): RuleSaid {
  const found = matches(rule, scope)
  const about = { title: rule.title, section: rule.ref.section, rule, ...(rule.shadow ? { shadow: true as const } : {}) }
  if (found === true) return { ...about, said: 'matches' }
  const part = failingPart(rule, scope)
  return { ...about, said: found === false ? 'does not match' : 'failed', ...(part === undefined ? {} : { part }) }
}

/** Asks for one part of the rule after the other; the first that is not true, or throws, is the one to name. */
function failingPart(rule: Rule, scope: Scope): string | undefined {
  const { action } = scope.question
  const holds = (test: () => boolean) => {
    try {
      return test()
    } catch {
      // `matches` has already noted the failure; here only its place is looked for.
      return false
    }
  }
  if (rule.holds && !holds(() => rule.holds!(scope.variables.identity, scope.variables))) return 'for'
  if (!holds(() => rule.selector.selects(action.resource, scope.variables))) return 'resource'
  if (!holds(() => rule.matches(action, scope.variables))) return fieldOf(rule, scope) ?? 'the fields together'
  if (rule.where && !holds(() => rule.where!.test(whereOf(rule, scope)))) return 'where'
  return undefined
}

/** The vocabulary answers for all fields at once, so each is compiled alone: what is left out then means everything. */
function fieldOf(rule: Rule, scope: Scope): string | undefined {
  const section = rule.ref.kind === 'guardrail' || rule.ref.section === 'limit' ? 'deny' : rule.ref.section
  return Object.keys(rule.vocabulary.fields.shape).find((key) => {
    if (!Object.hasOwn(rule.spec, key) || Object.hasOwn(rule.vocabulary.obligations, key)) return false
    try {
      return !rule.vocabulary.compile({ [key]: rule.spec[key] }, section)(scope.question.action, scope.variables)
    } catch {
      // This field cannot stand alone, or it is the one that fails; the caller names them together.
      return false
    }
  })
}

function withoutRules(policy: Policy, { action }: Question): string {
  if (!policy.vocabularies.has(action.kind)) return `Nothing here speaks ${action.kind}, so nothing of it can be allowed.`
  return `No rule can allow it, because what it does cannot be known for sure: ${action.unclear}.`
}

function overruled(decision: Decision, rule: Rule): string {
  if (decision.verdict === 'ask') return `${rule.title} wants a human to say yes first.`
  if (decision.reason === 'denied_by_guardrail') return `${rule.title} refuses it to everybody whom it holds; no role can allow it.`
  return `${rule.title} refuses it; as long as it does, no other role can allow it.`
}

const beyond = ({ link, part }: NonNullable<Decision['limit']>) =>
  `The delegation by which ${link} acts does not leave it (\`${part}\`); no role, grant or approval widens that, only another delegation.`

const PARTS = ['resource', 'where']

const gives = (rule: RuleSaid) => rule.section !== 'deny' && !rule.shadow

/** The allow or ask rule of which most fits, or what such a rule would look like. */
function nearest(question: Question, policy: Policy, link: LinkSaid): { missing: string; ruleText: string } {
  const { action } = question
  const matching = (role: RoleSaid) => role.rules.find((rule) => gives(rule) && rule.said === 'matches')
  const closed = link.roles.find((role) => role.state === 'outside its hours' && matching(role))
  if (closed) return { missing: `Role ${closed.name} would give it, but these are not its hours.`, ruleText: textOf(matching(closed)!.rule) }
  const giving = link.roles.flatMap((role) => (role.state === 'counts' ? role.rules : [])).filter(gives)
  const rank = ({ part }: RuleSaid) => (part === 'resource' ? 0 : part === 'where' ? 2 : 1)
  const near = giving.toSorted((a, b) => rank(b) - rank(a)).find((rule) => rank(rule) > 0)
  if (near) {
    const part = near.part !== undefined && PARTS.includes(near.part) ? `its \`${near.part}\`` : `\`${near.part}\``
    const how = near.said === 'failed' ? 'fails on this action' : 'does not fit this action'
    return { missing: `${near.title} comes nearest, but ${part} ${how}.`, ruleText: textOf(near.rule) }
  }
  const left = link.roles.filter((role) => role.state !== 'counts')
  const aside = left.length > 0 ? ` (${left.map((role) => `${role.name}: ${role.state}`).join(', ')})` : ''
  const what = policy.vocabularies.get(action.kind)?.what[0]
  return {
    missing: `No rule of ${link.name}'s roles gives anything on ${action.kind} ${action.resource.name}${aside}.`,
    ruleText: stringify([{ [action.kind]: action.resource.name, ...(what === undefined ? {} : { [what]: ['...'] }) }]).trim(),
  }
}

/** The rule as it could stand in its document. */
export function textOf(rule: Rule): string {
  const { [rule.vocabulary.kind]: about, ...rest } = rule.spec
  return stringify([{ [rule.vocabulary.kind]: about, ...inReadingOrder(rest) }]).trim()
}
