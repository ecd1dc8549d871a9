import { ADMINISTRATORS_VERBS, administer, VERBS, type Verb } from '../access/administration.ts'
import { areMet, type Voter } from '../access/requests/approvers.ts'
import { compilePolicy } from '../policy/compile.ts'
import { decide } from '../policy/decide.ts'
import type { Ask, Identity, Resource, Vocabulary } from '../policy/types.ts'
import { verbRules, verbsOfRoles } from './grants.ts'
import { type FutureIdentity, NEW_ID, type World } from './world.ts'

/**
 * Who holds a verb in this world, as policy decides it now, guardrails included. A change after which nobody holds one
 * cannot be undone: nobody grants what they do not have. Where a rule wants somebody else's yes, he holds it as long as there are
 * others who can say it, and have been here: who never signed in may never come. `stands`: who is left out neither holds a verb nor says yes.
 */
export function holdersOf(
  world: World,
  vocabularies: readonly Vocabulary[],
  chaperone: Resource,
  now: number,
  stands: (identity: Identity) => boolean = () => true,
): (verb: Verb) => Iterable<Identity> {
  const policy = compilePolicy({ roles: world.ofKind('role'), guardrails: world.ofKind('guardrail') }, vocabularies)
  const session = { id: 'none', startedAt: now, how: 'login' }
  // Of thousands of people a few have a role that speaks of Chaperone at all.
  const given = new Map<string, ReadonlySet<Verb>>()
  const couldHold = ({ roles }: Identity): ReadonlySet<Verb> => {
    const key = JSON.stringify(roles)
    const known = given.get(key) ?? verbsOfRoles(roles, (role) => world.documents.get(`role/${role}`)?.spec)
    given.set(key, known)
    return known
  }
  const judge = (identity: Identity, verb: Verb) => decide(policy, { links: [{ identity }], session, action: administer(chaperone, verb, verb), now })
  const active = [...world.identities.values()]
    .filter((one) => one.state === 'active' && one.kind !== 'node' && answeredFor(one, world))
    .map((one) => identityOf(one, world))
  let voters: readonly Voter[] | undefined
  const canBeMet = (identity: Identity, asks: readonly Ask[]): boolean => {
    if (identity.kind === 'user' && !world.arrived.has(identity.id)) return false
    voters ??= active
      .filter((one) => one.kind === 'user' && world.arrived.has(one.id) && stands(one))
      .map((one) => ({ ...one, links: 1, approves: couldHold(one).has('approve') && judge(one, 'approve').verdict === 'allow' }))
    const person = (id: string) => (id === identity.id ? identity : undefined)
    const needs = asks.map(({ approvers, escalate, link }) => ({ approvers, link, ...(escalate ? { escalate } : {}) }))
    return areMet({ identityId: identity.id, chain: [{ identity: identity.id }], person }, needs, voters, true)
  }
  return function* (verb) {
    for (const identity of active) {
      if (!couldHold(identity).has(verb) || !stands(identity)) continue
      const { verdict, asks = [] } = judge(identity, verb)
      if (verdict === 'allow' || (verdict === 'ask' && canBeMet(identity, asks))) yield identity
    }
  }
}

/** The first verb that somebody held and nobody holds any more. */
export function lostVerb(before: (verb: Verb) => Iterable<Identity>, after: (verb: Verb) => Iterable<Identity>): Verb | undefined {
  const held = (by: Iterable<Identity>) => !by[Symbol.iterator]().next().done
  return VERBS.find((verb) => !held(after(verb)) && held(before(verb)))
}

/** What to do instead, where too few would be left. */
export function leaveOne(world: World, verb: Verb): string {
  const asked = [...world.ofKind('role'), ...world.ofKind('guardrail')].some(({ spec }) =>
    verbRules(spec, 'ask').some(({ verbs }) => verbs.includes(verb)),
  )
  return asked ? " A rule wants somebody else's yes for it: leave somebody who can say it, and has signed in, too." : ''
}

export interface Cornered {
  readonly verb: Verb
  /** names */
  readonly loser: string
  readonly keeper: string
}

/**
 * The first verb that an administrator loses while he keeps others, and that is then left to one person (and his agents) alone: nobody
 * could stop that one for good any more, for with him the verb would be gone. Who is made by the very change cannot act yet, and counts for
 * nobody. `own`: ids of whoever asks for the change: what he loses himself he gives up.
 */
export function cornered(
  before: (verb: Verb) => Iterable<Identity>,
  after: (verb: Verb) => Iterable<Identity>,
  own: ReadonlySet<string>,
): Cornered | undefined {
  const people = (held: Iterable<Identity>) => new Map([...held].flatMap((one) => (one.kind === 'user' ? [[one.id, one] as const] : [])))
  const needed = [...ADMINISTRATORS_VERBS]
  const [some, ...others] = needed.map((verb) => people(before(verb)))
  const administrators = [...some!.values()].filter(({ id }) => !own.has(id) && others.every((those) => those.has(id)))
  if (administrators.length === 0) return undefined
  const left = new Map(VERBS.map((verb) => [verb, [...after(verb)].filter(({ id }) => id !== NEW_ID)]))
  const keeps = (id: string, verb: Verb) => left.get(verb)!.some((one) => one.id === id)
  // Who has it alone is hard to remove himself: from him everything else may be taken.
  const shared = (id: string, verb: Verb) => left.get(verb)!.some((one) => (one.ownerId ?? one.id) !== id)
  for (const verb of VERBS) {
    const holders = left.get(verb)!
    if (new Set(holders.map(({ id, ownerId }) => ownerId ?? id)).size > 1) continue
    const had = people(before(verb))
    const loser = administrators.find(({ id }) => had.has(id) && !keeps(id, verb) && needed.some((one) => keeps(id, one) && shared(id, one)))
    if (loser) return { verb, loser: loser.name, keeper: holders[0]?.name ?? 'somebody new' }
  }
  return undefined
}

const ownerOf = (one: FutureIdentity, world: World) => (one.owner === undefined ? undefined : world.identities.get(one.owner))

const answeredFor = (one: FutureIdentity, world: World) => one.kind !== 'agent' || ownerOf(one, world)?.state === 'active'

function identityOf(one: FutureIdentity, world: World): Identity {
  const owner = ownerOf(one, world)
  const roles = one.roles === 'inherit' ? (owner && owner.roles !== 'inherit' ? owner.roles : []) : one.roles
  return { id: one.id, kind: one.kind, name: one.name, ...(owner ? { ownerId: owner.id } : {}), traits: one.traits, roles }
}
