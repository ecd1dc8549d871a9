import { setImmediate } from 'node:timers/promises'
import { foresee } from '../documents/foresee.ts'
import type { ParsedDocument } from '../documents/types.ts'
import type { World } from '../documents/world.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import type { Policy } from '../policy/compile.ts'
import { decide } from '../policy/decide.ts'
import { shownObligations } from '../policy/limits.ts'
import { ruleTitle } from '../policy/rule-title.ts'
import type { Decision, Link, Question } from '../policy/types.ts'
import type { ApiParts } from './parts.ts'
import type { PolicyDiff, PolicyDifference } from './policy-contract.ts'
import { type Probe, probesOf } from './policy-questions.ts'
import { identityIn, policyOf } from './policy-world.ts'

/** Each is decided twice (rule 11). */
const MOST_DECISIONS = 200_000
const MOST_DIFFERENCES = 500
/** So many decisions, and others get their turn. */
const BREATH = 500

const RANK = { deny: 0, ask: 1, allow: 2 } as const

/** Who would gain or lose what, over every identity and every question that can be made up; and what could not be asked. */
export async function policyDiff(parts: ApiParts, documents: readonly ParsedDocument[]): Promise<PolicyDiff> {
  const { before, after, changed } = await foresee(parts.store.db, documents)
  const policies = [policyOf(before, parts.vocabularies), policyOf(after, parts.vocabularies)] as const
  const { probes, notes } = await probesOf(parts, after, policies)
  const names = [...new Set([...before.identities.keys(), ...after.identities.keys()])].sort()
  const people = names.filter((name) => identityIn(before, name) ?? identityIn(after, name))
  const differences: PolicyDifference[] = []
  let [asked, more] = [0, 0]
  const cut = Math.max(1, Math.floor(MOST_DECISIONS / Math.max(1, probes.length)))
  for (const name of people.slice(0, cut)) {
    const chains = [chainIn(before, name), chainIn(after, name)] as const
    for (const probe of probes) {
      if (++asked % BREATH === 0) await setImmediate()
      const now = parts.clock.now()
      const [was, is] = [ask(policies[0], chains[0], probe, now), ask(policies[1], chains[1], probe, now)]
      const change = changeOf(was, is)
      if (change === undefined) continue
      if (differences.length >= MOST_DIFFERENCES) {
        more++
        continue
      }
      differences.push({
        change,
        who: name,
        resource: probe.resource,
        what: probe.what,
        before: was?.verdict ?? 'deny',
        after: is?.verdict ?? 'deny',
        ...(was?.rule ? { ruleBefore: ruleTitle(was.rule) } : {}),
        ...(is?.rule ? { rule: ruleTitle(is.rule) } : {}),
      })
    }
  }
  return {
    changed,
    identities: Math.min(people.length, cut),
    questions: probes.length,
    differences,
    ...(more > 0 ? { moreDifferences: more } : {}),
    notes: [
      ...notes,
      ...limitsOf(policies),
      ...(people.length > cut ? [`There are ${people.length} identities; ${cut} were asked about, in the order of their names.`] : []),
    ],
  }
}

/** The links under which the named identity acts: a client of a person acts for him. */
function chainIn(world: World, name: string): readonly Link[] | undefined {
  const identity = identityIn(world, name)
  if (!identity) return undefined
  const owner = name.includes('/') ? world.identities.get(name)?.owner : undefined
  const person = owner === undefined ? undefined : identityIn(world, owner)
  const inherits = world.identities.get(name)?.roles === 'inherit'
  return [...(person ? [{ identity: person }] : []), { identity, ...(inherits ? { inherits } : {}) }]
}

function ask(
  policy: Policy,
  links: readonly (Link & { readonly inherits?: boolean })[] | undefined,
  { action }: Probe,
  now: number,
): Decision | undefined {
  if (!links) return undefined
  // As the guard asks it: what a client of a person inherits gives nothing over Chaperone itself.
  const own = links.map(({ inherits, ...link }) =>
    inherits && action.kind === 'chaperone' ? { ...link, limits: { ...link.limits, roles: [] } } : link,
  )
  const question: Question = { links: own, action, now, session: { id: 'ses_policy_diff', startedAt: now, how: 'login' } }
  return decide(policy, question)
}

function changeOf(was: Decision | undefined, is: Decision | undefined): PolicyDifference['change'] | undefined {
  const [before, after] = [RANK[was?.verdict ?? 'deny'], RANK[is?.verdict ?? 'deny']]
  if (before !== after) return after > before ? 'gains' : 'loses'
  if (!was || !is || is.verdict === 'deny') return undefined
  return canonicalJson(shownObligations(was.obligations)) === canonicalJson(shownObligations(is.obligations)) ? undefined : 'bound'
}

/** What no list of questions holds. */
function limitsOf(policies: readonly Policy[]): readonly string[] {
  const rules = policies.flatMap((policy) => [
    ...[...policy.roles.values()].flatMap(({ kinds }) => [...kinds.values()].flatMap((table) => Object.values(table))),
    ...[...policy.guardrails.values()].flatMap((table) => Object.values(table)),
  ])
  const all = rules.flatMap((list) => list.all)
  const notes: string[] = []
  if (all.some(({ spec }) => spec.args !== undefined))
    notes.push('Arguments are left open: what some of them allow counts as allowed. `policy replay` asks about those that were used.')
  if (all.some(({ where }) => where !== undefined))
    notes.push('Conditions in `where` were asked with one made-up call each; another call may be judged otherwise.')
  if (policies.some(({ roles }) => [...roles.values()].some(({ when }) => when !== undefined)))
    notes.push('Roles with hours were asked about as of now.')
  notes.push('Resources that are read by URI, and agents that act for others by a delegation of their own, were not asked about.')
  return notes
}
