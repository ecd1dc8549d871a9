import { instantText } from '../encoding/moment.ts'
import { approversText, forUpTo, reasonText } from './approval.ts'
import type { Policy, Role } from './compile.ts'
import { type Judgement, ownRoles, rolesOf } from './judge.ts'
import { candidates, matches, scopeOf } from './match.ts'
import { narrowingOf } from './narrowing.ts'
import { limitInWords } from './narrowing-words.ts'
import type { Ask, Link, Question } from './types.ts'
import type { FoundWay } from './ways.ts'

/** What is said to whoever may not know that the resource exists: the same as for one that does not (rule 8). */
export const NOT_VISIBLE = 'There is no such resource, or it is not for you.'

/** Whether every link may see or ask for the resource: some rule of its roles that gives something is about it, and its delegation leaves it. */
export function isVisible(policy: Policy, question: Question): boolean {
  const { now, action } = question
  return question.links.every(
    (link) =>
      (link.limits === undefined || narrowingOf(link.limits).reaches(action.resource, policy.vocabularies.get(action.kind))) &&
      rolesOf(policy, link, now, action.resource.id).some((role) => shows(policy, role, question, link)),
  )
}

/** Outside its hours a role gives nothing, but its holder may know what it is for. */
function shows(policy: Policy, role: Role, question: Question, link: Link): boolean {
  if (gives(role, question, link)) return true
  return role.requests.some((request) => {
    const wanted = policy.roles.get(request.role)
    return wanted !== undefined && gives(wanted, question, link)
  })
}

function gives(role: Role, question: Question, link: Link): boolean {
  const { action } = question
  const table = role.kinds.get(action.kind)
  if (!table) return false
  const { variables } = scopeOf(question, link)
  const name = action.resource.name
  return [...candidates(table.allow, name), ...candidates(table.ask, name)].some((rule) => rule.selector.selects(action.resource, variables))
}

/** One sentence on why not, for somebody who may see the resource. */
export function refusalText(question: Question, judged: Judgement): string {
  const { action, links } = question
  const what = action.summary
  const { name } = judged.link.identity
  const because = judged.rule?.reason === undefined || judged.verdict === 'ask' ? '' : `: ${judged.rule.reason}`
  switch (judged.reason) {
    case 'denied_by_rule':
    case 'denied_by_guardrail':
      return `${what} on ${action.resource.name} is refused to ${name} by ${judged.rule?.title}${because}.`.replace(/\.\.$/, '.')
    case 'approval_required':
      return `${what} on ${action.resource.name} needs approval (${judged.rule?.title}).`
    case 'delegation_exceeded':
      if (judged.limit !== undefined) return beyondLimits(question, judged)
      return `${what} on ${action.resource.name} is refused: ${links.at(-1)?.identity.name} acts for ${name}, and no role of ${name} allows it.`
    default:
      return `No role of ${name} allows ${what} on ${action.resource.name}.`
  }
}

function beyondLimits({ action, links }: Question, { link, limit }: Judgement): string {
  const above = links[links.indexOf(link) - 1]
  const acting = link.identity.name
  const whose = above ? `${acting} acts for ${above.identity.name}, who leaves it` : `the delegation leaves ${acting}`
  return `${action.summary} on ${action.resource.name} is refused: ${whose} ${limitInWords(link.limits ?? {}, limit!)}.`
}

/** Who can say yes to each of the questions. */
export function hintOfAsks(asks: readonly Ask[]): string {
  const who = [
    ...new Set(
      asks.map(({ approvers }) =>
        approvers === 'owner' ? `${approversText(approvers)} can confirm it` : `${approversText(approvers)} can approve it`,
      ),
    ),
  ]
  return `${capital(who.join(', and '))}${who.length > 1 ? '; each of them has to' : ''}.`
}

/** How to come to a yes: what may be asked for, when it is allowed again. Nothing when there is no way. */
export function hintOfRefusal(policy: Policy, question: Question, judged: Judgement, ways: readonly FoundWay[]): string | undefined {
  if ((judged.reason !== 'no_rule' && judged.reason !== 'delegation_exceeded') || judged.limit !== undefined) return undefined
  if (ways.length > 0) return ways.slice(0, MOST_SAID).map(wayText).join(' ')
  for (const role of ownRoles(policy, judged.link)) {
    const state = role.when?.at(question.now)
    if (state?.active === false && state.until !== undefined && wouldGive(role, question, judged.link)) {
      return `Role ${role.name} gives it again from ${instantText(state.until)}.`
    }
  }
  return undefined
}

/** More sentences than this help nobody; all of them are in the decision. */
const MOST_SAID = 3

/** Whether the role alone, in its hours, would allow or ask. */
function wouldGive(role: Role, question: Question, link: Link): boolean {
  const table = role.kinds.get(question.action.kind)
  if (!table) return false
  const scope = scopeOf(question, link)
  const name = question.action.resource.name
  if (candidates(table.deny, name).some((rule) => matches(rule, scope) !== false)) return false
  return [...candidates(table.allow, name), ...candidates(table.ask, name)].some((rule) => matches(rule, scope) === true)
}

function wayText({ way, entry, link }: FoundWay): string {
  const { name } = link.identity
  const who = entry.approvers === undefined ? '' : `; ${approversText(entry.approvers)} can approve it`
  const what = entry.named ? `role ${entry.role} on this resource` : `role ${entry.role}`
  const below = way.below ? `, and for those who act for ${name}` : ''
  return `${name} may ask for ${what}${forUpTo(entry.maxMs)}${reasonText(entry.reason)}${below}${who}.`
}

const capital = (sentence: string) => sentence.charAt(0).toUpperCase() + sentence.slice(1)
