import { findIdentity } from '../identity/directory.ts'
import type { LiveSession } from '../identity/types.ts'
import type { ApiParts } from './parts.ts'
import type { Asked } from './route.ts'

/** Whether a person asks himself, with nobody in between, about an agent that he answers for. */
export async function ownsAgent({ store }: Pick<ApiParts, 'store'>, asked: Asked<unknown>, agent: string | undefined): Promise<boolean> {
  const { principal } = (asked as Asked<unknown> & { readonly session: LiveSession }).session
  // What acts for him does not make itself another credential of his agents.
  if (agent === undefined || principal.kind !== 'user' || principal.chain.length !== 1) return false
  const found = await findIdentity(store.db, { name: agent })
  return found?.kind === 'agent' && found.state === 'active' && found.ownerId === principal.identityId
}
