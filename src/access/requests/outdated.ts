import type { ChainLink } from '../../identity/types.ts'
import type { Policy } from '../../policy/compile.ts'
import type { Store } from '../../store/store.ts'
import type { State } from '../state.ts'
import type { AccessRequest } from './types.ts'

/**
 * Of questions about a call: why their answer would change nothing any more, as far as their rows alone say it. For those whose node is
 * gone, or has been started anew, and cannot ask policy about the call again (access/questions.ts does that).
 */
export async function outdatedOf(store: Store, state: Pick<State, 'policy' | 'find'>, pending: readonly AccessRequest[]) {
  const asking = new Map<string, ReadonlySet<string>>()
  const rulesOf = (kind: string) => {
    const known = asking.get(kind) ?? digestsOf(state.policy, kind)
    asking.set(kind, known)
    return known
  }
  const acts = await standing(
    store,
    pending.flatMap(({ chain }) => chain),
  )
  return (request: AccessRequest): string | undefined => {
    if (request.kind !== 'call') return undefined
    const { kind, resource, rules } = request.body
    if (!request.chain.every(acts)) return 'who asked may not act any more'
    if (rules.some(({ digest }) => !rulesOf(kind).has(digest))) return 'no longer asked about: the rule that asked is gone, or is another one'
    if (kind !== 'chaperone' && state.find(kind, resource.name)?.resource.id !== resource.id) return 'what it is about is gone'
    return undefined
  }
}

/** The digests of the rules that ask about this kind. */
function digestsOf(policy: Policy, kind: string): ReadonlySet<string> {
  const roles = [...policy.roles.values()].flatMap(({ kinds }) => kinds.get(kind)?.ask.all ?? [])
  return new Set([...roles, ...(policy.guardrails.get(kind)?.ask.all ?? [])].map(({ ref }) => ref.digest))
}

async function standing({ db }: Store, links: readonly ChainLink[]): Promise<(link: ChainLink) => boolean> {
  const ids = [...new Set(links.map(({ identity }) => identity))]
  const given = [...new Set(links.flatMap(({ delegation }) => delegation ?? []))]
  const [people, delegations] = await Promise.all([
    ids.length === 0 ? [] : db.selectFrom('identities').select('id').where('id', 'in', ids).where('state', '=', 'active').execute(),
    given.length === 0 ? [] : db.selectFrom('delegations').select('id').where('id', 'in', given).where('ended_at', 'is', null).execute(),
  ])
  const there = new Set([...people, ...delegations].map(({ id }) => id))
  return ({ identity, delegation }) => there.has(identity) && (delegation === undefined || there.has(delegation))
}
