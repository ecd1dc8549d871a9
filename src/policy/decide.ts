import type { ReasonCode } from '../errors.ts'
import type { Policy } from './compile.ts'
import { FOR_EVER, type Judgement, judgeLink } from './judge.ts'
import { mostOf, NO_OBLIGATIONS } from './obligations.ts'
import { hintOfAsks, hintOfRefusal, isVisible, NOT_VISIBLE, refusalText } from './refusal.ts'
import { shadowOf } from './shadow.ts'
import type { Ask, Decision, Link, Question } from './types.ts'
import { waysOf } from './ways.ts'

/**
 * What may be done. Never throws: whatever goes wrong inside is `deny policy_error` (rule 1). Pure: the same policy and
 * question give the same decision.
 */
export function decide(policy: Policy, question: Question): Decision {
  try {
    const judgements = judgeChain(policy, question)
    if (judgements === undefined) return misunderstood(policy, question)
    const decision = conclude(policy, question, judgements)
    const shadow = policy.enforced && shadowOf(policy.enforced, question, decision.verdict)
    return shadow ? { ...decision, shadow } : decision
  } catch (error) {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error)
    return { ...refuse('policy_error', actingName(question), visibleOrNot(policy, question), 'Deciding failed, so it is refused.'), detail }
  }
}

/** Every link's own verdict; `undefined` when no rule may speak: the kind is unknown or the meaning is. */
export function judgeChain(policy: Policy, question: Question): readonly Judgement[] | undefined {
  const { action, links } = question
  if (links.length === 0) throw new Error('a question without an identity')
  if (action.effects.length === 0) throw new Error('an action without effects')
  if (action.resource.kind !== action.kind) throw new Error(`an action of kind ${action.kind} on a resource of kind ${action.resource.kind}`)
  const vocabulary = policy.vocabularies.get(action.kind)
  if (vocabulary === undefined || action.unclear !== undefined) return undefined
  return links.map((link) => judgeLink(policy, vocabulary, question, link))
}

function misunderstood(policy: Policy, question: Question): Decision {
  const { action, links } = question
  const name = links.at(-1)!.identity.name
  if (action.unclear === undefined) return refuse('no_rule', name, false, NOT_VISIBLE)
  const visible = isVisible(policy, question)
  return refuse('not_understood', name, visible, `What ${action.summary} does cannot be known for sure, so no rule can allow it: ${action.unclear}.`)
}

/** The tightest link decides; obligations of all links hold together; the permit ends with the shortest. */
export function conclude(policy: Policy, question: Question, judgements: readonly Judgement[]): Decision {
  const judged = tightest(judgements)
  const { verdict, rule } = judged
  const failures = judgements.flatMap((judgement) => judgement.failures)
  const detail = failures.length > 0 ? { detail: failures.join('; ') } : {}
  const ref = rule === undefined ? {} : { rule: rule.ref }
  const link = judged.link.identity.name
  if (verdict === 'deny') {
    const visible = isVisible(policy, question)
    const ways = visible ? waysOf(policy, question, judgements) : []
    const hint = visible ? hintOfRefusal(policy, question, judged, ways) : undefined
    return {
      ...refuse(judged.reason, link, visible, refusalText(question, judged)),
      ...ref,
      ...(hint === undefined ? {} : { hint }),
      ...(ways.length === 0 ? {} : { ways: ways.map(({ way }) => way) }),
      ...(judged.limit === undefined ? {} : { limit: limitOf(policy, question, judged) }),
      ...detail,
    }
  }
  let until = FOR_EVER
  let obligations = NO_OBLIGATIONS
  for (const judgement of judgements) {
    until = Math.min(until, judgement.until)
    obligations = mostOf(obligations, judgement.obligations, rule!.vocabulary)
  }
  const asks = verdict === 'ask' ? asksOf(judgements) : undefined
  const grant = judgements.findLast(({ grants }) => grants.length > 0)?.grants[0]
  return {
    verdict,
    reason: judged.reason,
    ...ref,
    link,
    obligations,
    ...(until === FOR_EVER ? {} : { until }),
    visible: true,
    message: asks ? refusalText(question, judged) : `Allowed by ${rule!.title}.`,
    ...(asks ? { hint: hintOfAsks(asks), asks } : {}),
    ...(grant ? { grant: grant.request } : {}),
    ...detail,
  }
}

const limitOf = (policy: Policy, question: Question, { link, limit }: Judgement): NonNullable<Decision['limit']> => ({
  link: link.identity.name,
  ...(link.delegationId === undefined ? {} : { delegation: link.delegationId }),
  part: limit!,
  ...(limit === 'effects' && standsAlone(policy, question, link) ? { alone: true } : {}),
})

/** Whether all the others, and this link without its `effects`, leave it: only then does it help to ask for more than reading. */
function standsAlone(policy: Policy, question: Question, limited: Link): boolean {
  const { effects: _effects, ...limits } = limited.limits ?? {}
  const links = question.links.map((link) => (link === limited ? { ...link, limits } : link))
  return judgeChain(policy, { ...question, links })?.every(({ verdict }) => verdict !== 'deny') === true
}

/** What each link, and each guardrail over it, wants a yes for. One yes never answers for another (rule 7). */
function asksOf(judgements: readonly Judgement[]): readonly Ask[] {
  return judgements.flatMap(({ link, asks }) =>
    asks.map(({ ref, asking }) => ({ rule: ref, link: link.identity.id, ...(asking ?? { approvers: undefined }) })),
  )
}

const TIGHTNESS: Readonly<Partial<Record<ReasonCode, number>>> = {
  allowed: 0,
  approval_required: 1,
  no_rule: 2,
  delegation_exceeded: 2.5,
  denied_by_rule: 3,
  denied_by_guardrail: 4,
}

/** Of equally tight links the one nearest to who acts. A link above that simply lacks a rule is the delegation's limit. */
function tightest(judgements: readonly Judgement[]): Judgement {
  const acting = judgements.at(-1)!
  let found = acting
  for (let i = judgements.length - 2; i >= 0; i--) {
    const judged = judgements[i]!
    if (TIGHTNESS[judged.reason]! > TIGHTNESS[found.reason]!) found = judged
  }
  return found !== acting && found.reason === 'no_rule' ? { ...found, reason: 'delegation_exceeded' } : found
}

function refuse(reason: ReasonCode, link: string, visible: boolean, message: string): Decision {
  return { verdict: 'deny', reason, link, obligations: NO_OBLIGATIONS, visible, message: visible ? message : NOT_VISIBLE }
}

/** After a failure nothing about the question is sure, not even its shape. */
function actingName(question: Partial<Question> | undefined): string {
  const link: Partial<Link> | undefined = Array.isArray(question?.links) ? question.links.at(-1) : undefined
  return String(link?.identity?.name ?? '')
}

function visibleOrNot(policy: Policy, question: Question): boolean {
  try {
    return isVisible(policy, question)
  } catch {
    // The same fault again: it is in the record already, and what cannot be judged is not shown.
    return false
  }
}
