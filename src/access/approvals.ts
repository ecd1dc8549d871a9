import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import { NOT_VISIBLE } from '../policy/refusal.ts'
import type { Action, Decision } from '../policy/types.ts'
import { makeBuckets, type Rate } from './buckets.ts'
import { type DraftOf, definition } from './drafts.ts'
import { keepQuestions } from './questions.ts'
import { digestOf, resourceDigest, sha256 } from './requests/binding.ts'
import type { Calls } from './requests/calls.ts'
import type { State, StateKeeper } from './state.ts'
import type { Admission, Asking, Parked } from './types.ts'

/** `why` is thrown when there is more to a refusal than its decision. */
export interface Judged {
  readonly decision: Decision
  readonly why?: ChaperoneError
  /** Set when the verdict is `ask` and somebody said yes. */
  readonly approval?: Approval
  /** Set when the verdict is `ask` and nobody has answered yet: that is recorded. */
  readonly parked?: Parked
}

/** The yes that a permit rests on. */
export interface Approval {
  readonly request: string
  readonly digest: string
  /** sha256 of what the gateway bound: the rest of the digest is made again from what holds then */
  readonly bound: string
  /** the permit that used it up before, of which this is a further round (`Asking.continues`) */
  readonly continues?: string
  /** The digests of the rules that asked, where the action only follows the call up (`Asking.follows`) and uses nothing. */
  readonly follows?: ReadonlySet<string>
}

interface ApprovalsParts {
  readonly state: Pick<StateKeeper, 'current'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly calls: Calls | undefined
  readonly judgeOrWhyNot: (session: LiveSession, action: Action, admission: Admission) => Judged
  readonly draftOf: DraftOf
  /** The same whether or not the session goes on; throws where a link of its chain is gone. */
  readonly judgeIn: (current: State, session: LiveSession, action: Action) => Decision
  readonly clock: Clock
  readonly failed: (error: unknown) => void
}

/**
 * How often an identity may send what waits for an answer already. Each try is a record; and who holds 25 calls, each asked for
 * again every 20 s, stays below it.
 */
export const RETRIES: Rate = { most: 120, window: 60_000 }

