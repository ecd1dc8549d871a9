import type { Draft } from '../audit/record.ts'
import type { LiveSession } from './types.ts'

/** Who acts in a session, as a record names him: the identity, the chain where there is one, the session and its credential. */
export function actingIn(
  session: LiveSession,
  nameOf: (identity: string) => string | undefined,
): Pick<Draft, 'actor' | 'chain' | 'session' | 'credential'> & { readonly actor: NonNullable<Draft['actor']> } {
  const { principal } = session
  const named = (id: string) => ({ id, name: nameOf(id) ?? id })
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
    credential: principal.credentialId,
  }
}
