import type { World } from '../documents/world.ts'
import { compilePolicy, type Policy } from '../policy/compile.ts'
import type { Identity, Link, Vocabulary } from '../policy/types.ts'

/** The policy that the documents of a world are. */
export function policyOf(world: World, vocabularies: readonly Vocabulary[]): Policy {
  return compilePolicy({ roles: world.ofKind('role'), guardrails: world.ofKind('guardrail') }, vocabularies)
}

/** An identity as it is in that world; undefined when it is not, or may do nothing there. */
export function identityIn(world: World, name: string): Identity | undefined {
  const found = world.identities.get(name)
  if (found?.state !== 'active') return undefined
  const owner = found.owner === undefined ? undefined : world.identities.get(found.owner)
  if (found.owner !== undefined && owner?.state !== 'active') return undefined
  const roles = found.roles === 'inherit' ? owner?.roles : found.roles
  return {
    id: found.id,
    kind: found.kind,
    name,
    ...(owner ? { ownerId: owner.id } : {}),
    traits: found.traits,
    roles: Array.isArray(roles) ? roles : [],
  }
}

/** The same links with the roles and traits that their identities have in that world; undefined when one of them is gone there. */
export function linksIn(world: World, links: readonly Link[]): readonly Link[] | undefined {
  const found: Link[] = []
  for (const link of links) {
    const identity = identityIn(world, link.identity.name)
    if (!identity) return undefined
    found.push({ ...link, identity: { ...identity, id: link.identity.id } })
  }
  return found
}
