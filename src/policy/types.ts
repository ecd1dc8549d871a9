import type { z } from 'zod'
import type { ReasonCode } from '../errors.ts'

/** What an action does to the world. Unknown effects are never `read`. */
export const EFFECTS = ['read', 'write', 'destroy', 'admin', 'egress'] as const
export type Effect = (typeof EFFECTS)[number]

export type Verdict = 'allow' | 'ask' | 'deny'

/** What is reached. `id` is immutable, `name` a label of its kind. */
export interface Resource {
  readonly kind: string
  readonly id: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
}

/** What an identity asks to do. Plain data; made by a gateway's `describe.ts`, read by the rules of the same kind. */
export interface Action {
  /** The vocabulary that judges it: `mcp`, `postgres`, `chaperone`. */
  readonly kind: string
  readonly resource: Resource
  /** The protocol's own word: `tools/call`, `connect`, `select`, `apply`. */
  readonly operation: string
  /** Never empty. */
  readonly effects: readonly Effect[]
  /** What the matchers of this vocabulary read (tool, args, tables ...). Each gateway's `describe.ts` documents its shape. */
  readonly facts: Readonly<Record<string, unknown>>
  /** One line for people, without secrets: `tools/call read_file`, `UPDATE public.customers`. */
  readonly summary: string
  /** Set when the call came in through another protocol. */
  readonly via?: string
  /** The thing whose approved definition must hold for the action (catalog/pins.ts); a changed one is quarantined. */
  readonly subject?: { readonly kind: 'tool' | 'prompt' | 'template'; readonly name: string }
  /**
   * Set when arguments and statements are not known yet: the handshake of a connection, an entry of a list that is being
   * filtered. A `where` that reads them then counts as fulfillable in allow and as not met elsewhere: a condition about
   * tools must never block `tools/list` (peers.md R30), and each call is judged with its arguments anyway.
   */
  readonly partial?: true
  /** Set when the meaning cannot be known for sure: no rule may allow it; the text says why. */
  readonly unclear?: string
}

/** An identity as policy sees it. `roles` are names. */
export interface Identity {
  readonly id: string
  readonly kind: 'user' | 'agent' | 'node'
  readonly name: string
  readonly ownerId?: string
  readonly traits: Readonly<Record<string, unknown>>
  readonly roles: readonly string[]
}

/** One link of a delegation chain. The first link is on whose behalf it all happens, the last is who acts. */
export interface Link {
  readonly identity: Identity
  /** The delegation by which this link acts for the one before; absent on the first link. */
  readonly delegationId?: string
  /** What the delegation leaves of everything that the roles would allow. Never changed once made: what is compiled of it is kept. */
  readonly limits?: Limits
  /** Roles that this link was given for a while, beside its own; the limits hold for them as well (rule 7). */
  readonly grants?: readonly GrantedRole[]
}

/** What a delegation leaves over. Each part that is set must hold; none of them ever allows anything by itself (rule 7). */
export interface Limits {
  /** names of roles: no other counts on this link; what others deny stays denied */
  readonly roles?: readonly string[]
  /** globs over `kind/name`: `mcp/files`, `postgres/*` */
  readonly resources?: readonly string[]
  /** globs over `server/tool`: of MCP servers only these tools, no prompts and no resources; other kinds are left alone */
  readonly tools?: readonly string[]
  /** Only actions all of whose effects are among these. */
  readonly effects?: readonly Effect[]
  /** CEL, as in a rule; an error does not match */
  readonly where?: string
}

/** A role that somebody asked for and was given for a while. */
export interface GrantedRole {
  readonly role: string
  /** id of the request */
  readonly request: string
  /** It counts on this resource alone. */
  readonly resourceId?: string
  /** ms since 1970; what rests on it ends there */
  readonly until: number
}

export interface Question {
  /** At least one. Each is judged with its own identity; the tightest verdict holds. */
  readonly links: readonly Link[]
  readonly session: { readonly id: string; readonly startedAt: number; readonly how: string; readonly purpose?: string }
  readonly action: Action
  /** ms since 1970 */
  readonly now: number
}

/** Where a rule stands: enough to find it and to say it. */
export interface RuleRef {
  /** name of the role or guardrail */
  readonly document: string
  readonly kind: 'role' | 'guardrail'
  /** `limit` only in guardrails: it never decides, it adds obligations */
  readonly section: Section | 'limit'
  /** position inside the section, from 0 */
  readonly index: number
  /** sha256 (hex) of the canonical rule; an approval is bound to it */
  readonly digest: string
}

