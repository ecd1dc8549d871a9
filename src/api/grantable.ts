import { VERBS, type Verb } from '../access/administration.ts'
import { verbsOfRoles } from '../documents/grants.ts'
import { ChaperoneError } from '../errors.ts'
import type { IdentityRecord } from '../identity/directory.ts'
import type { LiveSession } from '../identity/types.ts'
import { holds } from './caller.ts'
import type { ApiParts } from './parts.ts'

/**
 * Nobody makes a credential with more administration than his own (design 3.8): with the verb `issue` alone, an operator
 * could otherwise become the administrator. `under`: the verb that is used. Throws `issue_refused`.
 */
export function assertGrantable(
  parts: Pick<ApiParts, 'guard' | 'chaperone' | 'state'>,
  session: LiveSession,
  target: IdentityRecord,
  under: Verb,
): void {
  const state = parts.state.current()
  const owner = target.ownerId === undefined ? undefined : state.identity(target.ownerId)
  const ownRoles = target.roles === 'inherit' ? (owner ? (JSON.parse(owner.roles) as readonly string[] | 'inherit') : []) : target.roles
  const roles = ownRoles === 'inherit' ? [] : ownRoles
  const given = verbsOfRoles(roles, (role) => state.find('role', role)?.spec as Record<string, unknown> | undefined)
  const mayDo = holds(parts, session, under)
  const lacking = VERBS.filter((verb) => given.has(verb) && !mayDo(verb))
  if (lacking.length === 0) return
  throw new ChaperoneError('issue_refused', `${target.name} may \`${lacking.join('`, `')}\`, and you may not: nobody gives what they do not have.`, {
    fix: 'Have somebody do it who holds these verbs.',
  })
}
