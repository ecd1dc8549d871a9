import { formatDuration, parseDuration } from '../encoding/duration.ts'
import type { Policy, Role } from './compile.ts'
import { type Judgement, rolesOf } from './judge.ts'
import { candidates, matches, scopeOf } from './match.ts'
import type { RequestSpec } from './role.ts'
import type { Approvers } from './rule.ts'
import type { Link, Question } from './types.ts'

/** What is said to whoever may not know that the resource exists: the same as for one that does not (rule 8). */
export const NOT_VISIBLE = 'There is no such resource, or it is not for you.'

/** Whether every link may see or ask for the resource: some rule of its roles that gives something is about it. */
export function isVisible(policy: Policy, question: Question): boolean {
  return question.links.every((link) => rolesOf(policy, link).some((role) => shows(policy, role, question, link)))
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
      return `${what} on ${action.resource.name} is refused: ${links.at(-1)?.identity.name} acts for ${name}, and no role of ${name} allows it.`
    default:
      return `No role of ${name} allows ${what} on ${action.resource.name}.`
  }
}

/** How to come to a yes: who approves, what may be asked for, when it is allowed again. Nothing when there is no way. */
export function hintFor(policy: Policy, question: Question, judged: Judgement): string | undefined {
  if (judged.verdict === 'ask') return capital(`${approversText(judged.rule?.approvers)} can approve it.`)
  if (judged.reason !== 'no_rule' && judged.reason !== 'delegation_exceeded') return undefined
  const roles = rolesOf(policy, judged.link)
  for (const role of roles) {
    for (const request of role.requests) {
      const wanted = policy.roles.get(request.role)
      if (wanted && wouldGive(wanted, question, judged.link)) return requestText(judged.link, request)
    }
  }
  for (const role of roles) {
    const state = role.when?.at(question.now)
    if (state?.active === false && state.until !== undefined && wouldGive(role, question, judged.link)) {
      return `Role ${role.name} gives it again from ${new Date(state.until).toISOString()}.`
    }
  }
  return undefined
}

/** Whether the role alone, in its hours, would allow or ask. */
function wouldGive(role: Role, question: Question, link: Link): boolean {
  const table = role.kinds.get(question.action.kind)
  if (!table) return false
  const scope = scopeOf(question, link)
  const name = question.action.resource.name
  if (candidates(table.deny, name).some((rule) => matches(rule, scope) !== false)) return false
  return [...candidates(table.allow, name), ...candidates(table.ask, name)].some((rule) => matches(rule, scope) === true)
}

function requestText(link: Link, request: RequestSpec): string {
  const time = request.max === undefined ? '' : ` for up to ${formatDuration(parseDuration(request.max))}`
  const why = request.reason === 'required' ? ', with a reason' : ''
  const who = request.approvers === undefined ? '' : `; ${approversText(request.approvers)} can approve it`
  return `${link.identity.name} may ask for role ${request.role}${time}${why}${who}.`
}

function approversText(approvers: Approvers | undefined): string {
  if (approvers === undefined) return 'an approver'
  if (approvers === 'owner') return 'the person behind the agent'
  return `a holder of role ${typeof approvers.role === 'string' ? approvers.role : approvers.role.join(' or ')}`
}

const capital = (sentence: string) => sentence.charAt(0).toUpperCase() + sentence.slice(1)
