import { administer, type Verb } from '../access/administration.ts'
import type { Applier } from '../documents/types.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { actingIn } from '../identity/named.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Ask } from '../policy/types.ts'
import type { ApiParts } from './parts.ts'

/** Who did it, for a record. */
export function actorOf(session: LiveSession) {
  const { actor, session: id, credential } = actingIn(session, () => undefined)
  return { actor, session: id, credential }
}

/**
 * Whether the caller holds a verb, along his whole chain. `under`: the verb by which he does what he does now. What he holds only with
 * a yes of somebody else counts where that very yes was needed for this one too: then it was given.
 */
export const holds = ({ guard, chaperone }: Pick<ApiParts, 'guard' | 'chaperone'>, session: LiveSession, under?: Verb) => {
  const judge = (verb: Verb) => guard.judge(session, administer(chaperone, verb, verb))
  return (verb: Verb): boolean => {
    const { verdict, asks = [] } = judge(verb)
    if (verdict !== 'ask' || under === undefined) return verdict === 'allow'
    const given = new Set((judge(under).asks ?? []).map(whoSaysYes))
    return asks.every((one) => given.has(whoSaysYes(one)))
  }
}

const whoSaysYes = ({ approvers, escalate, link }: Ask): string => canonicalJson({ link, approvers: approvers ?? null, escalate: escalate ?? null })

/** The caller as `documents/` knows him. */
export function applierOf(parts: Pick<ApiParts, 'guard' | 'chaperone' | 'state'>, session: LiveSession, under: Verb = 'apply'): Applier {
  const { actor, chain } = actingIn(session, (id) => parts.state.current().identity(id)?.name)
  return { actor, ...(chain ? { chain } : {}), session: session.id, holds: holds(parts, session, under) }
}
