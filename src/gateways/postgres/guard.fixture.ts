import { type Admission, type Guard, type Outcome, type Parked, type Permit, Refusal } from '../../access/types.ts'
import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import { compilePolicy } from '../../policy/compile.ts'
import { decide } from '../../policy/decide.ts'
import { demandsOf } from '../../policy/demands.ts'
import type { Action, Decision } from '../../policy/types.ts'
import { memoryRequests } from './asking.fixture.ts'
import { postgresVocabulary } from './rules.ts'

export interface Recorded {
  readonly kind: 'intent' | 'refused'
  readonly id: string
  readonly action: Action
  readonly decision: Decision
  readonly bodies: Readonly<Record<string, string>>
  outcome?: Outcome
}

/** A role that every identity has for a while. */
export interface Given {
  readonly spec: Record<string, unknown>
  /** ms since 1970 */
  readonly until: number
}

export interface MemoryRules {
  readonly roles: readonly Record<string, unknown>[]
  readonly guardrails: readonly Record<string, unknown>[]
  readonly granted: readonly Given[]
}

/** Real decisions over these rules; every identity holds all roles. */
export function memoryGuard(rules: () => MemoryRules) {
  const records: Recorded[] = []
  const open = new Map<string, { permit: Permit; controller: AbortController; record: Recorded }>()
  const approvals = memoryRequests()
  let number = 0
  const gate = { wait: undefined as Promise<void> | undefined }
  const compile = ({ roles, guardrails, granted }: MemoryRules) =>
    compilePolicy(
      {
        roles: [...roles.map((spec, i) => ({ name: `role${i}`, spec })), ...granted.map(({ spec }, i) => ({ name: `granted${i}`, spec }))],
        guardrails: guardrails.map((spec, i) => ({ name: `rail${i}`, spec })),
      },
      [postgresVocabulary],
    )
  let compiled = { ...rules(), policy: compile(rules()) }
  const questionOf = (session: LiveSession, action: Action) => {
    const now = rules()
    if (compiled.roles !== now.roles || compiled.guardrails !== now.guardrails || compiled.granted !== now.granted)
      compiled = { ...now, policy: compile(now) }
    const identity = {
      id: session.principal.identityId,
      kind: 'agent' as const,
      name: session.principal.name,
      traits: {},
      roles: now.roles.map((_, i) => `role${i}`),
    }
    const grants = now.granted.map(({ until }, i) => ({ role: `granted${i}`, request: `req_granted${i}`, until }))
    return { links: [{ identity, grants }], session: { id: session.id, startedAt: 0, how: 'test' }, action, now: Date.now() }
  }
  const judge = (session: LiveSession, action: Action): Decision => {
    const question = questionOf(session, action)
    return decide(compiled.policy, question)
  }
  const guard: Guard = {
    judge,
    demands(session, action, name) {
      const question = questionOf(session, action)
      return demandsOf(compiled.policy, question, name)
    },
    async admit(session, action, admission: Admission = {}) {
      await gate.wait
      let decision = judge(session, action)
      let parked: Parked | undefined
      if (decision.verdict === 'ask') {
        const { asking } = admission
        const deny = (reason: Decision['reason'], message: string): Decision => ({ ...decision, verdict: 'deny', reason, message })
        if (!asking || asking.cannot !== undefined) decision = deny('approval_unavailable', `${decision.message} ${asking?.cannot ?? ''}`)
        else {
          const answer = approvals.answered(session.principal.identityId, await asking.call())
          if ('parked' in answer) parked = answer.parked
          else if ('denied' in answer) decision = deny('approval_denied', `It was refused: ${answer.denied}`)
          else decision = answer.use() ? { ...decision, verdict: 'allow' } : deny('approval_used', 'It was used already.')
        }
      }
      const bodies = Object.fromEntries((admission.bodies ?? []).map((body) => [body.name, Buffer.from(body.bytes as string).toString()]))
      const record: Recorded = { kind: decision.verdict === 'allow' ? 'intent' : 'refused', id: `per_${++number}`, action, decision, bodies }
      records.push(record)
      if (decision.verdict !== 'allow') throw new Refusal(decision, record.id, parked)
      const controller = new AbortController()
      controller.signal.addEventListener('abort', () => admission.cut?.(controller.signal.reason))
      const permit = { id: record.id, action, decision, obligations: decision.obligations, signal: controller.signal } as Permit
      open.set(permit.id, { permit, controller, record })
      return permit
    },
    settle(permit, outcome) {
      const mine = open.get(permit.id)
      if (!mine) return
      open.delete(permit.id)
      mine.record.outcome = outcome
    },
  }
  /** What the real guard does at the minute of a grant: what rests on it is cut, the newest first or last. */
  const endGranted = (newestFirst: boolean) => {
    const over = [...open.values()].filter(({ permit }) => permit.decision.until !== undefined)
    for (const { controller } of newestFirst ? over.reverse() : over)
      controller.abort(new ChaperoneError('no_rule', 'The time in which the rule allows this is over.'))
  }
  return { guard, records, open, gate, approvals, endGranted }
}

/** Says yes to the question whether anything could be written, and only to that. */
export const unpinning = (guard: Guard, users: readonly string[]): Guard => ({
  ...guard,
  judge(session, action) {
    const decision = guard.judge(session, action)
    return action.facts.probe === true && users.includes(String(action.facts.user)) ? { ...decision, verdict: 'allow' } : decision
  },
})
