import { stringify } from 'yaml'
import { type Deed, suggestRole } from '../policy/suggest.ts'
import { identitiesOf } from './audit-query.ts'
import type { ApiParts } from './parts.ts'
import type { Suggested } from './policy-contract.ts'
import { countUnknowns, recordedActions } from './policy-recorded.ts'

/**
 * The narrowest role under which what an identity did (a person: he and his agents, because what they do he must be allowed as well)
 * could be done again: from what was allowed (a human's yes becomes `ask`) and
 * did not fail. Administration of Chaperone is left out: nobody gets a verb because he had it.
 */
export async function suggest(parts: ApiParts, name: string, since: number): Promise<Suggested> {
  const identity = await identitiesOf(parts, name)
  const deeds: Deed[] = []
  const unknowns = countUnknowns()
  let actions = 0
  const walk = recordedActions(parts, { identity, since })
  let step = await walk.next()
  for (; !step.done; step = await walk.next()) {
    const { envelope, failed, ...found } = step.value
    if (envelope.type !== 'action.intent' || envelope.action?.kind === 'chaperone' || failed) continue
    actions++
    if ('why' in found) {
      unknowns.add(found.why, envelope.id)
      continue
    }
    // What every client needs (handshakes, lists) comes with any rule that selects its resource.
    if (found.question.action.partial) actions--
    else deeds.push({ action: found.question.action, asked: found.was === 'ask' })
  }
  const { spec, covered, left } = suggestRole(parts.vocabularies, deeds)
  const role = `${name.replace(/[^a-z0-9-]+/gi, '-')}-suggested`.slice(0, 63)
  return {
    identity: name,
    yaml: deeds.length === 0 ? '' : stringify({ kind: 'role', name: role, spec }).trim(),
    actions,
    covered,
    left: left.slice(0, MOST_LEFT),
    unknowns: unknowns.list(),
    ...(step.value === undefined ? {} : { stoppedAt: step.value }),
  }
}

const MOST_LEFT = 50
