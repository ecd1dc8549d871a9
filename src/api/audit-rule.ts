import { readRecord } from '../audit/query.ts'
import { ChaperoneError, REASONS } from '../errors.ts'
import { proposeRule } from '../policy/propose.ts'
import { ruleTitle } from '../policy/rule-title.ts'
import type { Decision, Question } from '../policy/types.ts'
import type { AuditRule } from './audit-contract.ts'
import type { ApiParts } from './parts.ts'
import { actionIn, BY_RULES, documentsOf, linksOf, sessionOf } from './recorded-action.ts'

export interface RuleWish {
  readonly role?: string
  readonly guardrail?: string
}

/**
 * The rule that would have refused a recorded action, or allowed a refused one. The action is put together again from the
 * record and judged by the rules of today, with the draft among them, at the time and for the chain of the record.
 */
export async function ruleFor(parts: ApiParts, id: string, wish: RuleWish): Promise<AuditRule> {
  const found = await readRecord(parts.store.db, id)
  if (!found) throw new ChaperoneError('not_found', 'There is no such record.')
  const { envelope, outcome } = found
  const { type, action: recorded, decision } = envelope
  if ((type !== 'action.intent' && type !== 'action.refused') || !recorded)
    throw new ChaperoneError('usage', `${type} is no action that was allowed or refused.`, {
      fix: envelope.permit === undefined ? 'Name a record of type action.intent or action.refused.' : `Its action is ${envelope.permit}.`,
    })
  const want = type === 'action.intent' ? 'deny' : 'allow'
  const about = { record: id, want, action: `${recorded.summary} on ${recorded.kind}/${recorded.resource.name}` } as const
  const none = (message: string): AuditRule => ({ ...about, message })
  const unkept = outcome?.reason === 'obligation_unsupported'
  if (unkept) return none('It was allowed, and stopped because what the rule demands could not be kept for it: change what that rule demands.')
  if (want === 'allow' && decision && !BY_RULES.has(decision.reason))
    return none(`No rule made this refusal (${decision.reason}: ${lower(REASONS[decision.reason].meaning)}), and none would lift it.`)
  const action = actionIn(parts, found)
  if (typeof action === 'string') return none(action)
  const chain = await linksOf(parts, envelope)
  if (typeof chain === 'string') return none(chain)
  const question: Question = { links: chain, action, now: envelope.at, session: await sessionOf(parts, envelope) }
  const { now, draft, withDraft, message } = proposeRule(documentsOf(parts), parts.vocabularies, question, { want, ...wish })
  return { ...about, now: shown(now), ...(draft ? { draft } : {}), ...(withDraft ? { withDraft: shown(withDraft) } : {}), message }
}

const lower = (sentence: string) => sentence.charAt(0).toLowerCase() + sentence.slice(1).replace(/\.$/, '')

const shown = ({ verdict, reason, rule, obligations }: Decision) => ({
  verdict,
  reason,
  ...(rule ? { rule: ruleTitle(rule) } : {}),
  obligations,
})
