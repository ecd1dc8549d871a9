import type { AuditLog, Draft } from '../audit/record.ts'
import { Bag } from '../bag.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { lockFor, sessionsOf } from '../identity/locks.ts'
import { actingIn } from '../identity/named.ts'
import type { Connection, LiveSession } from '../identity/types.ts'
import { newId } from '../ids.ts'
import { decide } from '../policy/decide.ts'
import { demandsOf } from '../policy/demands.ts'
import type { Action, Decision, Question } from '../policy/types.ts'
import type { Lease } from '../store/lease.ts'
import { type Approval, changed, type Judged, makeApprovals } from './approvals.ts'
import type { Budgets } from './budgets.ts'
import { draftAction, gone, makeDrafts } from './drafts.ts'
import { makeMeter, type Taken } from './meter.ts'
import { type Cuttable, OpenPermit } from './open-permit.ts'
import { whyQuarantined } from './quarantine.ts'
import type { Calls } from './requests/calls.ts'
import type { State, StateKeeper } from './state.ts'
import { type Admission, type Guard, type Outcome, type Permit, Refusal } from './types.ts'

interface GuardParts {
  readonly state: StateKeeper
  readonly lease: Pick<Lease, 'ensure'>
  readonly audit: Pick<AuditLog, 'append' | 'claim'>
  readonly clock: Clock
  /** Absent: what a rule wants asked is refused. */
  readonly calls?: Calls
  /** Absent: a rule with a budget allows nothing. */
  readonly budgets?: Budgets
  /** An outcome could not be recorded, or a budget not given back: the operator must know (metrics, log). The next intent will fail by itself. */
  readonly outcomeLost: (error: unknown) => void
}

/**
 * The whole product on one page.
 *
 *   admit    is this node up to date? is the session live? what does policy say? has a human said yes to exactly this?
 *            is it within its limits? the intent is on disk, and with it the approval used up; and all of it still holds;
 *            then, and only then, there is a permit
 *   settle   what came of it is recorded
 *   review   when the epoch rises (a lock, a revoked role), every permit that is out is judged again and cut where it no longer holds;
 *            and the questions that need no answer any more are taken back
 */