/** One rule that wants a human's yes. Along a chain, and from guardrails, there may be several. */
export interface Ask {
  readonly rule: RuleRef
  /** id of the identity whose link it is */
  readonly link: string
  readonly approvers: Approvers | undefined
  /** Whether the one who asks must say why, and the form of it (a regular expression for a ticket). */
  readonly reason?: 'required' | 'optional' | { readonly pattern: string }
  /** Nobody answered for this long (ms): these may as well. */
  readonly escalate?: { readonly afterMs: number; readonly approvers: Approvers }
  /** ms that the question stays open; and an approval that is not used */
  readonly expiresMs?: number
}

/** Who may say yes. */
export type Approvers =
  /** the person behind the agent: a confirmation, never an approval */
  | 'owner'
  | ApproverGroup
  /** each of these groups must be satisfied, by different people */
  | { readonly all: readonly ApproverGroup[] }

export interface ApproverGroup {
  /** holders of one of these roles */
  readonly role?: string | readonly string[]
  /** names of users */
  readonly users?: readonly string[]
  /** how many of them; default 1 */
  readonly count?: number
}

/** What may be asked for: an entry of a role's `request`. */
export interface Way {
  readonly role: string
  /** id of the link that may ask */
  readonly link: string
  /** ms at the most */
  readonly maxMs?: number
  readonly reason?: Ask['reason']
  /** It helps only when those who act for that link are given it as well (`below` of the decision). */
  readonly below?: true
}

/** What must be kept when an allowed action goes on. Each vocabulary says how its fields merge. */
export type Obligations = Readonly<Record<string, unknown>>

export interface Decision {
  readonly verdict: Verdict
  readonly reason: ReasonCode
  /** The rule that decided; absent when no rule matched. */
  readonly rule?: RuleRef
  /** The link (its identity's name) that was tightest. */
  readonly link: string
  readonly obligations: Obligations
  /** ms since 1970 at which a `when` on the way to this verdict changes; the permit ends there. */
  readonly until?: number
  /** True when the identity may see or ask for this resource at all: only then may a refusal explain itself (rule 8). */
  readonly visible: boolean
  /** One sentence for the person or model that was refused; never names what it may not see. */
  readonly message: string
  /** How to ask, when a role's `request` names a way. */
  readonly hint?: string
  /** Set when the verdict is `ask`: every one of them must be answered with yes. */
  readonly asks?: readonly Ask[]
  /** id of the request whose granted role this verdict rests on */
  readonly grant?: string
  /** What a rule in shadow mode would have made of it: recorded, and nothing else. */
  readonly shadow?: { readonly verdict: 'deny' | 'ask'; readonly rule: RuleRef }
  /** What may be asked for instead, when it is refused: each would come to a yes, or to a question. */
  readonly ways?: readonly Way[]
  /** Seconds after which the same may be tried again: a limit is reached. */
  readonly retryAfter?: number
  /** Set with `delegation_exceeded` when limits of a delegation stand in the way: whose link, and which part of them. */
  readonly limit?: {
    readonly link: string
    readonly delegation?: string
    readonly part: keyof Limits
    /** Nothing else stands in the way: with a delegation that did not say which effects there may be, it would come to a yes or to a question. */
    readonly alone?: true
  }
  /** For the log only: which rules failed and how (they did not match in allow and ask, and matched elsewhere). */
  readonly detail?: string
}

/** The identity's values for templates such as `{{identity.name}}`, and for `where`. */
export interface Variables {
  readonly identity: Identity
  readonly session: Question['session']
  readonly now: number
}

export type Section = 'allow' | 'ask' | 'deny'

/**
 * The words that roles use for one protocol. Each gateway's `rules.ts` exports one; `server/` hands them to policy at
 * start, so policy knows no protocol and no protocol is judged in two ways.
 */
