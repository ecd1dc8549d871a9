import type { Draft } from '../../audit/record.ts'
import { ChaperoneError } from '../../errors.ts'
import { createIdentity, type IdentityRecord, lookForClient } from '../directory.ts'
import { assertName } from '../names.ts'
import type { DelegatingParts } from './delegate.ts'

/** Each new name is an identity for ever; a person has a handful of tools, a thief of his certificate a loop (rule 11). */
const MOST_MADE = 100

/**
 * A new agent of this person, which inherits his roles: a client, a sub-agent. On record before it is there. `by`: who brings it into
 * being. Throws `too_many`, `conflict`, `usage`.
 */
export async function makeOwnAgent(
  { store, audit, clock }: DelegatingParts,
  {
    by,
    owner,
    name,
    why,
  }: { readonly by: Partial<Draft>; readonly owner: Pick<IdentityRecord, 'id' | 'name'>; readonly name: string; readonly why: string },
): Promise<IdentityRecord> {
  assertName('agent', name, owner.name)
  const { count } = await store.db
    .selectFrom('identities')
    .select((of) => of.fn.countAll<number>().as('count'))
    .where('owner_id', '=', owner.id)
    .where('source', '=', 'client')
    .executeTakeFirstOrThrow()
  if (Number(count) >= MOST_MADE)
    throw new ChaperoneError('too_many', `${owner.name} has ${MOST_MADE} clients and sub-agents already.`, { fix: 'Use the name of one of them.' })
  await audit.append({ ...by, type: 'identity.changed', data: { op: 'create', kind: 'agent', name, owner: owner.name, why } })
  return store.write((trx) => createIdentity(trx, { kind: 'agent', name, ownerId: owner.id, roles: 'inherit', source: 'client', now: clock.now() }))
}

/**
 * `boris/claude-code`: the agent by which a client of this person acts, made on first use. A client named like an agent that the person
 * owns (`boris-ai`) is that agent. Throws `identity_disabled` besides.
 */
export async function agentOfClient(
  parts: DelegatingParts,
  { by, owner, client, why }: { readonly by: Partial<Draft>; readonly owner: IdentityRecord; readonly client: string; readonly why: string },
): Promise<IdentityRecord> {
  if (owner.kind !== 'user') throw new ChaperoneError('usage', 'Only a person has clients; an agent cannot make another.')
  if (owner.state !== 'active') throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
  const { name, known } = await lookForClient(parts.store.db, owner, client)
  return known ?? makeOwnAgent(parts, { by, owner, name, why })
}