export function makeGuard({ state, lease, audit, clock, calls, budgets, outcomeLost }: GuardParts): Guard & {
  review(): void
  reviewQuestions(): void
  readonly open: number
  underWay(): Action[]
  has(permit: string): boolean
} {
  const open = new Bag<OpenPermit>()
  const meter = makeMeter({ clock, budgets, failed: outcomeLost })
  /**
   * On the connection itself: each bearer request has one of its own, and a WeakMap of them is emptied only by a full collection,
   * after it has been copied larger and larger.
   */
  const hanging = Symbol('what hangs on it')
  type Hung = Connection & { [hanging]?: Bag<Cuttable> }

  /** One listener a connection: one a permit, added and taken away again, was 3 of the 119 us of a SQL statement. */
  const whenCut = (connection: Hung, cuttable: Cuttable): (() => void) => {
    let all = connection[hanging]
    if (!all) {
      const those = new Bag<Cuttable>()
      connection.onCut?.((why) => {
        for (const each of those) each.sayGoodbye(why)
      })
      const cutAll = () => {
        for (const each of those) each.cut(connection.signal.reason)
      }
      connection.signal.addEventListener('abort', cutAll, { once: true })
      connection[hanging] = those
      all = those
    }
    const hung = all
    const at = hung.add(cuttable)
    return () => void hung.delete(at, cuttable)
  }

  const questionIn = (current: State, session: LiveSession, asked: Action): Question | undefined => {
    const now = clock.now()
    const links = asked.kind === 'chaperone' ? current.administering(session.principal.chain, now) : current.links(session.principal.chain, now)
    const action = asOf(current, asked)
    if (!action) return undefined
    const { id, startedAt, how, purpose } = session
    return { links, action, now, session: { id, startedAt, how, ...(purpose === undefined ? {} : { purpose }) } }
  }

  const judgeIn = (current: State, session: LiveSession, asked: Action, credentialId?: string): Decision => {
    const question = questionIn(current, session, asked)
    if (!question) return gone(session.principal.name)
    const { links, action, now } = question
    const decision = decide(current.policy, question)
    const lock = lockFor(current.locks, {
      now,
      ...sessionsOf(session),
      links,
      ...(credentialId === undefined ? {} : { credentialId }),
      ...(action.kind === 'chaperone' ? {} : { resourceId: action.resource.id }),
      ...(action.subject?.kind === 'tool' ? { tool: action.subject.name } : {}),
    })
    // A lock on a resource or its tool tells nobody that it exists who could not see it (rule 8).
    if (lock) {
      // No approver lifts it.
      const { hint, ...rest } = decision
      return {
        ...rest,
        verdict: 'deny',
        reason: 'locked',
        message: `A lock stops this: ${lock.reason}`,
        visible: decision.visible || (lock.target_kind !== 'resource' && lock.target_kind !== 'tool'),
      }
    }
    const quarantined = decision.verdict === 'deny' ? undefined : whyQuarantined(current, action)
    if (quarantined !== undefined) {
      // Neither a rule nor an approver stands in the way.
      const { hint, rule, ...rest } = decision
      return { ...rest, verdict: 'deny', reason: 'quarantined', message: quarantined }
    }
    return decision
  }

  const judge = (session: LiveSession, action: Action, credentialId?: string) => {
    session.assertLive()
    return judgeIn(state.current(), session, action, credentialId)
  }

  /** A session that ended, or a link that is gone, is a refusal like any other: it is recorded, with the reason that is thrown. */
  const judgeOrWhyNot = (session: LiveSession, action: Action, { connection }: Admission): Judged => {
    try {
      // Asked, not only listened for: on a machine that slept, the timer of a deadline is late (rule 4).
      connection?.assertOpen()
      return { decision: judge(session, action, connection?.credentialId) }
    } catch (thrown) {
      const why = toChaperoneError(thrown)
      return { decision: { ...gone(session.principal.name), reason: why.code, message: why.message }, why }
    }
  }

  /** Counts what is allowed, or approved, against its limits. What cannot be counted is refused (rule 1). */
  const withinLimits = async (judged: Judged, action: Action): Promise<Judged & { readonly taken?: Taken }> => {
    const { decision, approval } = judged
    if (decision.verdict !== 'allow' && !approval) return judged
    try {
      const vocabulary = state.current().policy.vocabularies.get(action.kind)
      const metered = await meter.take(decision, action, vocabulary?.item?.(action) ?? '')
      return approval && metered.decision === decision ? { ...metered, approval } : metered
    } catch (thrown) {
      const why = toChaperoneError(thrown)
      return { decision: { ...decision, verdict: 'deny', reason: why.code, message: why.message }, why }
    }
  }

  const nameOf = (id: string) => state.current().identity(id)?.name
  const draftOf = makeDrafts(state)
  const approvals = makeApprovals({ state, audit, calls, judgeOrWhyNot, judgeIn, draftOf, clock, failed: outcomeLost })
  const { answered, holds, stillSaid, questions } = approvals

  const permitFor = (
    id: string,
    session: LiveSession,
    action: Action,
    decision: Decision,
    admission: Admission,
    taken: Taken | undefined,
    approval: Approval | undefined,
  ): Permit => {
    const permit = new OpenPermit({ id, session, action, decision, approval, taken, goodbye: admission.cut, failed: outcomeLost })
    const unhook = admission.connection && whenCut(admission.connection, permit)
    const forget =
      decision.until === undefined
        ? undefined
        : clock.at(decision.until, () => permit.cut(new ChaperoneError('no_rule', 'The time in which the rule allows this is over.')))
    permit.putInto(open, unhook, forget)
    return permit as unknown as Permit
  }

  return {
    judge: (session, action) => judge(session, action),

    demands(session, action, name) {
      session.assertLive()
      const current = state.current()
      const question = questionIn(current, session, action)
      return question ? demandsOf(current.policy, question, name) : []
    },

    async admit(session, action, admission = {}) {
      session.touch?.()
      await lease.ensure()
      let judgedIn = state.current()
      const id = newId('per', clock.now())
      let judged = judgeOrWhyNot(session, action, admission)
      if (judged.decision.verdict === 'ask') ({ judgedIn, ...judged } = await answered(id, session, action, judged.decision, admission))
      if (judged.parked) throw new Refusal(judged.decision, id, judged.parked)
      const { decision, why, taken, approval } = await withinLimits(judged, action)
      if (decision.verdict !== 'allow' && !approval) {
        await audit.append(draftOf('action.refused', id, session, action, decision, admission))
        throw why ?? new Refusal(decision, id)
      }
      let used = false
      try {
        const intent = draftOf('action.intent', id, session, action, decision, admission)
        if (approval?.follows) await audit.append({ ...intent, request: approval.request })
        else if (approval) used = await useUp(approval, intent)
        else await audit.append(intent)
        // Much may have happened while the intent was being written. The lease may have run out, and then others no longer
        // wait for us; a lock may have come, and what was judged under an older epoch is judged again.
        await lease.ensure().catch(abandon)
        const said = approval !== undefined && (await stillSaid(approval, judgedIn).catch(abandon)) ? approval : undefined
        const still = state.current() === judgedIn ? { decision } : judgeOrWhyNot(session, action, admission)
        if (!holds(still.decision, session, action, said)) {
          const refused = approval && still.decision.verdict === 'ask' ? changed(still.decision) : still.decision
          const { reason } = refused
          await audit.append({ type: 'action.outcome', permit: id, session: session.id, outcome: { status: 'refused', reason } })
          throw still.why ?? new Refusal(refused, id)
        }
        try {
          admission.connection?.assertOpen()
          session.assertLive()
        } catch (error) {
          return abandon(error)
        }
        const { known } = admission.asking ?? {}
        if (!approval && known !== undefined) calls?.notNeeded(session.principal.identityId, known, 'no longer needed: a role allows it')
        return permitFor(id, session, action, still.decision, admission, taken, approval)
      } catch (error) {
        taken?.undo()
        // It was one use, and it is gone: a second one would need a second yes.
        if (used && approval) calls?.settled(approval.request, id, 'refused')
        throw error
      }

      function abandon(why: unknown): never {
        const reason = why instanceof ChaperoneError ? why.code : 'internal'
        audit.append({ type: 'action.outcome', permit: id, session: session.id, outcome: { status: 'refused', reason } }).catch(outcomeLost)
        throw why
      }

      /** The approval and the intent in one transaction: of two who come with the same yes, one has it (rule 12). */
      async function useUp({ request, digest, continues }: Approval, intent: Draft): Promise<true> {
        try {
          await audit.claim({ ...intent, request }, { request, digest, permit: id, ...(continues === undefined ? {} : { continues }) })
        } catch (error) {
          if (!(error instanceof ChaperoneError) || error.code !== 'approval_used') throw error
          const refused = { ...decision, verdict: 'deny', reason: error.code, message: error.message } as const
          await audit.append({ ...draftOf('action.refused', id, session, action, refused, admission), request })
          throw new Refusal(refused, id)
        }
        calls?.used(request)
        return true
      }
    },

    settle(permit: Permit, outcome: Outcome) {
      const mine: unknown = permit
      if (!(mine instanceof OpenPermit) || !mine.takeOut(open)) return
      if (mine.approval && !mine.approval.follows) calls?.settled(mine.approval.request, permit.id, outcome.status)
      const { actor } = actingIn(mine.session, nameOf)
      audit
        .append(
          {
            type: 'action.outcome',
            permit: permit.id,
            actor,
            session: mine.session.id,
            action: draftAction(permit.action),
            outcome: { status: outcome.status, ...outcome.facts },
            ...(outcome.bodies ? { bodies: outcome.bodies } : {}),
          },
          'later',
        )
        .catch(outcomeLost)
    },

    review() {
      const over: { readonly one: OpenPermit; readonly why: ChaperoneError }[] = []
      for (const one of open) {
        // Cut with its connection, and not settled yet.
        if (one.ended) continue
        const { action, session, approval } = one
        const why = whyNot(
          () => judge(session, action),
          (decision) => holds(decision, session, action, approval),
        )
        if (why) over.push({ one, why })
      }
      for (const { one, why } of over) one.sayGoodbye(why)
      for (const { one, why } of over) one.cut(why)
    },

    reviewQuestions: () => questions.review(),

    has: (id) => [...open].some((one) => one.id === id),

    get open() {
      return open.size
    },

    underWay: () => [...open].map(({ action }) => action),
  }
}

/**
 * The action on its resource as it is now: a connection or stream was opened on what has other labels today, and its rules
 * speak of those. Undefined when the resource is gone, or its name is another one's now.
 */
function asOf(current: State, action: Action): Action | undefined {
  if (action.kind === 'chaperone') return action
  const resource = current.find(action.kind, action.resource.name)?.resource
  if (resource === action.resource) return action
  return resource?.id === action.resource.id ? { ...action, resource } : undefined
}

/** The error that ends a permit whose action would not be allowed now, or undefined. */
function whyNot(judgeAgain: () => Decision, holds: (decision: Decision) => boolean): ChaperoneError | undefined {
  try {
    const decision = judgeAgain()
    return holds(decision) ? undefined : new ChaperoneError(decision.reason, decision.message)
  } catch (error) {
    return error instanceof ChaperoneError ? error : new ChaperoneError('policy_error', 'Judging again failed.', { cause: error })
  }
}
