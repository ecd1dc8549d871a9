import { findIdentity } from '../../identity/directory.ts'
import type { Store } from '../../store/store.ts'
import { agentSegment, shortHash } from './clients.ts'

/**
 * The agent that a client of a person is: `boris/claude-code`. Another client that calls itself the same gets another agent, or it
 * would be taken for that one, with all that it was given.
 */
export async function usualAgent(
  { db }: Pick<Store, 'db'>,
  person: { readonly id: string; readonly name: string },
  client: { readonly id: string; readonly name: string },
): Promise<string> {
  const base = `${person.name}/${agentSegment(client.name, client.id)}`
  const agent = await findIdentity(db, { name: base })
  if (!agent) return base
  const met = await db
    .selectFrom('delegations')
    .select('client')
    .where('from_id', '=', person.id)
    .where('to_id', '=', agent.id)
    .where('how', '=', 'consent')
    .execute()
  return met.length === 0 || met.some((one) => one.client === client.id) ? base : `${base}-${shortHash(client.id)}`
}
