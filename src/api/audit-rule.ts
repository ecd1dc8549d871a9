import { type RecordDetail, readRecord } from '../audit/query.ts'
import type { Envelope } from '../audit/record.ts'
import { ChaperoneError, REASONS, type ReasonCode, toChaperoneError } from '../errors.ts'
import { findIdentity } from '../identity/directory.ts'
import type { ChainLink } from '../identity/types.ts'
import { proposeRule } from '../policy/propose.ts'
import type { Action, Decision, Effect, Link, Question } from '../policy/types.ts'
import type { AuditRule } from './audit-contract.ts'
import { chainOf } from './explain.ts'
import type { ApiParts } from './parts.ts'

export interface RuleWish {
  readonly role?: string
  readonly guardrail?: string
}

/** Refusals that roles and guardrails made; behind any other stands something that no rule changes. */
const BY_RULES = new Set<ReasonCode>([
  'no_rule',
  'denied_by_rule',
  'denied_by_guardrail',
  'delegation_exceeded',
  'approval_required',
  'approval_unavailable',
  'not_understood',
  'policy_error',
])

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
  ...(rule ? { rule: `${rule.kind} ${rule.document}, ${rule.section} rule ${rule.index + 1}` } : {}),
  obligations,
})

/** The action as it was judged, on the resource as it is now; or why it cannot be had. */
function actionIn({ state, chaperone }: ApiParts, { envelope, bodies }: RecordDetail): Action | string {
  const { kind, operation, effects, summary, via, facts = {}, unclear, resource: named } = envelope.action!
  const current = state.current()
  const resource = named.id === chaperone.id ? chaperone : current.list(kind).find(({ resource }) => resource.id === named.id)?.resource
  if (!resource) return `${kind}/${named.name} is not there any more, so nothing about it can be judged.`
  const whole = new Set((envelope.bodies ?? []).flatMap(({ name, cut, masked }) => (cut || masked ? [] : [name])))
  const texts = new Map(bodies.flatMap(({ name, bytes }) => (bytes && whole.has(name) ? [[name, Buffer.from(bytes).toString()] as const] : [])))
  // A name that was masked is another one, and would be judged as such.
  const isWhole = !JSON.stringify(facts).includes('[masked:')
  const recalled = isWhole && current.policy.vocabularies.get(kind)?.recalled?.({ operation, facts, texts })
  if (!recalled && unclear === undefined)
    return 'The record does not hold all that rules read of this action (it is older than that, or was cut, masked or erased), so it cannot be judged again.'
  return {
    kind,
    operation,
    effects: effects as readonly Effect[],
    summary,
    resource,
    facts: recalled || {},
    ...(via === undefined ? {} : { via }),
    ...(unclear === undefined ? {} : { unclear }),
  }
}

/** The chain of the record with the roles of today; a delegation that has ended since is taken as the one that holds now. */
async function linksOf(parts: ApiParts, { chain, actor, at, action }: Envelope): Promise<readonly Link[] | string> {
  const recorded = (chain ?? (actor ? [actor] : [])).map(
    ({ id, delegation }: { readonly id: string; readonly delegation?: string }): ChainLink =>
      delegation === undefined ? { identity: id } : { identity: id, delegation },
  )
  const linksIn = (links: readonly ChainLink[], now: number) =>
    action?.kind === 'chaperone' ? parts.state.current().administering(links, now) : parts.state.current().links(links, now)
  if (recorded.length === 0) return 'The record does not say who acted.'
  try {
    await parts.state.see(recorded)
    return linksIn(recorded, at)
  } catch {
    // Ended or disabled since: asked once more as it is now, which says what is in the way.
  }
  try {
    const now = await findIdentity(parts.store.db, { id: recorded.at(-1)!.identity })
    const again = await chainOf(parts, now?.name ?? '')
    return linksIn(again, parts.clock.now())
  } catch (error) {
    return `It cannot be judged again as whoever acted: ${toChaperoneError(error).message}`
  }
}

async function sessionOf({ store }: ApiParts, { session = '', at, purpose }: Envelope): Promise<Question['session']> {
  const row = await store.db.selectFrom('sessions').select(['started_at', 'how']).where('id', '=', session).executeTakeFirst()
  return { id: session, startedAt: row?.started_at ?? at, how: row?.how ?? 'login', ...(purpose === undefined ? {} : { purpose }) }
}

function documentsOf({ state }: ApiParts) {
  const specs = (kind: string) =>
    state
      .current()
      .list(kind)
      .map(({ resource, spec }) => ({ name: resource.name, spec }))
  return { roles: specs('role'), guardrails: specs('guardrail') }
}
