import type { Policy } from './compile.ts'
import type { AutomaticRule, RequestEntry } from './entry.ts'
import { leaves, ownRoles } from './judge.ts'
import type { Identity, Link, Question, Resource, Way } from './types.ts'
import { askedScope } from './where.ts'

/**
 * What this link may ask for now: what its own roles name, in their hours. Not what a granted role names: one yes never
 * leads to the next question by itself. Only roles that exist, and that its delegation does not leave out.
 */
export function entriesFor(policy: Policy, link: Link, now: number): readonly RequestEntry[] {
  return ownRoles(policy, link)
    .filter((role) => role.when?.at(now).active !== false)
    .flatMap((role) => role.requests)
    .filter(({ role }) => policy.roles.has(role) && leaves(link, role))
}

/** What somebody wants. Several roles may name the same role on different terms; what fits the whole wish is taken. */
export interface Wanted {
  readonly role: string
  readonly resource?: Resource | undefined
  /** ms */
  readonly forMs?: number
  readonly breakGlass?: boolean
  readonly now: number
}

/**
 * The entry by which the acting link, the last, may ask; links above it ask for themselves (rule 7: a grant belongs to the link
 * that asked). The one that fits everything comes first; else the first of that role, and the caller says what does not fit.
 * undefined: this role may not be asked for, and must look as if it did not exist (rule 8).
 */
export function entryFor(policy: Policy, links: readonly Link[], wanted: Wanted): { readonly entry: RequestEntry; readonly link: Link } | undefined {
  const link = links.at(-1)
  if (link === undefined) return undefined
  const entries = entriesFor(policy, link, wanted.now).filter(({ role }) => role === wanted.role)
  const fits = (entry: RequestEntry) =>
    (!entry.named || wanted.resource !== undefined) &&
    (wanted.forMs === undefined || wanted.forMs <= entry.maxMs) &&
    (wanted.breakGlass !== true || entry.breakGlass)
  const entry = entries.find(fits) ?? entries[0]
  return entry && { entry, link }
}

/** A request as automatic rules see it. */
export interface AskedFor {
  readonly identity: Identity
  readonly session: Question['session']
  readonly now: number
  /** ms */
  readonly forMs: number
  /** what the one who asks says; nobody has looked at it */
  readonly reason: string
  readonly resource?: Resource | undefined
}

/**
 * The answer that needs no human. Refuse stands above approve; a rule that fails refuses, and approves nothing (rule 1).
 * undefined: a human decides.
 */
export function automatic(entry: RequestEntry, asked: AskedFor): 'approve' | 'refuse' | undefined {
  const of = (answer: AutomaticRule['answer']) => entry.automatic.filter((rule) => rule.answer === answer)
  if (of('refuse').some((rule) => holds(rule, entry, asked) !== false)) return 'refuse'
  return of('approve').some((rule) => holds(rule, entry, asked) === true) ? 'approve' : undefined
}

/** undefined: it failed. */
function holds({ answer, edgeMs, when, where }: AutomaticRule, entry: RequestEntry, asked: AskedFor): boolean | undefined {
  if (edgeMs !== undefined && (answer === 'approve' ? asked.forMs > edgeMs : asked.forMs <= edgeMs)) return false
  if (when && !when.at(asked.now).active) return false
  if (!where) return true
  const { resource, reason, forMs } = asked
  const about = resource && { kind: resource.kind, name: resource.name, labels: resource.labels }
  // CEL counts whole numbers in bigint.
  const args = { role: entry.role, seconds: BigInt(Math.ceil(forMs / 1000)), reason, ...(about ? { resource: about } : {}) }
  try {
    return where.test(askedScope(asked, args))
  } catch {
    // Said by the answer alone: there is no action here to whose decision a detail could be added.
    return undefined
  }
}

/** What may be asked for, as it is told to who may ask. */
export function wayOf(entry: RequestEntry, link: Link): Way {
  return { role: entry.role, link: link.identity.id, maxMs: entry.maxMs, ...(entry.reason === undefined ? {} : { reason: entry.reason }) }
}
