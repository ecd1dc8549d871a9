import { formatDuration } from '../../encoding/duration.ts'
import { limitsInWords } from '../../policy/narrowing-words.ts'
import type { Limits } from '../../policy/types.ts'
import type { DelegationHow } from './delegations.ts'

/** Who gives what to whom. */
export interface Consent {
  /** name of the person (or agent) that gives */
  readonly from: string
  /** name of the agent that gets it: `boris/claude-code` */
  readonly to: string
  readonly limits: Limits
  readonly how?: DelegationHow
  /** the program or OAuth client that will use it, and where it lives (the host of its redirect), when that is another thing than the agent */
  readonly client?: { readonly name: string; readonly host?: string }
  /** ms; absent: until it is revoked */
  readonly forMs?: number
  /** It ends with the session of who gives it. */
  readonly bound?: boolean
}

/** Words with one sign between two of them: nothing that could be read as the rest of a sentence, or as its end. */
const PLAIN = /^[\p{L}\p{N}]+(?:(?: |[._+/:@-]+)[\p{L}\p{N}]+)*$/u

/** A name that somebody gave himself, as it may stand in a sentence of ours. */
export const called = (name: string): string => (PLAIN.test(name) ? name : `“${name.replace(/[“”„‟«»"]/g, "'")}”`)

/**
 * What a person reads before he agrees, one sentence a line; joined with spaces it is kept with the delegation as its `words`.
 * Names come from outside: whoever shows the sentences writes out what cannot be seen.
 */
export function consentWords({ from, to, limits, how, client, forMs, bound }: Consent): readonly string[] {
  const narrow = limitsInWords(limits)
  const by = client === undefined ? '' : ` (${called(client.name)}${client.host === undefined ? '' : `, which answers at ${client.host}`})`
  const agree = how === 'exchange' ? `${from} hands on to ${to}${by} what it may do itself.` : `${to}${by} may act on behalf of ${from}.`
  const ends = [
    ...(forMs === undefined ? [] : [`for ${formatDuration(forMs)}`]),
    ...(bound ? [`no longer than ${from} is signed in`] : forMs === undefined ? ['until it is revoked'] : []),
  ]
  return [
    agree,
    ...(narrow.length === 0
      ? [`Nothing that ${from} may do is left out, but administering Chaperone; and it never gets more than ${from} has at that moment.`]
      : ['It gets no more than this:', ...narrow]),
    `It holds ${ends.join(', and ')}.`,
    `Everything it does is recorded under both names, and ${from} can revoke it at any time.`,
  ]
}
