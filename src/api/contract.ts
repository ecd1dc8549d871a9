/**
 * What the API on the mTLS listener answers: the types that `api/` serves and `client/` and `cli/` read. All bodies are
 * JSON; an error is `ErrorBody` with the HTTP status of its code. Times are ms since 1970.
 * An event stream whose session or permit is cut ends with an event `over`, whose data is an `ErrorBody`; a reader that is too slow gets `behind`.
 *
 *   without a certificate (a secret or a device key proves who asks)
 *   POST /v1/enrol/begin   EnrolBegin   -> EnrolOffer        an invitation is looked at; TOTP secret to enrol
 *   POST /v1/enrol/finish  EnrolFinish  -> Credential        the invitation is used up
 *   POST /v1/login         Login        -> Credential        an enrolled device key and TOTP
 *   POST /v1/join          Join         -> Credential        a one-time join token of an agent
 *   with a certificate
 *   POST /v1/renew         Renew        -> Credential        same identity, session and chain
 *   POST /v1/prove         {}           -> { until }         nothing but the proof that this certificate brings
 *   POST /v1/logout        {}           -> {}
 *   GET  /v1/whoami                     -> WhoAmI
 *   GET  /v1/bundle                     -> Bundles
 *   POST /v1/factor        { code }     -> { until }
 *   POST /v1/clients       ClientAsk    -> Credential        `boris/<client>`, an agent of the person who asks
 *   POST /v1/runs          RunBegin     -> Credential        a session of one program: of a person with less than he has, of an agent as itself; see runs-contract.ts
 *   GET  /v1/abilities                  -> Abilities         what the caller may do, what a human is asked about, what may be asked for
 *   POST /v1/token         TokenAsk     -> Token             a JWT-SVID of the caller, for somebody else than Chaperone
 *   POST /v1/browsers/link {}           -> BrowserLink       one use, two minutes; a person's own, with a fresh second factor
 *   GET  /v1/browsers                   -> BrowserList       one's own
 *   DELETE /v1/browsers/:id | DELETE /v1/passkeys/:id        one's own
 *   POST /v1/issue         Issue        -> Credential | Token        verb issue
 *   POST /v1/invitations   Invite       -> Invitation                verb issue; for users (enrol) and agents (join); an owner for his own agents without
 *   GET  /v1/joins/:name                -> JoinWay                   verb apply or issue; the owner of its agent without
 *   POST /v1/apply         Apply        -> Applied                   verb apply; dryRun needs it too (diff)
 *   GET  /v1/documents[?kind=]          -> { documents: Document[] } verb apply
 *   GET  /v1/documents/:kind/:name      -> Document                  (name is URL-encoded)
 *   DELETE /v1/documents/:kind/:name    -> Applied                   verb apply
 *   POST /v1/explain       Explain      -> Explained                 oneself, or verb apply/audit.read for others
 *   POST /v1/policy/diff   WouldApply   -> PolicyDiff                verb apply; see policy-contract.ts
 *   POST /v1/policy/replay Replay       -> Replayed                  verbs audit.read and apply
 *   POST /v1/policy/suggest { identity, since } -> Suggested         verb audit.read
 *   GET  /v1/identities[?kind=]         -> { identities: IdentityRow[] }   verb identities or audit.read
 *   POST /v1/identities/:name/state { state: 'active'|'disabled' } -> IdentityRow  verb identities
 *   /v1/instances, /v1/agents ...       see agents-contract.ts
 *   GET  /v1/notifiers                  -> NotifierList              verb apply or audit.read
 *   POST /v1/notifiers/:name/test {}    -> NotifierTested            verb apply; a message now, whose outcome is the answer
 *   GET  /v1/sessions[?of=NAME&limit=]  -> { sessions: SessionRow[] } verb lock or audit.read; own without
 *   GET  /v1/sessions/watch[?of=NAME]   -> text/event-stream of SessionNotice   verb audit.read; own without
 *   GET  /v1/sessions/:id               -> SessionDetail              verb lock or audit.read; own without
 *   DELETE /v1/sessions/:id             -> { ended }                  verb lock; own without. The end of an id is enough.
 *   DELETE /v1/sessions?of=NAME         -> { ended }                  all of an identity: verb lock; own without
 *   GET  /v1/resources/:kind            -> { resources: ResourceRow[] }   what the caller may see
 *   GET  /v1/locks | POST /v1/locks LockAsk -> LockRow | DELETE /v1/locks/:id     verb lock
 *   GET  /v1/audit?AuditQuery           -> AuditPage  verb audit.read (each read is a record); see audit-contract.ts
 *   GET  /v1/audit/records/:id          -> AuditDetail
 *   GET  /v1/audit/records/:id/rule[?role=|guardrail=] -> AuditRule
 *   GET  /v1/audit/tail                 -> text/event-stream of AuditRow
 *   POST /v1/audit/verify { checkpoint? } -> VerifyReport (audit/verify.ts)
 *   POST /v1/audit/checkpoint           -> { size, note }
 *   GET  /v1/ca                         -> { authorities: AuthorityRow[] }
 *   GET  /v1/ca/:purpose                -> { purpose, pem }           verb ca or apply; purpose as for rotate
 *   POST /v1/ca/rotate { purpose }      -> { fingerprint, believedUntil }  verb ca
 *   GET  /v1/pins[/:server[?texts=1&name=]]  -> { pins: PinRow[], notices? }   verb pins, apply or audit.read
 *   POST /v1/pins/:server/approve PinsApprove -> PinsDecided          verb pins; all of them or none
 *   POST /v1/pins/:server/keep PinKeep  -> PinsDecided                verb pins
 *   POST /v1/pins/:server/look {}       -> McpLooked                  verb pins or apply; starts it, and pins what it offers
 *   POST /v1/mcp/scan      ServerWish   -> McpScan                    verb apply, and whatever applying it would need
 *   POST /v1/databases/look ServerWish  -> DatabaseLook              verb apply, and whatever applying it would need
 *   GET  /v1/databases/:name/setup[?read=&write=&schema=&owner=&from=] -> DatabaseSetupSteps   verb apply or ca
 *   POST /v1/databases/:name/check DatabaseCheck -> DatabaseChecked   verb apply or ca; comes in as each user
 *   POST /v1/databases/:name/server-certificate { csr, names?, ttl? } -> DatabaseSigned        verb ca
 *   /v1/delegations ..., POST /v1/exchange   see delegations-contract.ts   own without a verb
 *   /v1/requests ...                    see requests-contract.ts         whoever is signed in
 *   GET  /v1/upstream-credentials       -> UpstreamCredentials       verb secrets; see upstream-credentials-contract.ts
 *   GET  /v1/secrets | PUT /v1/secrets/:name { value } | DELETE /v1/secrets/:name[?force=true] -> { usedBy }   verb secrets; values are never shown
 */
