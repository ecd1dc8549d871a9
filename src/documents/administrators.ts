import { administer } from '../access/administration.ts'
import { compilePolicy } from '../policy/compile.ts'
import { decide } from '../policy/decide.ts'
import type { Identity, Resource, Vocabulary } from '../policy/types.ts'
import type { FutureIdentity, World } from './world.ts'

/**
 * Those who may apply documents in this world, as policy decides it now, guardrails included. An apply after
 * which there is nobody would leave a Chaperone that nobody can change any more.
 */
export function administrators(world: World, vocabularies: readonly Vocabulary[], chaperone: Resource, now: number): readonly Identity[] {
  const policy = compilePolicy({ roles: world.ofKind('role'), guardrails: world.ofKind('guardrail') }, vocabularies)
  const action = administer(chaperone, 'apply', 'apply documents')
  const session = { id: 'none', startedAt: now, how: 'login' }
  return [...world.identities.values()]
    .filter((one) => one.state === 'active' && one.kind !== 'node' && answeredFor(one, world))
    .map((one) => identityOf(one, world))
    .filter((identity) => decide(policy, { links: [{ identity }], session, action, now }).verdict === 'allow')
}

const ownerOf = (one: FutureIdentity, world: World) => (one.owner === undefined ? undefined : world.identities.get(one.owner))

const answeredFor = (one: FutureIdentity, world: World) => one.kind !== 'agent' || ownerOf(one, world)?.state === 'active'

function identityOf(one: FutureIdentity, world: World): Identity {
  const owner = ownerOf(one, world)
  const roles = one.roles === 'inherit' ? (owner && owner.roles !== 'inherit' ? owner.roles : []) : one.roles
  return { id: one.id, kind: one.kind, name: one.name, ...(owner ? { ownerId: owner.id } : {}), traits: one.traits, roles }
}
