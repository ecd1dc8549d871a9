import type { Action, Decision } from '../policy/types.ts'

/**
 * What kinds of record there are. The reference of audit events is generated from this table.
 * A leaf is `Envelope` as canonical JSON (RFC 8785), at most 64 KiB.
 */
export const RECORD_TYPES = {
  'action.intent': 'An action was allowed and is about to be sent on.',
  'action.outcome': 'What came of an action: ok, failed, unknown.',
  'action.refused': 'An action was refused, and why.',
  'action.asked': 'An action was not done yet: a human is asked about exactly this one.',
  'connection.opened': 'A connection was accepted.',
  'connection.closed': 'A connection ended, and why.',
  'connection.refused': 'Somebody without a valid credential was turned away.',
  'message.refused': 'A message could not be read in exactly one way and was refused.',
  'session.started': 'A session began: sign-in, join, issue, client.',
  'session.ended': 'A session ended, and why.',
  'credential.issued': 'A certificate or token was issued.',
  'credential.refused': 'A certificate or token was asked for and refused.',
  'credential.copied': 'A credential that was renewed already asked to be renewed again: somebody holds a copy, and its session is locked.',
  'factor.enrolled': 'A second factor was enrolled, or a browser made known.',
  'factor.used': 'A second factor was given.',
  'factor.refused': 'A second factor was wrong.',
  'factor.removed': 'A passkey, or a known browser, was removed.',
  'invitation.made': 'An invitation, a join token or a link for a browser was made.',
  'invitation.used': 'An invitation, a join token or a link for a browser was used.',
  'administrator.recovered':
    'On the machine of the server an administrator was let in again, with the root key and without any session (`chaperone recover`): an invitation, and what was lifted for it.',
  'identity.changed': 'An identity was made, changed, disabled or deleted.',
  'delegation.made': 'An identity may act for another.',
  'delegation.ended': 'An identity may no longer act for another, and why.',
  'delegation.refused': 'An identity wanted to act for another, or a client to act for a person, and was refused.',
  'client.registered': 'An OAuth client was met for the first time, registered itself, or changed what it says of itself.',
  'agent.reviewed': 'Somebody looked at an agent and its rights, and kept or changed it.',
  'agent.stopped': 'An agent was stopped by itself: nobody used it, nobody reviewed it in time, or its owner has left.',
  'directory.changed': 'A directory said that a person came, changed, left, or signed out there; or could not be asked any more.',
  'documents.applied': 'Roles, guardrails, resources or identities were changed.',
  'lock.made': 'A lock was made.',
  'lock.lifted': 'A lock was lifted.',
  'secret.set': 'A sealed upstream secret was set.',
  'secret.deleted': 'A sealed upstream secret was deleted.',
  'authority.rotated': 'An authority got a new key.',
  'audit.read': 'Somebody read the record.',
  'server.started': 'A stdio server process was started, as whom and how isolated.',
  'server.stopped': 'A stdio server process ended, and why.',
  'chaperone.called': "A tool of Chaperone's own MCP server was called, by somebody for himself.",
  'server.listed': 'What MCP servers offer was looked at by an administrator, or shown once more from a list that was kept.',
  'pin.seen': 'A definition of an MCP server was seen for the first time.',
  'pin.changed': 'A definition differs from the approved one and is quarantined.',
  'pin.approved': 'A definition of an MCP server was approved.',
  'pin.kept': 'A changed definition was turned down; the approved one holds.',
  'request.made': 'Somebody asked for something that another must give.',
  'request.voted': 'One of several who must agree has decided about a request.',
  'request.decided': 'A request was approved, denied or withdrawn.',
  'request.ended': 'A request expired, was revoked, or nobody knows what came of its call.',
  'request.escalated': 'Nobody answered a request in time, so others may.',
  'request.review_overdue': 'What was taken without asking (break-glass) was not looked at in time.',
  'request.reviewed': 'What was taken without asking (break-glass) was looked at afterwards.',
  'notification.given_up': 'Somebody outside was to be told of a request or lock, and could not be reached in time.',
  'upstream.login': 'A login at an MCP server was begun, finished, refreshed or removed; or a token without a login was minted or granted for it.',
  'node.started': 'A Chaperone node started.',
  'node.stopped': 'A Chaperone node stopped.',
} as const

export type RecordType = keyof typeof RECORD_TYPES

/** An identity named in a record: the immutable id, and the name it had then. */
export interface Named {
  readonly id: string
  readonly name: string
  readonly kind?: string
}