import type { RecordType } from '../audit/record.ts'
import type { PinState } from '../catalog/pins.ts'
import type { RoleNotice } from '../documents/offers.ts'
import type { Applied, Change, Problem } from '../documents/types.ts'
import type { ReasonCode } from '../errors.ts'
import type { NotifierRow } from '../notify/types.ts'
import type { Effect } from '../policy/types.ts'
import type { KnownBrowser } from '../signin/browser.ts'
import type { KnownPasskey } from '../signin/passkey.ts'

export type { Applied, Change, Problem, RoleNotice }

export interface ErrorBody {
  readonly error: {
    readonly code: ReasonCode
    readonly message: string
    readonly fix?: string
    readonly decisionId?: string
    readonly hint?: string
    readonly problems?: readonly Problem[]
    /** `approval_required`: the question that waits. After the yes the same call succeeds, once. */
    readonly request?: { readonly id: string; readonly url: string; readonly expiresAt: number; readonly approvers: string }
  }
}

export interface EnrolBegin {
  readonly secret: string
}
export interface EnrolOffer {
  readonly name: string
  readonly trustDomain: string
  readonly totp: { readonly secret: string; readonly uri: string }
}
export interface EnrolFinish {
  readonly secret: string
  readonly csr: string
  readonly code: string
}
export interface Login {
  readonly name: string
  readonly csr: string
  readonly code: string
}
export interface Join {
  readonly token: string
  /** whose token it must be: one for somebody else is refused, and not used up */
  readonly as?: string
  readonly csr: string
  readonly purpose?: string
  readonly ttl?: string
  /** life of the session: nothing renews past it */
  readonly for?: string
}
export interface Renew {
  readonly csr: string
}
export interface ClientAsk {
  readonly client: string
  readonly csr: string
  readonly purpose?: string
}
export interface Issue {
  readonly name: string
  readonly csr?: string
  readonly token?: { readonly audience: string }
  readonly ttl?: string
  readonly purpose?: string
}
export interface Invite {
  readonly name: string
  readonly ttl?: string
}

