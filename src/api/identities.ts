import { z } from 'zod'
import { ChaperoneError } from '../errors.ts'
import { type IdentityRecord, listIdentities, setIdentityState } from '../identity/directory.ts'
import { assertAdministratorLeft } from './administrator-left.ts'
import { actorOf } from './caller.ts'
import { knownIdentity, reduceRights } from './changed.ts'
import type { IdentityRow } from './contract.ts'
import { exactlyFor } from './exactly-for.ts'
import { assertGrantable } from './grantable.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'

type Kind = IdentityRecord['kind']
const KINDS: readonly Kind[] = ['user', 'agent', 'node']

export function identityRoutes(parts: ApiParts): readonly Route[] {
  const { store, audit, clock } = parts
  return [
    signedIn({
      method: 'GET',
      path: '/v1/identities',
      summary: () => 'list identities',
      who: { by: 'verbs', anyOf: ['identities', 'audit.read'] },
      async handle({ query }) {
        const kind = query.get('kind')
        if (kind !== null && !KINDS.includes(kind as Kind))
          throw new ChaperoneError('usage', `There is no kind of identity ${kind}.`, { fix: `Known are: ${KINDS.join(', ')}.` })
        const identities = await listIdentities(store.db, kind === null ? {} : { kind: kind as Kind })
        const owners = await store.db.selectFrom('identities').select(['id', 'name']).where('kind', '=', 'user').execute()
        const names = new Map(owners.map(({ id, name }) => [id, name]))
        return { identities: identities.map((identity) => rowOf(identity, names.get(identity.ownerId ?? ''))) }
      },
    }),
    signedIn<{ state: 'active' | 'disabled' }>({
      method: 'POST',
      path: '/v1/identities/:name/state',
      who: { by: 'verbs', anyOf: ['identities'] },
      body: z.strictObject({ state: z.enum(['active', 'disabled']) }),
      summary: ({ params, body }) => `set ${params.name} ${body.state}`,
      exactly: ({ params, body }) => exactlyFor(parts, params.name ?? '', { ...body }),
      async handle({ params, body: { state }, session }): Promise<IdentityRow> {
        const identity = await knownIdentity(parts, params.name ?? '')
        if (identity.state === state && !(state === 'disabled' && (await stoppedByItself(identity.id)))) return row(identity)
        // Waking somebody up gives him back what he had.
        if (state === 'active') assertGrantable(parts, session, identity, 'identities')
        await audit.append({
          ...actorOf(session),
          type: 'identity.changed',
          data: { op: state === 'active' ? 'enable' : 'disable', identity: { id: identity.id, name: identity.name } },
        })
        // Whoever lets an agent work again has looked at it.
        if (state === 'active' && identity.kind === 'agent')
          await audit.append({
            ...actorOf(session),
            type: 'agent.reviewed',
            data: { decision: 'enable', agent: { id: identity.id, name: identity.name }, roles: identity.roles },
          })
        const { result } = await reduceRights(parts, async (trx) => {
          const changed = await setIdentityState(trx, identity.id, state, clock.now(), session.principal.identityId)
          await assertAdministratorLeft(parts, trx)
          return changed
        })
        return row(result)
      },
    }),
  ]

  /** What was stopped by a directory or a term is brought back by one; what somebody stops by hand, by hand. */
  async function stoppedByItself(id: string): Promise<boolean> {
    const found = await store.db.selectFrom('identities').select('stopped').where('id', '=', id).executeTakeFirst()
    return found !== undefined && found.stopped !== null
  }

  async function row(identity: IdentityRecord): Promise<IdentityRow> {
    return rowOf(identity, identity.ownerId === undefined ? undefined : (await knownIdentity(parts, identity.ownerId)).name)
  }
}

const rowOf = ({ id, name, kind, state, roles, traits, createdAt }: IdentityRecord, owner: string | undefined): IdentityRow => ({
  id,
  name,
  kind,
  ...(owner === undefined ? {} : { owner }),
  state,
  roles,
  traits,
  createdAt,
})
