import type { ChainLink, Factor, LiveSession } from '../../identity/types.ts'
import type { Approvers, RuleRef, Way } from '../../policy/types.ts'
import type { RequestTable } from '../../store/tables-requests.ts'
import type { ExactCall, Shown } from '../types.ts'

/**
 * One object for every "may I": a role for a while, a resource for a while, one exact call, a server to be added.
 *
 *   pending ──▶ approved ──▶ used          a call that ran, once
 *      │           ├───────▶ unknown       it was sent, and nobody can say what came of it
 *      │           ├───────▶ expired       its time is over, used or not
 *      │           ├───────▶ revoked       taken away again
 *      │           └───────▶ withdrawn     given back
 *      └──▶ denied, withdrawn, expired
 */
export type RequestState = RequestTable['state']
export type RequestKind = RequestTable['kind']

/** A role for a while; with a resource, on that alone. */
export interface AccessWish {
  readonly role: string
  readonly resource?: { readonly kind: string; readonly id: string; readonly name: string }
  /** ms */
  readonly forMs: number
  /** ms since 1970; without: from the yes on */
  readonly startsAt?: number
  /** taken at once, loudly; somebody must look at it afterwards */
  readonly breakGlass?: true
  /** No reason was given, so what it is for counts as one: as it was said with the question, or by the session when it began. */
  readonly reasonFrom?: 'purpose' | 'session'
}

/** One exact call, as it was asked about. */
export interface CallWish {
  readonly kind: string
  readonly operation: string
  readonly effects: readonly string[]
  readonly summary: string
  readonly resource: { readonly id: string; readonly name: string }
  /** why somebody is asked */
  readonly message: string
  readonly rules: readonly RuleRef[]
  readonly shown: readonly ShownPart[]
  /** The values in it are not to be kept: what is shown is erased once the question is over. */
  readonly fleeting?: true
  /** as in `ExactCall` */
  readonly wish?: string
}

/** `cut`: it is not all of it. `erased`: it was not kept once the question was over; the digest is missing where values are not to be kept. */
export type ShownPart = Shown & {
  readonly cut?: { readonly size: number; readonly sha256: string }
  readonly erased?: { readonly size: number; readonly sha256?: string }
}

/** Who must say yes. Every need must be met, by people who are not the one who asks (rule 12). */
export interface Need {
  /** undefined: whoever holds the verb `approve` */
  readonly approvers: Approvers | undefined
  /** the identity whose rule it is: `owner` is the person behind it */
  readonly link: string
  readonly escalate?: { readonly afterMs: number; readonly approvers: Approvers }
  /** ms that the question stays open, and a call's approval unused */
  readonly expiresMs?: number
}

export interface Vote {
  readonly identityId: string
  readonly verdict: 'approve' | 'deny'
  readonly reason?: string
  readonly how: string
  /** the second factor that it was given with */
  readonly factor?: Factor
  /** `seen` of what was shown then: when it is another one by now, the vote counts no more (peers R47) */
  readonly seen?: string
  readonly at: number
}

/** What is asked for, by kind. Of a server it is the document without its kind, as the API has checked it. */
export type Wished =
  | { readonly kind: 'access'; readonly body: AccessWish }
  | { readonly kind: 'call'; readonly body: CallWish }
  | { readonly kind: 'server'; readonly body: { readonly name: string; readonly [field: string]: unknown } }

export type AccessRequest = Wished & RequestFacts

export interface RequestFacts {
  readonly id: string
  readonly identityId: string
  readonly chain: readonly ChainLink[]
  readonly reason: string
  readonly purpose?: string
  readonly sessionId?: string
  readonly state: RequestState
  readonly needs: readonly Need[]
  readonly votes: readonly Vote[]
  readonly createdAt: number
  readonly updatedAt: number
  readonly expiresAt?: number
  readonly startsAt?: number
  readonly endsAt?: number
  readonly below: boolean
  readonly digest?: string
  readonly permit?: string
  /** the node that sent it */
  readonly nodeId?: string
  readonly outcome?: string
  readonly decidedBy?: string
  readonly decidedAt?: number
  readonly escalatedAt?: number
  readonly reviewDue?: number
  readonly reviewedBy?: string
}

/** A request as somebody is shown it. */
export type Seen = Wished &
  Omit<RequestFacts, 'votes'> & {
    readonly standing: Standing
    /** to be given with a decision */
    readonly seen: string
    /** access: the spec of the role that is asked for, as of the same moment as `seen` */
    readonly says?: unknown
    readonly votes: readonly (Vote & { readonly outdated?: true })[]
  }

