/**
 * Agents and their running copies. An instance is a live session of an agent.
 *
 *   GET  /v1/instances[?of=NAME&limit=]        -> InstanceList     verb identities, lock or audit.read; own without
 *   GET  /v1/agents[?due=1]                    -> { agents: AgentRow[] }   verb identities or audit.read; own without
 *   GET  /v1/agents/:name                      -> AgentDetail      verb identities or audit.read; its owner without
 *   POST /v1/agents/:name/review AgentReview   -> AgentRow         its owner, or verb identities; a person with a fresh factor
 */
export interface InstanceList {
  readonly instances: readonly InstanceRow[]
  /** ms since 1970: from when on `actionsToday` counts */
  readonly today: number
  /** there are more than were asked for */
  readonly more?: true
}

export interface InstanceRow {
  /** of its session */
  readonly id: string
  readonly agent: string
  readonly owner?: string
  /** `locked`: by a lock that falls on it now; `stopped`: it, or its owner, may not act */
  readonly state: 'live' | 'locked' | 'stopped'
  /** of `locked` and `stopped`: why */
  readonly why?: string
  /** in a few words: what it proved when it joined, or who started it, and from where */
  readonly where: string
  readonly how: string
  readonly client?: string
  /** as it claims */
  readonly purpose?: string
  readonly cameFrom?: string
  readonly joined?: { readonly method: string; readonly document: string; readonly subject: string }
  readonly roles: readonly string[]
  readonly startedAt: number
  /** when something was last asked for in it; half a minute late at the most */
  readonly lastSeenAt?: number
  readonly expiresAt: number
  /** on the node that answers */
  readonly connections: number
  /** since midnight, UTC */
  readonly actionsToday: number
  /** it did more than were counted */
  readonly moreActions?: true
}

export interface AgentRow {
  readonly id: string
  readonly name: string
  readonly owner?: string
  readonly state: 'active' | 'stopped'
  /** of `stopped`: `hand`, `unused`, `unreviewed`, `owner` (disabled or gone), `directory` */
  readonly stopped?: string
  readonly roles: readonly string[] | 'inherit'
  /** `document`, or `client`: made when a client of its owner first asked */
  readonly source: string
  readonly instances: number
  readonly createdAt: number
  readonly lastUsedAt?: number
  readonly reviewedAt?: number
  readonly reviewedBy?: string
  /** ms: what its document, or its kind, demands */
  readonly terms: { readonly unusedMs?: number; readonly reviewMs?: number }
  /** when the first of its terms is over */
  readonly due?: { readonly why: 'unused' | 'unreviewed'; readonly at: number }
  /** when it will be stopped, as its people were told */
  readonly stopsAt?: number
}

export interface AgentRole {
  readonly name: string
  /** no such role is applied: it gives nothing */
  readonly missing?: true
  readonly rules: readonly {
    readonly section: 'allow' | 'ask' | 'deny'
    /** from 0 */
    readonly index: number
    readonly words: string
    /** of allow and ask: whether anything done in the last 30 days rested on it */
    readonly used?: boolean
  }[]
  /** roles that it may ask for */
  readonly mayAsk: readonly string[]
}

export interface AgentDetail extends AgentRow {
  readonly running: readonly InstanceRow[]
  /** documents by which it joins without a secret */
  readonly joins: readonly { readonly name: string; readonly method: string }[]
  /** join tokens that nobody has used yet */
  readonly openTokens: number
  readonly delegations: readonly {
    readonly id: string
    /** on whose behalf it acts; or `to`, to whom it handed on */
    readonly from: string
    readonly to: string
    readonly how?: string
    readonly client?: string
    readonly words?: string
    readonly createdAt: number
    readonly expiresAt?: number
  }[]
  readonly holds: readonly AgentRole[]
  /** what the record says of the last `days` */
  readonly usage?: AgentUsage
  /** of what is shown here about rights; a review names it, so that nobody keeps what he did not see */
  readonly seen: string
}

export interface AgentUsage {
  readonly days: number
  /** done, and judged again here */
  readonly actions: number
  /** done, and nobody can say by which rule */
  readonly unclear: number
  /** not all of the time was looked at: only what is newer than this (ms since 1970) */
  readonly since?: number
  /** rules that give something and that nothing was done by */
  readonly unused: number
  /** the narrowest role under which all of it could be done again; '' when nothing was done */
  readonly proposed: string
}

export interface AgentReview {
  /** `narrowed`: its roles were changed first, and are fine as they are now; `stop`: disabled at once */
  readonly decision: 'keep' | 'narrowed' | 'stop'
  readonly reason?: string
  readonly seen: string
}
