import { ChaperoneError } from '../../errors.ts'

/** What the record keeps of a refused join, and the caller is not told. */
export interface RefusedFacts {
  /** why, for whoever reads the record */
  readonly why: string
  readonly document?: string
  readonly method?: string
  readonly subject?: string
  /** the claim that did not match, what the caller had, and what the rule wants */
  readonly claim?: string
  readonly value?: string
  readonly rule?: string
  /** the key that was shown a second time */
  readonly key?: string
}

const LONGEST_VALUE = 200

/** A value of the caller's own proof, as it may stand in a message and a record. */
export const shownValue = (value: string | readonly string[] | undefined): string => {
  if (value === undefined) return 'absent'
  const text = typeof value === 'string' ? value : value.join(', ')
  return JSON.stringify(text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}…` : text)
}

/** The same answer for a document that is not there and for a proof that does not do; `told` speaks only of the caller's own proof. */
export class JoinRefused extends ChaperoneError {
  readonly facts: RefusedFacts

  constructor(told: string, facts: RefusedFacts, options: { readonly fix?: string; readonly cause?: unknown } = {}) {
    super('join_refused', `Nobody joins like this: ${told}`, {
      fix:
        options.fix ??
        'Check the name after --as and what this machine shows: it may be over, or used. The record of the server says more to an administrator.',
      detail: facts.why,
      ...(options.cause === undefined ? {} : { cause: options.cause }),
    })
    this.name = 'JoinRefused'
    this.facts = facts
  }
}

/** What everybody is told who has proven nothing yet: the same as for a name that does not exist (rule 8). */
export const UNKNOWN = 'there is no such way to join, or what was shown does not prove it.'

/** Of somebody who has not proven to come from whom the document believes: what is wrong stands in the record alone. */
export const unproven = (why: string, facts: Omit<RefusedFacts, 'why'>, cause?: unknown): JoinRefused =>
  new JoinRefused(UNKNOWN, { why: why.replace(/\.$/, ''), ...facts }, cause === undefined ? {} : { cause })
