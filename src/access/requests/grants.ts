import { ChaperoneError } from '../../errors.ts'
import type { ChainLink } from '../../identity/types.ts'
import type { Policy } from '../../policy/compile.ts'
import type { GrantedRole } from '../../policy/types.ts'
import type { RequestTable } from '../../store/tables-requests.ts'
import { VERBS, type Verb, verbsNamed } from '../administration.ts'
import type { RequestParts } from './parts.ts'
import type { Looked } from './seeing.ts'

/** The verbs of Chaperone that a role can give at all, whatever its conditions. */
function verbsOf(policy: Policy, role: string): readonly Verb[] {
  const table = policy.roles.get(role)?.kinds.get('chaperone')
  const rules = [...(table?.allow.all ?? []), ...(table?.ask.all ?? [])]
  const named = rules.flatMap(({ spec }) => verbsNamed((spec as { readonly verbs?: unknown }).verbs))
  return VERBS.filter((verb) => named.includes(verb))
}

/** Nobody grants what he does not have (design 3.8): whoever says yes to a role with verbs of Chaperone holds them himself. */
export function whyNotGrant({ state, voters }: Pick<RequestParts, 'state' | 'voters'>, { request, voter }: Looked): ChaperoneError | undefined {
  if (request.kind !== 'access' || !voter) return undefined
  const { role } = request.body
  const lacking = verbsOf(state.current().policy, role).filter((verb) => !voters.holds(voter.id, verb, { startedAt: 0, how: 'login' }))
  if (lacking.length === 0) return undefined
  // What he has with somebody else's yes for each time, he cannot hand on for hours in which nobody is asked who knows of it.
  if (lacking.every((verb) => voters.mayAsk(voter.id, verb, { startedAt: 0, how: 'login' })))
    return new ChaperoneError(
      'approval_refused',
      `The role ${role} gives \`${lacking.join('`, `')}\` of Chaperone, for which a rule wants somebody else's yes: nobody gives it for a while on his own.`,
      { fix: 'Give the role with a document of kind user, about which the rule asks as well: chaperone apply' },
    )
  return new ChaperoneError(
    'approval_refused',
    `The role ${role} gives \`${lacking.join('`, `')}\` of Chaperone, which you do not hold: nobody grants what they do not have.`,
  )
}

/** The rows that may give something, as the state loads them. */
export const GRANTING = ['id', 'identity_id', 'chain', 'role', 'resource_id', 'starts_at', 'ends_at', 'below'] as const
export type GrantRow = Pick<RequestTable, (typeof GRANTING)[number]>

interface Grant extends GrantedRole {
  readonly chain: readonly string[]
  readonly from: number
  readonly below: boolean
}

/** What was granted, found by the chain that asked. */
export interface Grants {
  /** Of the link at this place of a chain: its own, and what a link above it was given with those below (rule 7). */
  of(chain: readonly ChainLink[], at: number, now: number): readonly GrantedRole[]
  /** The next moment at which one of them begins or ends; infinite when none does. */
  changesAt(now: number): number
}

/** Undefined when nothing is granted: then no question pays for it. */
export function grantsOf(rows: readonly GrantRow[]): Grants | undefined {
  const byIdentity = new Map<string, Grant[]>()
  for (const row of rows) {
    if (row.role === null || row.starts_at === null || row.ends_at === null) continue
    const grant: Grant = {
      role: row.role,
      request: row.id,
      ...(row.resource_id === null ? {} : { resourceId: row.resource_id }),
      until: row.ends_at,
      from: row.starts_at,
      chain: (JSON.parse(row.chain) as ChainLink[]).map((link) => link.identity),
      below: row.below === 1,
    }
    byIdentity.set(row.identity_id, [...(byIdentity.get(row.identity_id) ?? []), grant])
  }
  if (byIdentity.size === 0) return undefined
  return {
    changesAt(now) {
      let next = Number.POSITIVE_INFINITY
      for (const grants of byIdentity.values())
        for (const { from, until } of grants) {
          if (from > now) next = Math.min(next, from)
          else if (until > now) next = Math.min(next, until)
        }
      return next
    },
    of(chain, at, now) {
      const found: GrantedRole[] = []
      for (let link = at; link >= 0; link--) {
        for (const { from, below, chain: asked, ...grant } of byIdentity.get(chain[link]!.identity) ?? []) {
          if (link !== at && !below) continue
          // Asked by the same identities in the same order: as part of another chain it acts for somebody else.
          if (asked.length !== link + 1 || asked.some((identity, i) => identity !== chain[i]!.identity)) continue
          if (from <= now && now < grant.until) found.push(grant)
        }
      }
      return found
    },
  }
}
