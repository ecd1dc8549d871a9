import { findIdentity } from '../../identity/directory.ts'
import type { Store } from '../../store/store.ts'
import { agentSegment, shortHash } from './clients.ts'

/**
 * The agent that a client of a person is: `boris/claude-code`. Another client that calls itself the same gets another agent, or it
 * would be taken for that one, with all that it was given; and so does one that calls itself like a program that came by
 * `chaperone run` or `mcp connect`. Whoever wants the two to be one chooses that agent himself.
 */
export async function usualAgent(
  { db }: Pick<Store, 'db'>,
  person: { readonly id: string; readonly name: string },
  client: { readonly id: string; readonly name: string },
): Promise<string> {
  const base = `${person.name}/${agentSegment(client.name, client.id)}`
  const agent = await findIdentity(db, { name: base })
  if (!agent) return base
  const met = await db.selectFrom('delegations').select(['client', 'how']).where('from_id', '=', person.id).where('to_id', '=', agent.id).execute()
  return met.length === 0 || met.some((one) => one.how === 'consent' && one.client === client.id) ? base : `${base}-${shortHash(client.id)}`
}