export interface Vocabulary {
  /** The kind of resource and the key that selects it in a rule: `- mcp: files`, `- postgres: { labels: ... }`. */
  readonly kind: string
  /** The other keys a rule may carry (without `where`, `approvers`, `reason`). */
  readonly fields: z.ZodObject
  /** Of these keys at least one must be written in allow and ask: what may be done is never implied. */
  readonly what: readonly string[]
  /** Keys of `fields` that are obligations, and how two of them merge. */
  readonly obligations: Readonly<Record<string, ObligationMerge>>
  /** Makes the matcher of one rule (fields validated). In `deny`, what is omitted means everything. Throws ChaperoneError('invalid_document'). */
  compile(fields: Readonly<Record<string, unknown>>, section: Section): Matcher
  /**
   * What a client must do before it can do anything, and which does nothing: a connection, a handshake. An ask rule allows that:
   * nobody could be asked otherwise.
   */
  opens?(action: Action): boolean
  /** What an ask rule is never about, because it only shows what could be asked about: then the rule allows it. */
  unasked?(action: Action): boolean
  /**
   * The tool that the action uses, for limits of a delegation that name tools; '': what any use of a tool needs (handshake, list,
   * what the server asks back); undefined: it is no tool. A vocabulary without it knows no tools, and such limits leave it alone.
   */
  tool?(action: Action): string | undefined
  /**
   * What `where:` (CEL) reads as `args` for this action: `{ path }` is `args.path`. An argument with a number that a double
   * does not keep must throw when it is read (`trapLossy` in args.ts).
   */
  variables?(action: Action): Readonly<Record<string, unknown>>
  /** What of a rule can never hold for what the resources that it selects are known to offer (fit.ts). Pure. */
  misfits?(rule: RuleConditions, offers: readonly Offer[]): readonly Misfit[]
  /**
   * What of an action's facts goes into its record: small (a few KiB at the most), and what is too long for that as texts
   * beside it. Without it the record has the summary alone.
   */
  recorded?(action: Action): {
    readonly facts: Readonly<Record<string, unknown>>
    readonly bodies?: readonly RecordedText[]
    /** in the place of the action's own `unclear`, where that may quote what is not to be kept */
    readonly unclear?: string
  }
  /** The facts of an action that was recorded, exactly as they were judged; undefined when the record does not hold them (any more). */
  recalled?(recorded: RecordedAction): Readonly<Record<string, unknown>> | undefined
  /** Whether a recorded action was `partial` when it was judged: a handshake, an entry of a list. Absent: none ever is. */
  wasPartial?(recorded: Pick<RecordedAction, 'operation' | 'facts'>): boolean
  /** Rules that would speak of this action in this section, the narrowest first: fields without the selector. For `audit rule`. */
  propose?(action: Action, section: 'allow' | 'deny'): readonly Readonly<Record<string, unknown>>[]
  /** What is used of the resource (`tool read_file`), for limits that are counted for each; '' when it has no name of its own. */
  item?(action: Action): string
}

/** A text that lies beside a record. */
export interface RecordedText {
  readonly name: string
  readonly bytes: string
}

/** What a record holds of an action. */
export interface RecordedAction {
  readonly operation: string
  readonly facts: Readonly<Record<string, unknown>>
  /** by name; only those that are whole: not cut, nothing in them masked, not erased */
  readonly texts: ReadonlyMap<string, string>
}

/** What one resource is known to offer, as it was approved. Nothing known is not the same as nothing offered. */
export interface Offer {
  readonly resource: Resource
  readonly things: readonly { readonly kind: 'tool' | 'prompt'; readonly name: string; readonly definition: unknown }[]
}

/** The part of a rule that can be held against definitions. */
export interface RuleConditions {
  readonly section: RuleRef['section']
  readonly fields: Readonly<Record<string, unknown>>
  /** what its `where` reads below `args`: `[['path'], ['options', 'depth']]` */
  readonly reads: readonly (readonly string[])[]
}

/** A condition that does not fit. `path` counts from the rule. */
export interface Misfit {
  readonly path: readonly (string | number)[]
  /** error: it fails for everything that the rule speaks of; warning: that cannot be said, or not yet */
  readonly level: 'error' | 'warning'
  readonly message: string
  readonly fix?: string
}

/** True when the rule speaks of this action. Pure. May throw: an error does not match in allow and ask, and matches in deny. */
export type Matcher = (action: Action, variables: Variables) => boolean

export interface ObligationMerge {
  /** among several rules of one identity: the least binding */
  least(a: unknown, b: unknown): unknown
  /** from guardrails and over chain links: the most binding */
  most(a: unknown, b: unknown): unknown
  /** What the field of a rule demands, when that says whose rule it is; `rest` is sha256 (hex) of the rule without the field. Default: the value as written. */
  ofRule?(value: unknown, rule: RuleRef, rest: string): unknown
  /** The demand, when that says whom it binds. Called when the rules and guardrails of one link are merged. */
  ofLink?(value: unknown, identity: Identity): unknown
}