/** Where a person stands to a request. `no`: why he cannot decide, in a sentence. */
export interface Standing {
  /** it is his own, or asked by what acts for him */
  readonly own: boolean
  /** a yes of his would be a confirmation of his own agent's call, not an approval */
  readonly confirms: boolean
  readonly no?: string
}

export interface Decide {
  readonly verdict: 'approve' | 'deny'
  readonly reason?: string
  /** `seen` of what was shown: when it is another one by now, nothing is decided (peers R47) */
  readonly seen: string
  /** access: shorter than was asked for, never longer */
  readonly forMs?: number
  /** access: those who act for the one who asked have it as well */
  readonly below?: boolean
  /** `cli`, `browser` */
  readonly how: string
}

/** What happened to a request: for streams, notifications, and who waits. */
export interface RequestEvent {
  readonly type:
    | 'made'
    | 'voted'
    | 'approved'
    | 'denied'
    | 'expired'
    | 'withdrawn'
    | 'used'
    | 'revoked'
    | 'unknown'
    | 'escalated'
    | 'broke_glass'
    | 'reviewed'
    | 'review_overdue'
  readonly request: AccessRequest
}

export interface AskAccess {
  readonly role: string
  readonly resource?: { readonly kind: string; readonly name: string }
  readonly forMs?: number
  readonly startsAt?: number
  readonly reason?: string
  readonly purpose?: string
  readonly breakGlass?: boolean
}

/** An MCP server that somebody wants. The API has checked the wish as if it were applied, and that no secret stands in it. */
export interface AskServer {
  /** the document without its kind; kept as the body of the request */
  readonly wish: { readonly name: string }
  readonly reason: string
  readonly purpose?: string
}

/** Requests of every kind: the only place that makes, decides and ends them. Each change is a record before it is a row. */
export interface Requests {
  /** A role for a while. It may come back approved: by a rule, or by break-glass. Throws `not_found` for what may not be asked for, `usage`, `too_many`. */
  ask(session: LiveSession, ask: AskAccess): Promise<AccessRequest>
  /** Kind `server`: whoever holds `apply` decides (also an agent of nobody in the chain), and can say yes only once a server of that name is there. Throws `too_many`, `too_large`. */
  askServer(session: LiveSession, ask: AskServer): Promise<AccessRequest>
  /** What this session may ask for. */
  ways(session: LiveSession): readonly (Way & { readonly resources: readonly { readonly kind: string; readonly name: string }[] })[]
  /** One vote. A person's own, with a second factor of the last five minutes. Throws `approval_refused`, `factor_required`, `conflict`, `not_found`. */
  decide(session: LiveSession, id: string, decide: Decide): Promise<AccessRequest>
  /** Who asked, or what he acts for, needs it no more; also gives back what was granted. */
  withdraw(session: LiveSession, id: string): Promise<AccessRequest>
  /** Takes away what was approved. Whoever may have approved it, or may lock. */
  revoke(session: LiveSession, id: string, reason: string): Promise<AccessRequest>
  /** Break-glass was looked at. Nobody reviews his own. */
  review(session: LiveSession, id: string, note: string): Promise<AccessRequest>
  /** What this session may see of it: its own (an agent's: of the chain that it acts in), what it may decide, or all with the verb `approve` or `audit.read`. Throws `not_found`. */
  show(session: LiveSession, id: string): Promise<Seen>
  list(session: LiveSession, filter: RequestFilter): Promise<readonly Seen[]>
  /**
   * Resolves with the request once it is not pending any more, or as it is when `ms` are over, the signal fires, or `rights` are not
   * what they were. Wakes also for what other nodes decide.
   */
  decided(id: string, wait: { readonly ms: number; readonly signal?: AbortSignal; readonly rights?: number }): Promise<AccessRequest>
  /** Raised whenever rights have changed on this node: a lock, a document, a role that was granted. */
  readonly rights: number
  /** Every change of any request, from every node, once per node. */
  watch(see: (event: RequestEvent) => void): () => void
}

export interface RequestFilter {
  readonly state?: RequestState
  readonly kind?: RequestKind
  /** only what this session may decide now */
  readonly mine?: 'asked' | 'to_decide'
  readonly limit?: number
}

export type { ExactCall }
