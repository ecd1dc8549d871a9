import { foresee } from '../documents/foresee.ts'
import type { ParsedDocument } from '../documents/types.ts'
import { decide } from '../policy/decide.ts'
import { ruleTitle } from '../policy/rule-title.ts'
import type { ApiParts } from './parts.ts'
import type { Replay, ReplayChange, Replayed } from './policy-contract.ts'
import { changedDemands } from './policy-demands.ts'
import { countUnknowns, recordedActions } from './policy-recorded.ts'
import { linksIn, policyOf } from './policy-world.ts'

const MOST_CHANGES = 200
const SEVERITY: Readonly<Record<string, number>> = { deny: 0, ask: 1, allow: 2 }

/**
 * What roles that are not applied would have decided about what was done. Verdicts and demands are compared, at the time of the
 * record, for its chain, with the roles that everybody would have. What cannot be judged again is counted, and never taken for the same.
 */
export async function replay(
  parts: ApiParts,
  documents: readonly ParsedDocument[],
  { since, until }: Pick<Replay, 'since' | 'until'>,
): Promise<Replayed> {
  const { after } = await foresee(parts.store.db, documents)
  const policy = policyOf(after, parts.vocabularies)
  const changes = new Map<string, { -readonly [Key in keyof ReplayChange]: ReplayChange[Key] }>()
  const unknowns = countUnknowns()
  let [actions, same, differs, bound, cannotTell, left] = [0, 0, 0, 0, 0, 0]

  const walk = recordedActions(parts, { since, ...(until === undefined ? {} : { until }) })
  let step = await walk.next()
  for (; !step.done; step = await walk.next()) {
    const { envelope, ...found } = step.value
    actions++
    const unknown = (why: string) => {
      cannotTell++
      unknowns.add(why, envelope.id)
    }
    if ('why' in found) {
      unknown(found.why)
      continue
    }
    const { question, was } = found
    const links = linksIn(after, question.links)
    if (!links) {
      unknown('whoever did it would not be there any more')
      continue
    }
    const then = decide(policy, { ...question, links })
    if (then.reason === 'policy_error') {
      unknown('deciding failed')
      continue
    }
    const fields = then.verdict === was ? changedDemands(envelope, then) : []
    if (fields === 'unknown') {
      unknown('the record does not hold all that was demanded of it')
      continue
    }
    if (then.verdict === was && fields.length === 0) {
      same++
      continue
    }
    if (then.verdict === was) bound++
    else differs++
    const { action } = question
    const change: ReplayChange = {
      who: links.map(({ identity }) => identity.name).join(' > '),
      resource: `${action.kind}/${action.resource.name}`,
      action: action.summary,
      was,
      would: then.verdict,
      ...(fields.length > 0 ? { fields } : {}),
      ...(then.rule ? { rule: ruleTitle(then.rule) } : {}),
      count: 1,
      record: envelope.id,
    }
    const { count, record, ...about } = change
    const key = JSON.stringify(about)
    const known = changes.get(key)
    if (known) known.count++
    else if (changes.size < MOST_CHANGES) changes.set(key, change)
    else left++
  }
  return {
    since,
    actions,
    same,
    differs,
    bound,
    cannotTell,
    // What would be refused comes first: that is what somebody will miss.
    changes: [...changes.values()].sort((a, b) => SEVERITY[a.would]! - SEVERITY[b.would]! || b.count - a.count),
    unknowns: unknowns.list(),
    ...(left > 0 ? { moreChanges: left } : {}),
    ...(step.value === undefined ? {} : { stoppedAt: step.value }),
  }
}
