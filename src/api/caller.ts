import { administer, type Verb } from '../access/administration.ts'
import type { Applier } from '../documents/types.ts'
import type { LiveSession } from '../identity/types.ts'
import type { ApiParts } from './parts.ts'

/** Who did it, for a record. */
export const actorOf = ({ id, principal }: LiveSession) => ({
  actor: { id: principal.identityId, name: principal.name, kind: principal.kind },
  session: id,
  credential: principal.credentialId,
})

/** Whether the caller holds a verb, along his whole chain. */
export const holds =
  ({ guard, chaperone }: Pick<ApiParts, 'guard' | 'chaperone'>, session: LiveSession) =>
  (verb: Verb): boolean =>
    guard.judge(session, administer(chaperone, verb, verb)).verdict === 'allow'

/** The caller as `documents/` knows him. */
export function applierOf(parts: Pick<ApiParts, 'guard' | 'chaperone' | 'state'>, session: LiveSession): Applier {
  const { principal } = session
  const named = (id: string) => ({ id, name: parts.state.current().identity(id)?.name ?? id })
  return {
    actor: { id: principal.identityId, name: principal.name, kind: principal.kind },
    ...(principal.chain.length > 1
      ? {
          chain: principal.chain.map((link) => ({
            ...named(link.identity),
            ...(link.delegation === undefined ? {} : { delegation: link.delegation }),
          })),
        }
      : {}),
    session: session.id,
    holds: holds(parts, session),
  }
}
