import type { ChaperoneError, ReasonCode } from '../errors.ts'
import type { Link } from '../policy/types.ts'
import type { Write } from '../store/store.ts'
import type { EndedBy, EndReason } from './end-reasons.ts'

/** What a credential proved, by itself: nothing here was looked up. */
export interface Principal {
  readonly identityId: string
  readonly kind: 'user' | 'agent' | 'node'
  readonly name: string
  readonly credentialId: string
  readonly sessionId: string
  readonly issuerId?: string
  /** first = on whose behalf; the last is the identity itself. Always at least one. */
  readonly chain: readonly ChainLink[]
  /** ms since 1970 */
  readonly notAfter: number
  /** Only a proof by mTLS moves the deadline of the session's other connections (design 3.2). */
  readonly proof: 'mtls' | 'bearer' | 'browser'
  /** Of a token: sha256 of the client certificate without which it is worth nothing, base64url (RFC 8705). */
  readonly boundTo?: string
  /** Of a token: what an OAuth client was told that it holds (RFC 9068 section 2.2.3). Rights are in the chain; this widens nothing. */
  readonly scope?: string
}

export interface ChainLink {
  readonly identity: string
  readonly delegation?: string
}

/** One socket, or one MCP session of the stateful era, inside a session. */
export interface Connection {
  readonly id: string
  readonly protocol: string
  /** ms since 1970 */
  readonly since?: number
  /** The certificate or token that it came in with: a lock on that one cuts it. */
  readonly credentialId?: string
  /** Aborted when the connection is cut; `reason` is a ChaperoneError that says why. */
  readonly signal: AbortSignal
  /**
   * `say` hears of a cut before the signal aborts, and before that of any other connection which the same lock falls on: so
   * a thousand clients have their goodbyes before anything is torn down behind them. It is quick, and throws nothing.
   * Returns what takes it back.
   */
  onCut?(say: (why: ChaperoneError) => void): () => void
  /** Throws the reason when the connection was cut or its deadline has passed: asked at each request, because a timer may be late. */
  assertOpen(): void
  /** The connection is over by itself. Idempotent. */
  closed(): void
}

/** A second factor: a code of an authenticator app, a key that wants its person there, or one that the company's directory vouches for. */
export type Factor = 'totp' | 'passkey' | 'directory'

/** One run of one identity, as this process knows it. */
export interface LiveSession {
  readonly id: string
  readonly principal: Principal
  readonly startedAt: number
  readonly how: string
  readonly client?: string
  readonly purpose?: string
  /** the session that it was made from */
  readonly parentId?: string
  /** the sessions that that one was made from, and those in which all of them were agreed to; absent: there are none */
  readonly ancestors?: readonly string[]
  readonly issuerId?: string
  /** ms since 1970: when a second factor was last given */
  readonly factorAt?: number
  /** what that factor was */
  readonly factorBy?: Factor
  /** ms since 1970: the newest credential proven over mTLS for this session, never past its longest life. */
  readonly provenUntil: number
  /** how many connections hang on it in this process */
  readonly open: number
  /** Throws when the session is over at this moment (ended, expired). */
  assertLive(): void
  /**
   * A connection of this session. It is cut (its `signal` aborts) at the session's proven deadline, or at `until` when
   * given (a bearer connection ends with its own token), and when the session ends or a lock falls on it.
   */
  connect(protocol: string, options?: { readonly until?: number; readonly credentialId?: string }): Connection
  /** Something was asked for in it, on whatever protocol: it is not idle. What keeps a credential alive does not count. */
  touch?(): void
}

export interface Sessions {
  /** The live session of a proven principal. Loads and checks it on first sight; moves the deadline when the proof is newer. Throws `session_ended`, `identity_disabled`, `locked`, `credential_expired`. */
  open(principal: Principal): Promise<LiveSession>
  /** Makes a session (a row, and its record) for an identity; credentials are issued inside it. */
  start(ask: StartSession): Promise<{ readonly id: string; readonly expiresAt: number }>
  /** Ends them, and what was made from them, on every node, and records it. */
  end(sessionIds: string | readonly string[], reason: EndReason, by?: EndedBy): Promise<void>
  /** Ends delegations, those handed on under them, and every session that rests on one of them, on every node, and records it. `by`: who revoked them. */
  endDelegations(ids: readonly string[], reason: EndReason, by?: EndedBy): Promise<void>
  /** Throws when nothing may be issued for this chain now (`locked`, `identity_disabled`): asked before an invitation is used up. */
  mayStart(chain: readonly ChainLink[]): Promise<void>
  /**
   * The id of the next credential of a session, asked for with `credentialId`. Each is renewed once: when an older one asks,
   * somebody holds a copy, and the session is locked for both of them. Throws `session_ended`, `locked`.
   */
  renew(session: LiveSession, credentialId: string): Promise<string>
  /** Marks that a second factor was given now. */
  factorGiven(sessionId: string, by: Factor): Promise<void>
  /** Cuts every live connection for which `why` gives an error: called when the epoch has risen. */
  review(why: (session: LiveSession) => ChaperoneError | undefined, whyCredential?: (credentialId: string) => ChaperoneError | undefined): void
  list(): readonly LiveSession[]
  /** What hangs on a session in this process. */
  connections(sessionId: string): readonly Connection[]
  /** Ends what was idle or lived for too long by the roles of today, and writes down what was used. Called every few seconds. */
  sweep(): Promise<void>
  /** Cuts everything (shutdown). */
  close(reason: ReasonCode): void
}

export interface StartSession {
  readonly identityId: string
  readonly chain: readonly ChainLink[]
  /** `client`, `run`: a person's program, named at its start; `oauth`: an OAuth client that he agreed to; `exchange`: a part of another session's rights, handed on */
  readonly how: 'enrol' | 'login' | 'join' | 'issue' | 'client' | 'browser' | 'run' | 'oauth' | 'exchange'
  /** By what, and what was proven; of a person, the sign-in at his company (`signIn`), whose end is the session's. Shown to operators, never to the caller. */
  readonly joined?: { readonly method: string; readonly document: string; readonly subject: string; readonly signIn?: string }
  /** Of `joined`: certificates that it rests on, as identity/joining/ keeps them in mind. */
  readonly certificates?: readonly { readonly serial: string; readonly issuer: string }[]
  /** address of the peer */
  readonly cameFrom?: string
  readonly client?: string
  readonly purpose?: string
  readonly issuerId?: string
  /** ms; cut to the longest life */
  readonly lifeMs: number
  /** `true`: a code of an authenticator app */
  readonly factorGiven?: boolean | Factor
  /** The session it was made from; when that one is ended, so is this. */
  readonly parentId?: string
  /** The session in which somebody agreed to it: a lock on that one falls on this as well, its end does not. */
  readonly givenIn?: string
  /** The delegation that was given for this session alone: it ends with it. */
  readonly rests?: string
  /** Sessions that this one takes the place of. They hold no place against it; the caller ends them once it has begun. */
  readonly instead?: readonly string[]
  /**
   * Of one that is counted from its first credential on (a key of a machine): ids made beforehand, and a last look in the transaction
   * that makes the row, which throws where what it rests on is over. Until somebody has shown that credential, it may have got lost.
   */
  readonly counted?: { readonly id: string; readonly credential: string; readonly still: (trx: Write) => Promise<void> }
  /** A last look in the transaction that makes the row: throws where what the session would rest on is over. */
  readonly still?: (trx: Write) => Promise<void>
  /** Ends the oldest ones of the identity, where a role leaves no room for one more. */
  readonly endOldest?: boolean
}

export type { Link }
