import { stringify } from 'yaml'
import { explain } from '../policy/explain.ts'
import { type Deed, suggestRole } from '../policy/suggest.ts'
import type { AgentUsage } from './agents-contract.ts'
import type { ApiParts } from './parts.ts'
import { recordedActions } from './policy-recorded.ts'

const DAYS = 30
const DAY_MS = 24 * 3_600_000

/** How a rule of a role is known: `role section index`. */
export const ruleKey = (role: string, section: string, index: number): string => `${role} ${section} ${index}`

/** The same thing done a thousand times is judged once; and no more different things than this. */
const MOST_KINDS = 2_000

export interface Usage extends Omit<AgentUsage, 'unused'> {
  /** {@link ruleKey} of each rule that something was done by */
  readonly rules: ReadonlySet<string>
}

/**
 * What an agent did in the last 30 days, each thing held against the rules of the roles that it has now: which of them gave it, and
 * the narrowest role that would. A rule that a delegation, a guardrail or an hour overruled at that time is used all the same.
 */
export async function usageOf(parts: ApiParts, agent: { readonly id: string; readonly name: string }): Promise<Usage> {
  const { policy } = parts.state.current()
  const rules = new Set<string>()
  const deeds = new Map<string, Deed>()
  let [actions, unclear] = [0, 0]
  const walk = recordedActions(parts, { identity: agent.id, since: parts.clock.now() - DAYS * DAY_MS })
  let step = await walk.next()
  for (; !step.done; step = await walk.next()) {
    const found = step.value
    // What failed was done nonetheless: it was allowed, and the rule was wanted.
    if (found.envelope.type !== 'action.intent') continue
    actions++
    if ('why' in found) {
      unclear++
      continue
    }
    const { action, links } = found.question
    // What every client needs (handshakes, lists) comes with any rule about its resource.
    if (action.partial) continue
    const asked = found.was === 'ask'
    const key = JSON.stringify([asked, action.kind, action.resource.id, action.operation, action.summary, action.facts], whole)
    if (deeds.has(key)) continue
    if (deeds.size >= MOST_KINDS) {
      unclear++
      continue
    }
    deeds.set(key, { action, asked })
    const said = explain(policy, found.question).links[links.length - 1]
    for (const { rules: all } of said?.roles ?? [])
      for (const { said: how, rule } of all) if (how === 'matches') rules.add(ruleKey(rule.ref.document, rule.ref.section, rule.ref.index))
  }
  // Administration of Chaperone is left out of what is proposed: nobody gets a verb because he had it.
  const wanted = [...deeds.values()].filter(({ action }) => action.kind !== 'chaperone')
  return { days: DAYS, actions, unclear, rules, proposed: proposal(), ...(step.value === undefined ? {} : { since: step.value }) }

  function proposal(): string {
    if (wanted.length === 0) return ''
    const { spec } = suggestRole(parts.vocabularies, wanted)
    return stringify({ kind: 'role', name: proposedName(agent.name), spec }).trim()
  }
}

/** Facts may hold what JSON alone would leave out: then different things would count as one. */
const whole = (_: string, value: unknown): unknown =>
  value instanceof Map || value instanceof Set ? [...value] : typeof value === 'bigint' ? String(value) : value

/** `boris/claude-code` -> `boris-claude-code-just-enough` */
const proposedName = (agent: string): string => `${agent.replace(/[^a-z0-9-]+/gi, '-').slice(0, 50)}-just-enough`
