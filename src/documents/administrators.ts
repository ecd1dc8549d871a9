import { administer, VERBS, type Verb } from '../access/administration.ts'
import { compilePolicy } from '../policy/compile.ts'
import { decide } from '../policy/decide.ts'
import type { Identity, Resource, Vocabulary } from '../policy/types.ts'
import type { FutureIdentity, World } from './world.ts'

/**
 * Who holds a verb in this world, as policy decides it now, guardrails included. A change after which nobody holds one
 * cannot be undone: nobody grants what they do not have.
 */
export function holdersOf(world: World, vocabularies: readonly Vocabulary[], chaperone: Resource, now: number): (verb: Verb) => Iterable<Identity> {
  const policy = compilePolicy({ roles: world.ofKind('role'), guardrails: world.ofKind('guardrail') }, vocabularies)
  const session = { id: 'none', startedAt: now, how: 'login' }
  return function* (verb) {
    const action = administer(chaperone, verb, verb)
    for (const one of world.identities.values()) {
      if (one.state !== 'active' || one.kind === 'node' || !answeredFor(one, world)) continue
      const identity = identityOf(one, world)
      if (decide(policy, { links: [{ identity }], session, action, now }).verdict === 'allow') yield identity
    }
  }
}

/** The first verb that somebody held and nobody holds any more. */
export function lostVerb(before: (verb: Verb) => Iterable<Identity>, after: (verb: Verb) => Iterable<Identity>): Verb | undefined {
  const held = (by: Iterable<Identity>) => !by[Symbol.iterator]().next().done
  return VERBS.find((verb) => !held(after(verb)) && held(before(verb)))
}

const ownerOf = (one: FutureIdentity, world: World) => (one.owner === undefined ? undefined : world.identities.get(one.owner))

const answeredFor = (one: FutureIdentity, world: World) => one.kind !== 'agent' || ownerOf(one, world)?.state === 'active'

function identityOf(one: FutureIdentity, world: World): Identity {
  const owner = ownerOf(one, world)
  const roles = one.roles === 'inherit' ? (owner && owner.roles !== 'inherit' ? owner.roles : []) : one.roles
  return { id: one.id, kind: one.kind, name: one.name, ...(owner ? { ownerId: owner.id } : {}), traits: one.traits, roles }
}
