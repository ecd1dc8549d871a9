import type { FactFilter } from '../audit/fact-filter.ts'

/** Of `contract.ts`, what the record answers with. */

/** What to look for, as the query string of `GET /v1/audit`. All that is given must hold; newest first. */
export interface AuditQuery extends FactFilter {
  /** name or id of an identity; a person's agents are found with him */
  readonly actor?: string
  readonly type?: string
  readonly session?: string
  /** `files`, `mcp/files`, or an id */
  readonly resource?: string
  readonly verdict?: 'allow' | 'ask' | 'deny'
  /** ms since 1970; `since` included, `until` not */
  readonly since?: number
  readonly until?: number
  /** found in the record or beside it, in any case */
  readonly text?: string
  /** at most 1000, default 100 */
  readonly limit?: number
  /** `next` of the page before */
  readonly before?: string
}
export interface AuditPage {
  readonly records: readonly AuditRow[]
  readonly next?: string
  /** A search for what has no index stopped after so many records; go on with `next`. */
  readonly stoppedAfter?: number
}
export interface AuditRow {
  readonly id: string
  readonly at: number
  readonly type: string
  readonly node: string
  readonly seq: number
  readonly position?: number
  readonly actor?: string
  readonly chain?: readonly string[]
  readonly session?: string
  readonly resource?: string
  readonly action?: string
  readonly effects?: readonly string[]
  readonly verdict?: string
  readonly reason?: string
  readonly rule?: string
  /** id of the request that the record is about */
  readonly request?: string
  /** of an intent: it had to be asked for (`verdict` is `ask`), and was sent on by this approval */
  readonly approval?: AuditApproval
  /** what a rule in shadow mode would have made of it: `deny: guardrail no-drops, deny rule 1` */
  readonly shadow?: string
  readonly purpose?: string
  readonly outcome?: string
  /** what else came of it: rows, bytes, ms, sqlstate, capped, transaction ... */
  readonly result?: Readonly<Record<string, unknown>>
  /** what the rules read of the action: tables, columns, database user ... */
  readonly facts?: Readonly<Record<string, unknown>>
  readonly statement?: string
  /** of a tool call, as JSON */
  readonly arguments?: string
}
/** Who said yes, first to last; the names are those of now. Absent in `audit tail`: it looks nothing up. */
export interface AuditApproval {
  readonly request: string
  readonly by: readonly { readonly name: string; readonly at: number; readonly how: string }[]
}
export interface AuditDetail {
  readonly envelope: unknown
  /** of an intent that had to be asked for: whose yes it used up */
  readonly approval?: AuditApproval
  /** of an intent: what came of it */
  readonly outcome?: Readonly<Record<string, unknown>>
  readonly transaction?: AuditTransaction
  readonly bodies: readonly { readonly name: string; readonly text?: string; readonly erased?: boolean }[]
  readonly leafHash: string
  readonly position?: number
}
/** The rule that would have refused an action, or allowed a refused one, as it was found by judging again. */
export interface AuditRule {
  readonly record: string
  readonly want: 'allow' | 'deny'
  readonly action: string
  /** by the rules of today; absent when it cannot be judged again */
  readonly now?: JudgedAgain
  readonly draft?: {
    readonly kind: 'role' | 'guardrail'
    readonly document: string
    readonly isNew: boolean
    /** identities that would have to be given the role */
    readonly givenTo: readonly string[]
    readonly section: 'allow' | 'deny'
    readonly rule: Readonly<Record<string, unknown>>
    readonly yaml: string
  }
  /** with the draft */
  readonly withDraft?: JudgedAgain
  readonly message: string
}
export interface JudgedAgain {
  readonly verdict: string
  readonly reason: string
  readonly rule?: string
  readonly obligations: unknown
}
/** The statements of one transaction that are found near the record, oldest first. */
export interface AuditTransaction {
  /** `<connection>.<number>`, as `audit search --transaction` takes it */
  readonly id: string
  /** absent: nothing says it, or it is under way */
  readonly ended?: 'committed' | 'rolled back'
  readonly statements: readonly { readonly id: string; readonly at: number; readonly action: string; readonly outcome: string }[]
}
