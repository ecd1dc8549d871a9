import type { Clock } from '../clock.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import type { ChainLink } from '../identity/types.ts'
import type { Policy } from '../policy/compile.ts'
import type { State, StateKeeper } from './state.ts'

/** Many changes within this are told of as one: an `apply` of a whole company is followed by grants and by more applies. */
export const RIGHTS_SETTLE_MS = 200

export interface RightsWatch {
  /**
   * Called when what identities may do with resources of the kind can have changed: with the ids of those whose documents are others
   * now, and with what says for a chain which rules hold for it. What that says is compared with what it said before, by who listens.
   */
  watch(see: (changed: RightsChange) => void): () => void
  /** The epoch has risen. */
  look(): void
  /** see {@link RightsChange.rulesOf} */
  rulesOf(chain: readonly ChainLink[]): string
  close(): void
}

export interface RightsChange {
  readonly resources: ReadonlySet<string>
  /** Equal text: the same rules, of its own roles and of granted ones, under the same guardrails. '' when the chain holds no more. */
  rulesOf(chain: readonly ChainLink[]): string
}

/**
 * The one place that knows when what somebody sees of a kind of resource may have changed: documents and roles (by the epoch), what was
 * granted and ends (by the epoch, and at its minute), the hours of roles. Locks on resources have their own (lock-watch.ts).
 */
export function makeRightsWatch({
  kind,
  state,
  clock,
}: {
  readonly kind: string
  readonly state: Pick<StateKeeper, 'current'>
  readonly clock: Pick<Clock, 'now' | 'at'>
}): RightsWatch {
  const watchers = new Set<(changed: RightsChange) => void>()
  const texts = new WeakMap<Policy, RuleTexts>()
  let before = new Map<string, string>()
  let lookedAt = state.current()
  let waiting = false
  let disarm = () => {}

  const rulesOf = (chain: readonly ChainLink[]): string => {
    const current = state.current()
    try {
      const known = texts.get(current.policy) ?? ruleTexts(current.policy, kind)
      texts.set(current.policy, known)
      return known.of(current, chain, clock.now())
    } catch {
      // Who holds no more: its sessions end with it. A policy that cannot be asked allows nothing, so nothing holds.
      return ''
    }
  }

  const documentsOf = (current: State): Map<string, string> =>
    new Map(current.list(kind).map(({ resource, spec }) => [resource.id, canonicalJson([resource.name, resource.labels, spec])]))

  const tell = (): void => {
    waiting = false
    const current = state.current()
    const resources = new Set<string>()
    if (current !== lookedAt) {
      lookedAt = current
      const now = documentsOf(current)
      for (const [id, text] of now) if (before.get(id) !== text) resources.add(id)
      for (const id of before.keys()) if (!now.has(id)) resources.add(id)
      before = now
    }
    arm()
    for (const see of watchers) see({ resources, rulesOf })
  }

  /** With the hours of a role, or the minutes of a grant, no epoch rises. */
  const arm = (): void => {
    disarm()
    const now = clock.now()
    const next = nextEdge(state.current(), now)
    disarm = Number.isFinite(next) ? clock.at(next, tell) : () => {}
  }

  return {
    watch(see) {
      if (watchers.size === 0) {
        lookedAt = state.current()
        before = documentsOf(lookedAt)
        arm()
      }
      watchers.add(see)
      return () => {
        watchers.delete(see)
        if (watchers.size === 0) disarm()
      }
    },
    look() {
      if (watchers.size === 0 || waiting) return
      waiting = true
      disarm()
      disarm = clock.at(clock.now() + RIGHTS_SETTLE_MS, tell)
    },
    rulesOf,
    close() {
      watchers.clear()
      disarm()
    },
  }
}

/** The next minute at which what somebody may do changes by itself. None that can be told of a policy that cannot be asked. */
function nextEdge(current: State, now: number): number {
  try {
    const hours = [...current.policy.roles.values()].map(({ when }) => when?.at(now).until ?? Number.POSITIVE_INFINITY)
    return hours.reduce((least, edge) => Math.min(least, edge), current.grantsChangeAt(now))
  } catch {
    // This runs in a timer: what is thrown there would end the node. The next epoch arms again; every call is refused meanwhile (guard.ts).
    return Number.POSITIVE_INFINITY
  }
}

interface RuleTexts {
  of(current: State, chain: readonly ChainLink[], now: number): string
}

/** What the rules about a kind say, by role; made once for each state of the policy. */
function ruleTexts(policy: Policy, kind: string): RuleTexts {
  const roles = new Map<string, string>()
  const digests = (
    lists: Readonly<Record<string, { readonly all: readonly { readonly ref: { readonly digest: string } }[] }>> | undefined,
  ): string =>
    lists === undefined
      ? ''
      : Object.entries(lists)
          .map(([section, { all }]) => `${section}:${all.map(({ ref }) => ref.digest).join(',')}`)
          .join(';')
  const over = digests(policy.guardrails.get(kind))
  const textOf = (role: string, now: number): string => {
    const found = policy.roles.get(role)
    if (found?.when && !found.when.at(now).active) return ''
    const known = roles.get(role) ?? digests(found?.kinds.get(kind))
    roles.set(role, known)
    return known
  }
  return {
    of(current, chain, now) {
      const links = current.links(chain, now).map(({ identity, grants = [], limits }) => {
        const held = [...identity.roles, ...grants.map(({ role, resourceId = '' }) => `${role} ${resourceId}`)]
        const rules = held.map((role) => textOf(role.split(' ', 1)[0]!, now)).filter((text) => text !== '')
        return [rules, grants.map(({ resourceId = '' }) => resourceId), identity.traits, limits ?? null] as const
      })
      // Whom no rule speaks of is told of no change of guardrails (rule 8).
      return links.at(-1)![0].length === 0 ? '' : canonicalJson([over, links])
    },
  }
}