/** A body that lies beside the leaf. The writer masks secrets, salts, cuts (visibly) and commits to it. */
export interface Body {
  /** `arguments`, `statement`, `parameters`, `result` */
  readonly name: string
  readonly bytes: Uint8Array | string
}

/** What a caller hands to `append`. The writer adds `v`, `node`, `seq`, `at` and the commitments. */
export interface Draft {
  readonly type: RecordType
  /** Made by the caller when it must be known before (decision id); else by the writer. */
  readonly id?: string
  readonly actor?: Named
  /** first = on whose behalf, last = actor */
  readonly chain?: readonly (Named & { readonly delegation?: string })[]
  readonly session?: string
  readonly connection?: string
  readonly credential?: string
  readonly issuer?: string
  readonly purpose?: string
  /** W3C trace id that the caller's request belongs to, as the caller claims */
  readonly trace?: string
  readonly action?: Pick<Action, 'kind' | 'operation' | 'effects' | 'summary' | 'via'> & {
    readonly resource: Named
    /** sha256 hex of the definition that was approved of the tool, prompt or template */
    readonly definition?: string
    /** What the rules read of it: tables, columns, database user, tool ... Each vocabulary says what it records. */
    readonly facts?: Readonly<Record<string, unknown>>
    /** why no rule may allow it */
    readonly unclear?: string
  }
  readonly decision?: Pick<Decision, 'verdict' | 'reason' | 'rule' | 'link' | 'obligations' | 'grant' | 'shadow'>
  /** The request that it rests on: the one that was made of it, or whose approval it uses up. */
  readonly request?: string
  /** id of the intent that an outcome belongs to */
  readonly permit?: string
  readonly outcome?: { readonly status: 'ok' | 'failed' | 'refused' | 'unknown'; readonly [key: string]: unknown }
  /** What it is about, where that is no action. */
  readonly resource?: Named
  /** Whatever else this type carries; small, no secrets. */
  readonly data?: Readonly<Record<string, unknown>>
  readonly bodies?: readonly Body[]
}

/** A body's place in the leaf. `commitment` is hex HMAC-SHA256(salt, stored bytes); `cut` is the full size and sha256 when it was cut. */
export interface BodyRef {
  readonly name: string
  readonly size: number
  readonly commitment: string
  readonly cut?: { readonly size: number; readonly sha256: string }
  /** how many secrets were masked */
  readonly masked?: number
}

/** The leaf. */
export type Envelope = Omit<Draft, 'bodies'> & {
  readonly v: 1
  readonly id: string
  /** ms since 1970 */
  readonly at: number
  readonly node: string
  readonly seq: number
  readonly bodies?: readonly BodyRef[]
}

/**
 * `later`: nobody waits for this record (an outcome), so it may wait some milliseconds for company. A commit of outcomes
 * alone would keep the next intent waiting for a whole fsync of its own.
 */
export type Urgency = 'now' | 'later'

/** The one use of an approved call. Taken in the transaction that makes its intent durable (rule 12): both happen, or neither. */
export interface Claim {
  /** id of the request; it must be approved, of this digest, and not past its end */
  readonly request: string
  readonly digest: string
  /** id of the permit that uses it up */
  readonly permit: string
  /**
   * id of the permit that used it up before: then it is a further round of that very call (`Asking.continues`), and what is taken
   * is the right to follow that permit, which only one can
   */
  readonly continues?: string
}

export interface AuditLog {
  /** Durable on return. Rejects with ChaperoneError('audit_unavailable') when it is not; then nothing may happen. */
  append(draft: Draft, urgency?: Urgency): Promise<{ readonly id: string; readonly seq: number }>
  /**
   * The same, and uses the approval up. Rejects with `approval_used` when it is not there to be used (any more); then nothing
   * is recorded. A method of its own: whoever wraps this log and forgets it must not be able to leave out the claim.
   */
  claim(draft: Draft, claim: Claim): Promise<{ readonly id: string; readonly seq: number }>
  /** Values that must never be stored: they are masked in every body and text from now on. */
  addSecrets(values: readonly string[]): void
  /**
   * Sees every record of this node once it is durable, or those of some types: each leaf that somebody watches comes back from
   * the writer's thread and is decoded on this one. Returns a function that ends it.
   */
  watch(see: (envelope: Envelope) => void, types?: ReadonlySet<RecordType>): () => void
  /** Gives positions to what is there and signs a checkpoint over it, now. */
  checkpoint(): Promise<{ readonly size: number; readonly note: string }>
  close(): Promise<void>
}
