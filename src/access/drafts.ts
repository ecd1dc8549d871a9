import type { Draft } from '../audit/record.ts'
import { actingIn } from '../identity/named.ts'
import type { LiveSession } from '../identity/types.ts'
import { shownObligations } from '../policy/limits.ts'
import { NOT_VISIBLE } from '../policy/refusal.ts'
import type { Action, Decision } from '../policy/types.ts'
import type { State, StateKeeper } from './state.ts'
import type { Admission } from './types.ts'

/** What the guard writes into the record about an action: who, what, as the rules read it, and what was decided. */
export type DraftOf = (type: Draft['type'], id: string, session: LiveSession, action: Action, decision: Decision, admission: Admission) => Draft

export function makeDrafts(state: Pick<StateKeeper, 'current'>): DraftOf {
  const nameOf = (id: string) => state.current().identity(id)?.name

  /** A refusal is recorded also when what it was about cannot be said, least of all when deciding itself has failed. */
  const recordedOf = (type: Draft['type'], action: Action) => {
    try {
      return state.current().policy.vocabularies.get(action.kind)?.recorded?.(action)
    } catch (error) {
      if (type !== 'action.refused') throw error
      return undefined
    }
  }

  return (type: Draft['type'], id: string, session: LiveSession, action: Action, decision: Decision, admission: Admission): Draft => {
    const recorded = recordedOf(type, action)
    const bodies = [...(admission.bodies ?? []), ...(recorded?.bodies ?? [])]
    return {
      type,
      id,
      ...actingIn(session, nameOf),
      ...(admission.connection ? { connection: admission.connection.id } : {}),
      ...(session.issuerId === undefined ? {} : { issuer: session.issuerId }),
      ...(session.purpose === undefined ? {} : { purpose: session.purpose }),
      ...(admission.trace === undefined ? {} : { trace: admission.trace }),
      action: {
        ...draftAction(action),
        ...definition(state.current(), action),
        ...(recorded ? { facts: recorded.facts } : {}),
        ...(action.unclear === undefined ? {} : { unclear: recorded?.unclear ?? action.unclear }),
        ...(action.via === undefined ? {} : { via: action.via }),
      },
      decision: {
        verdict: decision.verdict,
        reason: decision.reason,
        link: decision.link,
        obligations: shownObligations(decision.obligations),
        ...(decision.rule ? { rule: decision.rule } : {}),
        ...(decision.grant === undefined ? {} : { grant: decision.grant }),
        ...(decision.shadow ? { shadow: decision.shadow } : {}),
      },
      ...(bodies.length > 0 ? { bodies } : {}),
    }
  }
}

export const draftAction = (action: Action) => ({
  kind: action.kind,
  operation: action.operation,
  effects: action.effects,
  summary: action.summary,
  resource: { id: action.resource.id, name: action.resource.name, kind: action.resource.kind },
})

/** Under which definition of the tool it was asked for: a later reader must be able to tell which one the model had seen. */
export function definition({ pins }: State, { subject, resource }: Action): { readonly definition?: string } {
  const approved = subject && pins(resource.id).get(subject.kind, subject.name)?.approved
  return approved === undefined ? {} : { definition: approved }
}

/** The same answer as for what this identity may not see (rule 8). */
export const gone = (link: string): Decision => ({
  verdict: 'deny',
  reason: 'not_found',
  link,
  obligations: {},
  visible: false,
  message: NOT_VISIBLE,
})
