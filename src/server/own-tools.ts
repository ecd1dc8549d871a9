import type { State } from '../access/state.ts'
import { OWN_SERVER } from '../catalog/mcp-server.ts'
import type { Clock } from '../clock.ts'
import type { Builtins } from '../gateways/mcp/builtin/types.ts'
import { type OwnServerParts, ownServer } from '../gateways/mcp/own/server.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Policy, Role } from '../policy/compile.ts'
import { rolesOf } from '../policy/judge.ts'
import { limitsInWords } from '../policy/narrowing-words.ts'

interface OwnToolsParts extends Omit<OwnServerParts, 'mayRequest' | 'databases' | 'limitsOf'> {
  readonly state: { current(): State }
  readonly clock: Clock
}

/** The servers that are no other process: those of databases, and Chaperone's own for whoever may ask for something. */
export function withOwnTools(databases: Builtins, parts: OwnToolsParts): Builtins {
  const own = ownServer({
    ...parts,
    databases: (session) => databases.list(session).map(({ resource }) => resource.name),
    mayRequest: (session) => mayRequest(parts, session),
    limitsOf: (session) => limitsOf(parts, session),
  })
  return {
    find: (session, name) => (name === OWN_SERVER ? own(session) : databases.find(session, name)),
    list(session) {
      const mine = own(session)
      return mine ? [mine, ...databases.list(session)] : databases.list(session)
    },
  }
}

/** Of each link of its chain that is limited. */
function limitsOf({ state, clock }: OwnToolsParts, session: LiveSession): readonly string[] {
  return state
    .current()
    .links(session.principal.chain, clock.now())
    .flatMap(({ identity, limits }) => (limits ? limitsInWords(limits).map((text) => `${identity.name}: ${text}`) : []))
}

/** Some role of its chain says what may be asked for, or asks; or a guardrail asks. */
function mayRequest({ state, clock }: OwnToolsParts, session: LiveSession): boolean {
  if (session.principal.kind === 'node') return false
  try {
    const current = state.current()
    const now = clock.now()
    if (guardrailsAsk(current.policy)) return true
    return current.links(session.principal.chain, now).some((link) => rolesOf(current.policy, link, now, '').some(asksAnything))
  } catch {
    // A link is gone, or deciding itself has failed: nothing is asked for it, and the guard says why to whoever tries.
    return false
  }
}

const guardrailsAsk = ({ guardrails }: Policy) => [...guardrails.values()].some(({ ask }) => ask.all.length > 0)
const asksAnything = ({ requests, kinds }: Role) => requests.length > 0 || [...kinds.values()].some(({ ask }) => ask.all.length > 0)