export interface Bundles {
  readonly trustDomain: string
  readonly identity: string
  readonly server: string
}

export interface Credential {
  readonly identity: { readonly id: string; readonly name: string; readonly kind: string }
  readonly session: string
  readonly certificate: string
  readonly notAfter: number
  /** the session's longest life */
  readonly sessionUntil: number
  readonly bundles: Bundles
  /** where the gateways listen, as `host:port`; an empty host means the one already used */
  readonly listeners: { readonly data: string; readonly web: string; readonly postgres: string }
  /** After joining by a bound key: the count to bring the next time. */
  readonly joins?: number
}
export interface Token {
  readonly token: string
  readonly notAfter: number
  readonly session: string
}

/** `chaperone://<host:port>/<secret>?ca=<sha256 hex of the server authority's SPKI>`: address and trust in one line. */
export interface Invitation {
  readonly invitation: string
  /** of a person: to come in with a browser instead */
  readonly browser?: string
  readonly expiresAt: number
}

/** Opened in a browser, it makes that one known as its owner's; it signs nobody in. */
export interface BrowserLink {
  readonly url: string
  readonly expiresAt: number
}
export interface BrowserList {
  readonly browsers: readonly KnownBrowser[]
  readonly passkeys: readonly KnownPasskey[]
}

export interface WhoAmI {
  readonly id: string
  readonly name: string
  readonly kind: string
  readonly roles: readonly string[]
  readonly traits: Readonly<Record<string, unknown>>
  readonly session: {
    readonly id: string
    readonly how: string
    readonly startedAt: number
    readonly purpose?: string
    readonly factorAt?: number
    /** While it counts: what it was, and until when it stands for further decisions. */
    readonly factor?: { readonly by?: 'totp' | 'passkey' | 'directory'; readonly until: number }
  }
  /** `leaves`: what its delegation leaves to this link, one sentence a part; absent: nothing is left out */
  readonly chain: readonly { readonly name: string; readonly delegation?: string; readonly leaves?: readonly string[] }[]
  readonly notAfter: number
  readonly trustDomain: string
}

export interface Apply {
  readonly files: readonly { readonly path: string; readonly text: string }[]
  readonly owner?: string
  readonly prune?: boolean
  readonly dryRun?: boolean
}
export interface Document {
  readonly kind: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly spec: unknown
  readonly owner?: string
  readonly updatedAt: number
  readonly yaml: string
}

