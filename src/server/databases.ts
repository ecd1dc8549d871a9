import type { State } from '../access/state.ts'
import type { Guard, Resources } from '../access/types.ts'
import type { Clock } from '../clock.ts'
import type { PostgresGateway } from '../gateways/postgres/gateway.ts'
import { databaseTools } from '../gateways/postgres/tools/databases.ts'
import type { LiveSession } from '../identity/types.ts'
import { rolesOf } from '../policy/judge.ts'
import { fill, hasTemplate, parseTemplate } from '../policy/template.ts'
import type { Link, Resource } from '../policy/types.ts'

interface DatabasesParts {
  readonly guard: Guard
  readonly resources: Resources
  readonly clock: Clock
  readonly state: { current(): State }
}

/** The MCP servers of the databases: what the MCP gateway asks, answered by the Postgres gateway. */
export function createDatabaseTools({ guard, resources, clock, state }: DatabasesParts, enter: PostgresGateway['enter']) {
  const linksOf = (session: LiveSession): readonly Link[] => {
    try {
      return state.current().links(session.principal.chain, clock.now())
    } catch {
      // A link is gone. Who may do nothing may connect as nobody; the guard says the same, and why, to whoever tries.
      return []
    }
  }
  return databaseTools({
    guard,
    resources,
    clock,
    enter: (who) => enter(who, 'mcp'),
    usersNamed(session, resource) {
      const now = clock.now()
      return linksOf(session).flatMap((link) => wordsOf(state.current(), link, resource, session, now))
    },
  })
}

/** What the allow rules of one link say after `as`, its templates filled in. Whether they hold is for the guard. */
function wordsOf({ policy }: State, link: Link, resource: Resource, { id, startedAt, how }: LiveSession, now: number): readonly string[] {
  const variables = { identity: link.identity, session: { id, startedAt, how }, now }
  return rolesOf(policy, link, now, resource.id)
    .flatMap((role) => role.kinds.get(resource.kind)?.allow.all ?? [])
    .flatMap(({ spec }) =>
      typeof spec.as === 'string' ? [spec.as] : Array.isArray(spec.as) ? spec.as.filter((word) => typeof word === 'string') : [],
    )
    .flatMap((word) => (hasTemplate(word) ? fill(parseTemplate(word), variables).map((pieces) => pieces.join('')) : [word]))
}
