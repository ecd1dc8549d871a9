import type { Store } from '../../store/store.ts'
import { createIdentity, findIdentity, type IdentityRecord } from '../directory.ts'
import { makeDelegation } from './delegations.ts'

/** `boris/<client>` and a delegation for it, as the first use of a client leaves them. */
export function clientOf(
  store: Store,
  owner: { readonly id: string; readonly name: string },
  client: string,
  now: number,
): Promise<{ readonly agent: IdentityRecord; readonly delegationId: string }> {
  const name = `${owner.name}/${client}`
  return store.write(async (trx) => {
    const agent =
      (await findIdentity(trx, { name })) ??
      (await createIdentity(trx, { kind: 'agent', name, ownerId: owner.id, roles: 'inherit', source: 'client', now }))
    const { id } = await makeDelegation(trx, { fromId: owner.id, toId: agent.id, how: 'client', madeBy: owner.id, now })
    return { agent, delegationId: id }
  })
}