/** An action for `explain`: `mcp` {resource, tool, args}, `postgres` {resource, database, as, sql}, `chaperone` {verb}. */
export interface Explain {
  readonly as?: string
  readonly kind: string
  readonly resource?: string
  readonly operation?: string
  readonly tool?: string
  readonly args?: unknown
  readonly database?: string
  readonly user?: string
  readonly sql?: string
  readonly verb?: string
}
export interface Explained {
  readonly verdict: string
  readonly reason: ReasonCode
  readonly message: string
  readonly rule?: { readonly document: string; readonly section: string; readonly index: number; readonly text: string }
  readonly obligations: unknown
  readonly links: readonly {
    readonly name: string
    readonly verdict: string
    readonly reason: string
    readonly rule?: string
    /** what its delegation leaves to this link, one sentence a part */
    readonly leaves?: readonly string[]
    /** the part of that which stands in the way: roles, resources, tools, effects, where */
    readonly exceeded?: string
  }[]
  readonly missing?: string
  /** the request whose granted role this rests on, whose link has it, and until when */
  readonly grant?: { readonly request: string; readonly role: string; readonly link: string; readonly until: number }
  /** how to come to a yes: who can give it, what may be asked for, when it is allowed again */
  readonly hint?: string
  /** what a rule in shadow mode would have made of it: `deny: guardrail no-drops, deny rule 1` */
  readonly shadow?: string
  /** of a statement: what it is taken to do, and what rules read of it, as the record would have it; `looked`: with what the database says of itself */
  readonly statement?: {
    readonly looked: boolean
    readonly effects: readonly Effect[]
    readonly facts: Readonly<Record<string, unknown>>
    readonly unclear?: string
  }
  /** of a tool: what it is taken to do, on whose word, and whether somebody has looked at its definition */
  readonly tool?: {
    readonly effects: readonly Effect[]
    readonly effectsFrom: 'catalog' | 'server' | 'nobody'
    readonly definition: PinState | 'unseen'
  }
}

export interface IdentityRow {
  readonly id: string
  readonly name: string
  readonly kind: string
  readonly owner?: string
  readonly state: string
  readonly roles: readonly string[] | 'inherit'
  readonly traits: Readonly<Record<string, unknown>>
  readonly createdAt: number
}
export interface SessionRow {
  readonly id: string
  readonly identity: string
  readonly how: string
  readonly client?: string
  readonly purpose?: string
  readonly startedAt: number
  readonly expiresAt: number
  /** on this node */
  readonly connections: number
  readonly lastUsedAt?: number
}
export interface SessionDetail extends SessionRow {
  /** first = on whose behalf, last = the identity itself */
  readonly chain: readonly string[]
  /** as it claimed; nobody has checked it */
  readonly purpose?: string
  readonly issuer?: string
  /** of the node that answers; others may have more */
  readonly open: readonly { readonly id: string; readonly protocol: string; readonly since?: number; readonly credential?: string }[]
  /** the newest first */
  readonly actions: readonly {
    readonly at: number
    readonly summary: string
    readonly resource?: string
    readonly verdict: string
    readonly id: string
  }[]
  readonly grants: readonly { readonly role: string; readonly resource?: string; readonly until: number; readonly request: string }[]
  readonly limits: { readonly concurrent?: number; readonly idleMs?: number; readonly longestMs?: number }
}
/** What happens to sessions, as it happens on this node. */
export interface SessionNotice {
  readonly at: number
  readonly type: RecordType
  readonly session?: string
  readonly who?: string
  readonly text: string
}
export interface ResourceRow {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly address: string
  readonly about: string
  /** of a database server */
  readonly databases?: readonly string[]
  readonly warning?: string
  /** MCP servers: `login` wants one of the caller's own, `login_of_all` one that an administrator makes; `held`: some of its definitions wait for a decision */
  readonly state?: 'ready' | 'login' | 'login_of_all' | 'held'
}
export const LOCK_KINDS = ['identity', 'owner', 'agents', 'session', 'credential', 'resource', 'tool', 'role', 'everything'] as const
export interface LockAsk {
  /** a name or id; a resource as `kind/name`, a tool as `server/tool`, `*` for everything and for every agent */
  readonly target: string
  readonly kind: (typeof LOCK_KINDS)[number]
  readonly reason: string
  readonly ttl?: string
}
export interface LockRow {
  readonly id: string
  readonly kind: string
  readonly target: string
  readonly name: string
  readonly reason: string
  readonly createdAt: number
  readonly createdBy?: string
  /** the tripwire that made it by itself */
  readonly madeBy?: string
  readonly expiresAt?: number
  /** ms until every node had confirmed it */
  readonly acknowledgedMs?: number
}
export interface NotifierList {
  readonly notifiers: readonly NotifierRow[]
}
export interface NotifierTested {
  readonly ok: boolean
  /** why not, for the operator */
  readonly error?: string
}
export interface AuthorityRow {
  readonly purpose: string
  readonly fingerprint: string
  readonly state: string
  readonly createdAt: number
  readonly notAfter: number
  readonly believedUntil?: number
}
