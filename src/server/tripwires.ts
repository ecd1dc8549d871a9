import type { State, StateKeeper } from '../access/state.ts'
import { verbsOfRoles } from '../documents/grants.ts'
import { compileTripwire, type Tripwire, type TripwireSpec } from '../identity/tripwire.ts'
import { keepTripwires, type TripwiresParts } from '../identity/tripwires.ts'

type OpenTripwires = Omit<TripwiresParts, 'tripwires' | 'administers' | 'agentsAdminister' | 'ownerOf'> & { readonly state: StateKeeper }

/** The tripwires that are applied, in force on this node until what is returned is called. */
export function openTripwires({ state, ...parts }: OpenTripwires): () => Promise<void> {
  const verbsOf = (roles: readonly string[]) =>
    verbsOfRoles(roles, (role) => state.current().find('role', role)?.spec as Record<string, unknown> | undefined)
  let compiled: { readonly of: State; readonly all: readonly Tripwire[] } | undefined
  return keepTripwires({
    ...parts,
    tripwires() {
      const current = state.current()
      if (compiled?.of !== current) {
        compiled = { of: current, all: current.list('tripwire').map(({ resource, spec }) => compileTripwire(resource.name, spec as TripwireSpec)) }
      }
      return compiled.all
    },
    administers(id) {
      const current = state.current()
      // Somebody who has just been disabled is not locked out any further.
      if (!current.identity(id)) return true
      const roles = current.links([{ identity: id }], parts.clock.now()).flatMap(({ identity }) => identity.roles)
      return verbsOf(roles).size > 0
    },
    async agentsAdminister(id) {
      const agents = await parts.store.db.selectFrom('identities').select('roles').where('owner_id', '=', id).where('state', '=', 'active').execute()
      // One that inherits has what its owner has, who was looked at already.
      return agents.some(({ roles }) => {
        const own = JSON.parse(roles) as readonly string[] | 'inherit'
        return own !== 'inherit' && verbsOf(own).size > 0
      })
    },
    ownerOf(id) {
      const current = state.current()
      const owner = current.identity(current.identity(id)?.owner_id ?? '')
      return owner && { id: owner.id, name: owner.name }
    },
  })
}