/** What a human said about an action, and whether that still holds: the part of the guard that is about `ask`. */
export function makeApprovals({ state, audit, calls, judgeOrWhyNot, judgeIn, draftOf, clock, failed }: ApprovalsParts) {
  const retries = makeBuckets(clock)
  const questions = keepQuestions({
    clock,
    judge: (session, action) => judgeIn(state.current(), session, action),
    digestOf: ({ session, action, bound }, decision) => digestIn(state.current(), session, action, decision, bound),
    takeBack: ({ session, request }, why) => calls?.notNeeded(session.principal.identityId, request, why),
    failed,
  })

  const digestIn = (current: State, session: LiveSession, action: Action, decision: Decision, bound: string): string => {
    // Chaperone itself is in no document.
    const found = action.kind === 'chaperone' ? { resource: action.resource, spec: null } : current.find(action.kind, action.resource.name)
    if (found?.resource.id !== action.resource.id) throw new ChaperoneError('not_found', NOT_VISIBLE)
    const { identityId, chain } = session.principal
    const resource = resourceDigest(found.resource.labels, found.spec)
    return digestOf({ identityId, chain, action, resource, definition: definition(current, action).definition, bound }, decision)
  }

  /** Allowed, or asked about and answered with yes, as everything is now. */
  const holds = (decision: Decision, session: LiveSession, action: Action, approval: Approval | undefined): boolean =>
    decision.verdict === 'allow' ||
    (decision.verdict === 'ask' &&
      approval !== undefined &&
      (approval.follows
        ? (decision.asks ?? []).every(({ rule }) => approval.follows?.has(rule.digest))
        : digestIn(state.current(), session, action, decision, approval.bound) === approval.digest))

  /**
   * Whether whoever said yes still may: he may have been locked after his vote was read. Again for each change that comes
   * meanwhile, so that after the answer nothing has changed since. A further round rests on a yes that was used.
   */
  const stillSaid = async ({ request, continues, follows }: Approval, judgedIn: State): Promise<boolean> => {
    if (continues !== undefined || follows) return true
    for (let seen = judgedIn; seen !== state.current(); ) {
      seen = state.current()
      if (!(await calls?.stillSaid(request))) return false
    }
    return true
  }

  /** What a human said about exactly this call; who was not asked yet is asked now. */
  const answered = async (
    id: string,
    session: LiveSession,
    action: Action,
    decision: Decision,
    admission: Admission,
  ): Promise<Judged & { readonly judgedIn: State }> => {
    const { asking } = admission
    let judgedIn = state.current()
    const before = asking?.continues ?? asking?.follows
    if (!calls || !asking || (asking.cannot !== undefined && before === undefined)) {
      const message = asking?.cannot === undefined ? decision.message : `${decision.message} ${asking.cannot}`
      return { judgedIn, decision: { ...decision, verdict: 'deny', reason: 'approval_unavailable', message } }
    }
    try {
      if (before !== undefined) return await goneOn(calls, asking, before, session, action, admission)
      const call = await asking.call()
      // That may have taken a while (an estimate is the database's): only what holds now is asked about.
      judgedIn = state.current()
      const now = judgeOrWhyNot(session, action, admission)
      if (now.decision.verdict !== 'ask') return { judgedIn, ...now }
      const bound = sha256(call.bound)
      const digest = digestIn(judgedIn, session, action, now.decision, bound)
      const record = async (request: string, again: boolean) => {
        if (again) assertMayRetry(session)
        await audit.append({ ...draftOf('action.asked', id, session, action, now.decision, admission), request })
      }
      const answer = await calls.answer({ session, action, decision: now.decision, call, digest, record, known: asking.known })
      if ('parked' in answer) {
        const { request, expiresAt } = answer.parked
        questions.remember({ request, session, action, bound, digest, size: call.bound.length, expiresAt })
        return { judgedIn, decision: now.decision, parked: answer.parked }
      }
      questions.forget('approved' in answer ? answer.approved.id : answer.denied.id)
      if ('approved' in answer) return { judgedIn, decision: now.decision, approval: { request: answer.approved.id, digest, bound } }
      const said = answer.denied.votes.find((vote) => vote.verdict === 'deny')?.reason
      const message = `${action.summary} on ${action.resource.name} was asked for and refused${said ? `: ${said}` : '.'}`
      return { judgedIn, decision: { ...now.decision, verdict: 'deny', reason: 'approval_denied', message } }
    } catch (thrown) {
      if (thrown instanceof TooOften) return { judgedIn, decision: { ...decision, verdict: 'deny', ...thrown.said } }
      const why = toChaperoneError(thrown)
      return { judgedIn, decision: { ...decision, verdict: 'deny', reason: why.code, message: why.message }, why }
    }
  }

  const assertMayRetry = ({ principal: { identityId } }: LiveSession): void => {
    const wait = retries.wait(identityId, 'retries', RETRIES)
    if (wait > 0) throw new TooOften(Math.ceil(wait / 1000))
    retries.take(identityId, 'retries', RETRIES)
  }

  /** A further round of a call that a human allowed, or what became of it: under the same approval, if it is the same still. */
  const goneOn = async (
    calls: Calls,
    asking: Asking,
    before: string,
    session: LiveSession,
    action: Action,
    admission: Admission,
  ): Promise<Judged & { readonly judgedIn: State }> => {
    const ran = await calls.ranUnder(session, before)
    const bound = sha256((await asking.call()).bound)
    const judgedIn = state.current()
    const now = judgeOrWhyNot(session, action, admission)
    if (now.decision.verdict !== 'ask') return { judgedIn, ...now }
    const follows = asking.continues === undefined && ran?.kind === 'call' && new Set(ran.body.rules.map((rule) => rule.digest))
    const of = { digest: ran?.digest ?? '', bound, ...(follows ? { follows } : { continues: before }) }
    const approval =
      ran?.kind === 'call' && (follows ? ran.body.resource.id === action.resource.id : ran.state === 'used') ? { request: ran.id, ...of } : undefined
    if (holds(now.decision, session, action, approval)) return { judgedIn, decision: now.decision, ...(approval ? { approval } : {}) }
    const message = `${asking.cannot ?? ''} No approval covers it.`.trim()
    return { judgedIn, decision: { ...now.decision, verdict: 'deny', reason: 'approval_unavailable', message } }
  }

  return { answered, holds, stillSaid, questions }
}

/** What waits for an answer is asked for again and again. */
class TooOften extends Error {
  readonly said: Pick<Decision, 'reason' | 'message' | 'retryAfter'>

  constructor(retryAfter: number) {
    super('asked for again too often')
    const most = `${RETRIES.most} times in ${RETRIES.window / 60_000} minute`
    this.said = {
      reason: 'rate_limited',
      message: `A human was asked, and has not answered; what waits is asked for again more than ${most}. Try again in ${retryAfter} seconds.`,
      retryAfter,
    }
  }
}

/** An approval that is there, of something that is not the same any more. */
export const changed = (decision: Decision): Decision => ({
  ...decision,
  verdict: 'deny',
  reason: 'approval_required',
  message: 'What was approved has changed in the meantime; it needs a new approval.',
})
