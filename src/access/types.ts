import type { Body } from '../audit/record.ts'
import { ChaperoneError } from '../errors.ts'
import type { Connection, LiveSession } from '../identity/types.ts'
import type { Action, Decision, Obligations, Resource } from '../policy/types.ts'

/** Not exported: only the guard can make a permit (rule 9); a fake in a test must cast, which is easy to find. */
declare const madeByTheGuard: unique symbol

/**
 * The right to send one action on, once. Made only by the guard, when the intent is durable. Every upstream send takes
 * one; `signal` aborts (with a ChaperoneError as reason) when expiry, a lock, or a change of policy ends it.
 */
export interface Permit {
  readonly [madeByTheGuard]: true
  readonly id: string
  readonly action: Action
  readonly decision: Decision
  readonly obligations: Obligations
  readonly signal: AbortSignal
}

export type Outcome = {
  /** `unknown`: it was sent, and nobody can say whether it took effect */
  readonly status: 'ok' | 'failed' | 'unknown'
  /** protocol facts: rows, bytes, capped, error code ... small, no secrets */
  readonly facts?: Readonly<Record<string, unknown>>
  readonly bodies?: readonly Body[]
}

/** A refusal as the person who asked may see it. `code` is `not_found` when the resource may not be known to exist (rule 8). */
export class Refusal extends ChaperoneError {
  readonly decision: Decision
  /** id of the record */
  readonly decisionId: string
  readonly hint: string | undefined
  /** Set when a human is asked about it: the same call succeeds once after the yes. */
  readonly parked: Parked | undefined

  constructor(decision: Decision, decisionId: string, parked?: Parked) {
    super(decision.visible ? decision.reason : 'not_found', decision.message, {
      detail: `${decision.reason} ${JSON.stringify(decision.rule ?? null)}`,
    })
    this.name = 'Refusal'
    this.decision = decision
    this.decisionId = decisionId
    this.hint = decision.visible ? decision.hint : undefined
    this.parked = decision.visible ? parked : undefined
  }
}

/** A call as a human is asked about it, and as he is shown it (rule 12). Made by the gateway from what it would send. */
export interface ExactCall {
  /**
   * All that makes it this call and no other, as canonical JSON: mcp: method, name, arguments; postgres: text, parameters, database
   * user, settings, resolved relations. The guard adds identity, chain, resource, its definition and pin, and the rules that ask.
   */
  readonly bound: string
  /** What the approver reads, in order. Known secrets are masked and long texts cut visibly where it is stored. */
  readonly shown: readonly Shown[]
  /**
   * sha256 hex of what was wished for, where what that comes to depends on more: asked anew because it means something else by now, no
   * earlier question about the same wish is answered any more, and no earlier yes holds.
   */
  readonly wish?: string
  /** Values in it are not to be kept (`record.parameters` of a database): what is shown is erased once the question is over. */
  readonly fleeting?: true
}

export interface Shown {
  readonly title: string
  readonly text: string
  /** `exact`: what will hold is written in it, so that nothing of it is hidden from who decides, whatever it looks like. */
  readonly form: 'text' | 'sql' | 'json' | 'exact'
}

export interface Asking {
  /** Made only when a human must be asked, or was. */
  call(): ExactCall | Promise<ExactCall>
  /** Why nobody can be asked now (an open transaction): then it is refused at once, and the refusal says so. */
  readonly cannot?: string
  /**
   * Id of the permit under which an approval let the round before this one run: a server of MCP asks back in its answer, and
   * the client sends the call again with what it was asked for. It goes on once, as the same call, under the same approval.
   */
  readonly continues?: string
  /**
   * Id of the permit whose approved call this only follows up (what became of a task that it made). Nothing runs that was not
   * approved, so it uses nothing up.
   */
  readonly follows?: string
  /** Id of the request whose question is on record for this very wait: found again, unchanged, it is not recorded a second time. */
  readonly known?: string
}

/** The question that a refused call waits for. */
export interface Parked {
  /** id of the request */
  readonly request: string
  /** where it is decided; opening it approves nothing */
  readonly url: string
  /** ms since 1970 */
  readonly expiresAt: number
  /** who can say yes, in words */
  readonly approvers: string
  /** id of the request that was approved for the same wish, when it meant something else (`ExactCall.wish`) */
  readonly instead?: string
}

export interface Admission {
  /** Without it, what a rule wants asked is refused. */
  readonly asking?: Asking
  readonly connection?: Connection
  /** arguments, statement ...: stored beside the intent (or the refusal) */
  readonly bodies?: readonly Body[]
  /** W3C trace id of the request */
  readonly trace?: string
  /**
   * Told once when the permit is cut, with the reason, before its signal aborts and before anything behind other permits of the
   * same cut is torn down: the moment to say goodbye to the client. Nothing may pass from then on.
   */
  readonly cut?: (reason: unknown) => void
}

/** The whole product: nothing reaches a resource but through these two. */
export interface Guard {
  /** A permit, the intent durable on return; or rejects with Refusal (recorded) or ChaperoneError. */
  admit(session: LiveSession, action: Action, admission?: Admission): Promise<Permit>
  /** Records what came of it. Every permit is settled exactly once; a second call is ignored. */
  settle(permit: Permit, outcome: Outcome): void
  /** The same decision without acting or recording: for filtering lists and for `explain`. Throws only lease_lapsed. */
  judge(session: LiveSession, action: Action): Decision
  /** What any rule could demand under this name of something like the action, whatever the verdict. Throws only lease_lapsed. */
  demands(session: LiveSession, action: Action, name: string): readonly unknown[]
}

/** The resources of one kind, by name or id, as applied. `spec` is the validated document spec (catalog/). */
export interface Resources {
  find(kind: string, name: string): { readonly resource: Resource; readonly spec: unknown } | undefined
  list(kind: string): readonly { readonly resource: Resource; readonly spec: unknown }[]
  /** Raised whenever the applied documents changed. */
  readonly revision: number
}
