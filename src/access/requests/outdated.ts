import type { ChainLink } from '../../identity/types.ts'
import type { Policy } from '../../policy/compile.ts'
import { decide } from '../../policy/decide.ts'
import type { Link } from '../../policy/types.ts'
import type { Store } from '../../store/store.ts'
import { administer, type Verb } from '../administration.ts'
import type { State } from '../state.ts'
import type { AccessRequest, CallWish } from './types.ts'

/**
 * Of questions about a call: why their answer would change nothing any more, as far as their rows alone say it. For those whose node is
 * gone, or has been started anew, and cannot ask policy about the call again (access/questions.ts does that).
 */
export async function outdatedOf(
  store: Store,
  state: Pick<State, 'policy' | 'find' | 'administering'>,
  pending: readonly AccessRequest[],
  now: number,
) {
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
    return kind === 'chaperone' ? changeOver(request, request.body) : undefined
  }

  /** A change of Chaperone itself is judged by its verb alone: of all calls it is the one that a row says whole. */
  function changeOver({ chain, sessionId, createdAt }: AccessRequest, { resource, operation, summary }: CallWish): string | undefined {
    // What its session was is gone with the node.
    if (state.policy.readsTimeOrSession) return undefined
    let links: readonly Link[]
    try {
      links = state.administering(chain, now)
    } catch {
      // Who is new is in sight when he asks again.
      return undefined
    }
    const session = { id: sessionId ?? '', startedAt: createdAt, how: 'login' }
    const action = administer({ kind: 'chaperone', ...resource, labels: {} }, operation as Verb, summary)
    const { verdict, reason } = decide(state.policy, { links, session, action, now })
    if (verdict === 'allow') return 'no longer needed: a role allows it'
    return verdict === 'deny' ? `no longer asked about: it is refused by now (${reason})` : undefined
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
