/** Of `contract.ts`, what is asked about policy that is not applied. */

/** The documents that would be applied, as `apply` takes them. */
export interface WouldApply {
  readonly files: readonly { readonly path: string; readonly text: string }[]
}

export interface Replay extends WouldApply {
  /** ms since 1970 */
  readonly since: number
  readonly until?: number
}

/** What other roles would have decided about what was done. Every action is counted once: same, differs, bound, or cannot tell. */
export interface Replayed {
  readonly since: number
  readonly actions: number
  readonly same: number
  readonly differs: number
  /** allowed (or asked for) as before, under other demands: another mask, cap or limit */
  readonly bound: number
  readonly cannotTell: number
  /** the same difference for the same identity is one, with an example; the most frequent first */
  readonly changes: readonly ReplayChange[]
  readonly unknowns: readonly { readonly why: string; readonly count: number; readonly record: string }[]
  /** more kinds of difference than are listed */
  readonly moreChanges?: number
  /** It looked at so many actions that it stopped; what is older than this (ms since 1970) was not looked at. */
  readonly stoppedAt?: number
}

export interface ReplayChange {
  readonly who: string
  readonly resource: string
  readonly action: string
  readonly was: string
  readonly would: string
  /** the same verdict, and these demands would be others: `mask`, `max_rows` ... */
  readonly fields?: readonly string[]
  /** the rule that would decide; absent: no rule allows it */
  readonly rule?: string
  readonly count: number
  /** id of one of the records */
  readonly record: string
}

/** Who would gain or lose what. */
export interface PolicyDiff {
  readonly changed: readonly string[]
  readonly identities: number
  readonly questions: number
  readonly differences: readonly PolicyDifference[]
  readonly moreDifferences?: number
  /** what was not asked, and could not be */
  readonly notes: readonly string[]
}

export interface PolicyDifference {
  /** bound: allowed before and after, under other demands */
  readonly change: 'gains' | 'loses' | 'bound'
  readonly who: string
  readonly resource: string
  readonly what: string
  readonly before: string
  readonly after: string
  /** the rules that decide; absent: no rule allows it */
  readonly ruleBefore?: string
  readonly rule?: string
}

/** The narrowest role under which what was done could be done again. */
export interface Suggested {
  readonly identity: string
  /** A document of kind role, as YAML; '' when nothing was done. */
  readonly yaml: string
  readonly actions: number
  readonly covered: number
  /** what no rule could be drafted for */
  readonly left: readonly string[]
  readonly unknowns: Replayed['unknowns']
  readonly stoppedAt?: number
}
