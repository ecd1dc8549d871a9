import type { RequestEvent, RequestKind } from '../access/requests/types.ts'
import type { NotifierSpec, Told } from '../catalog/notifier.ts'
import type { Write } from '../store/store.ts'

/** A lock was made or lifted. */
export interface LockEvent {
  readonly type: 'made' | 'lifted'
  readonly lock: {
    readonly id: string
    /** identity, owner, role, resource ... */
    readonly kind: string
    /** what it lies on: an id where that kind has one */
    readonly target: string
    /** as people call it */
    readonly name: string
    readonly reason: string
    /** ms since 1970 */
    readonly expiresAt?: number
    /** the rule that made it, when no person did */
    readonly madeBy?: string
  }
  /** id of the identity that did it */
  readonly by?: string
}

/** An agent is about to be stopped, or was, because nobody uses it, looks at it or answers for it. */
export interface AgentEvent {
  readonly type: 'due' | 'stopped'
  readonly agent: { readonly id: string; readonly name: string; readonly ownerId?: string }
  readonly why: 'unused' | 'unreviewed' | 'owner'
  /** ms since 1970 */
  readonly stopsAt?: number
}

/** A directory would have taken away the last administrator, and was not believed. */
export interface DirectoryEvent {
  readonly type: 'refused'
  readonly directory: string
  /** as the record calls the change: `left`, `group changed` */
  readonly what: string
}

export type Notice = RequestEvent | LockEvent | AgentEvent | DirectoryEvent

/**
 * Writes down what is to be told, in the transaction of the change itself: told if and only if it happened. It sends
 * nothing and waits for nobody; what one bad notifier says is logged, and keeps no change from happening.
 */
export type AnnounceNotice = (trx: Write, notice: Notice) => Promise<void>

export interface Person {
  readonly id: string
  readonly name: string
  readonly kind: string
}

/** What happened, in plain values with names: what every form of message is made of. Free text is masked, cleaned and cut. */
export interface Story {
  readonly on: Told | 'notifier.test'
  /** ms since 1970 */
  readonly at: number
  readonly request?: RequestStory
  readonly lock?: LockStory
  readonly agent?: AgentStory
  readonly directory?: { readonly name: string; readonly what: string }
  /** Set on the last one before further ones about the same identity are held back until then (ms since 1970). */
  readonly heldBackUntil?: number
}

export interface RequestStory {
  readonly id: string
  readonly kind: RequestKind
  readonly state: string
  /** Opening it approves nothing. */
  readonly link: string
  readonly who: Person
  /** first = on whose behalf it all happens */
  readonly onBehalfOf: readonly Person[]
  readonly role?: string
  readonly resource?: { readonly kind: string; readonly name: string }
  readonly forMs?: number
  readonly startsAt?: number
  readonly endsAt?: number
  readonly breakGlass?: true
  readonly call?: { readonly operation: string; readonly effects: readonly string[]; readonly summary: string; readonly why: string }
  /** the MCP server that is wished for */
  readonly server?: string
  /** in words */
  readonly approvers: string
  readonly reason?: string
  /** as the session claims */
  readonly purpose?: string
  readonly by?: Person
  readonly byReason?: string
  readonly createdAt: number
  readonly expiresAt?: number
  readonly reviewDue?: number
  readonly outcome?: string
  /** Only with `detail: full`. */
  readonly shown?: readonly { readonly title: string; readonly text: string }[]
}

export interface LockStory {
  readonly id: string
  readonly kind: string
  readonly name: string
  readonly reason: string
  readonly expiresAt?: number
  readonly madeBy?: string
  readonly by?: Person
}

export interface AgentStory {
  readonly id: string
  readonly name: string
  readonly owner?: Person
  readonly why: AgentEvent['why']
  /** ms since 1970 */
  readonly stopsAt?: number
}

export type Channel = 'webhook' | 'slack' | 'mail'

export interface Notifier {
  readonly name: string
  readonly way: Channel
  readonly spec: NotifierSpec
}

/** What came of one attempt. `error` is for the operator: never a secret, never the receiver's own words. */
export type Attempt =
  | { readonly ok: true }
  | {
      readonly ok: false
      readonly error: string
      /** Trying again is of no use (the mailbox does not exist). */
      readonly final?: true
      /** ms, as the receiver wished */
      readonly retryAfterMs?: number
      /** What is left to be sent, when some of it went: the payload from now on. */
      readonly rest?: string
    }

export interface NotifierRow {
  readonly name: string
  readonly way: Channel
  readonly on: readonly string[]
  readonly waiting: number
  readonly done: number
  readonly givenUp: number
  /** of these, how many made room for others because too many waited */
  readonly lost?: number
  /** ms since 1970 of the oldest that waits */
  readonly oldest?: number
  readonly lastError?: string
}
