import { administer, type Verb } from '../access/administration.ts'
import type { Applier } from '../documents/types.ts'
import { actingIn } from '../identity/named.ts'
import type { LiveSession } from '../identity/types.ts'
import type { ApiParts } from './parts.ts'

/** Who did it, for a record. */
export function actorOf(session: LiveSession) {
  const { actor, session: id, credential } = actingIn(session, () => undefined)
  return { actor, session: id, credential }
}

/** Whether the caller holds a verb, along his whole chain. */
export const holds =
  ({ guard, chaperone }: Pick<ApiParts, 'guard' | 'chaperone'>, session: LiveSession) =>
  (verb: Verb): boolean =>
    guard.judge(session, administer(chaperone, verb, verb)).verdict === 'allow'

/** The caller as `documents/` knows him. */
export function applierOf(parts: Pick<ApiParts, 'guard' | 'chaperone' | 'state'>, session: LiveSession): Applier {
  const { actor, chain } = actingIn(session, (id) => parts.state.current().identity(id)?.name)
  return { actor, ...(chain ? { chain } : {}), session: session.id, holds: holds(parts, session) }
}
