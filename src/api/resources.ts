import { type McpServerSpec, OWN_SERVER } from '../catalog/mcp-server.ts'
import type { PostgresDatabaseSpec } from '../catalog/postgres-database.ts'
import { ChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Resource } from '../policy/types.ts'
import { type HeldRow, subjectOf } from '../vault/logins.ts'
import { reachable } from './address.ts'
import type { ResourceRow } from './contract.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'

/** How a resource of each kind is reached and what it is; never where it really lives. */
const SHOWN: Readonly<
  Record<
    string,
    (resource: Resource, spec: unknown, listeners: { readonly data: string; readonly postgres: string }) => Omit<ResourceRow, 'name' | 'labels'>
  >
> = {
  mcp({ name }, spec, { data }) {
    const { url, isolation } = spec as McpServerSpec
    return {
      address: `https://${data}/mcp/${name}`,
      about: url === undefined ? 'stdio server' : 'HTTP server',
      ...(isolation === 'none' ? { warning: 'runs without isolation' } : {}),
    }
  },
  postgres({ name }, spec, { postgres }) {
    const { databases } = spec as PostgresDatabaseSpec
    return { address: `postgres://${postgres}/${name}/`, about: `databases: ${databases.join(', ')}`, databases }
  },
}

export function resourceRoutes(parts: ApiParts): readonly Route[] {
  const { state, guard } = parts
  return [
    signedIn({
      method: 'GET',
      path: '/v1/resources/:kind',
      who: { by: 'session' },
      async handle({ params, session, host }) {
        const kind = params.kind ?? ''
        const shown = Object.hasOwn(SHOWN, kind) ? SHOWN[kind] : undefined
        if (!shown)
          throw new ChaperoneError('not_found', `There is no kind of resource ${kind}.`, { fix: `Known are: ${Object.keys(SHOWN).join(', ')}.` })
        const { data, postgres } = parts.listeners()
        const listeners = { data: reachable(data, host), postgres: reachable(postgres, host) }
        const held = kind === 'mcp' ? await parts.logins.list() : []
        const rows = state
          .current()
          .list(kind)
          // Whether somebody may see a resource depends on the resource alone, not on what would be done with it.
          .filter(
            ({ resource }) => guard.judge(session, { kind, resource, operation: 'list', effects: ['read'], facts: {}, summary: 'list' }).visible,
          )
          .map(
            ({ resource, spec }): ResourceRow => ({
              name: resource.name,
              labels: resource.labels,
              ...shown(resource, spec, listeners),
              ...(kind === 'mcp' ? { state: stateOf(parts, session, { resource, spec: spec as McpServerSpec }, held) } : {}),
            }),
          )
        if (kind === 'mcp') {
          for (const { resource } of parts.builtinServers(session)) {
            const { name, labels } = resource
            const about = name === OWN_SERVER ? "Chaperone's own: ask for access, see what became of it" : 'tools of a PostgreSQL database'
            rows.push({ name, labels, state: 'ready', address: `https://${listeners.data}${pathOf(name)}`, about })
          }
        }
        return { resources: rows.sort((a, b) => (a.name < b.name ? -1 : 1)) }
      },
    }),
  ]
}

/** `resource/database`; the names of databases have any letters. */
const pathOf = (name: string) => {
  const slash = name.indexOf('/')
  return slash < 0 ? `/mcp/${name}` : `/mcp/${name.slice(0, slash)}/${encodeURIComponent(name.slice(slash + 1))}`
}

/** Whether it can be used right away, or what is missing. */
function stateOf(
  { state }: Pick<ApiParts, 'state'>,
  { principal }: LiveSession,
  { resource: { id, name }, spec }: { readonly resource: Resource; readonly spec: McpServerSpec },
  held: readonly HeldRow[],
): NonNullable<ResourceRow['state']> {
  const oauth = spec.auth?.oauth
  if (oauth) {
    const subject = subjectOf({ id, name, spec }, principal.chain)
    const login = held.find(({ key }) => key.resource === id && key.subject === subject)
    if (!login || login.over) return oauth.for === 'each' ? 'login' : 'login_of_all'
  }
  return state.current().pins(id).waits ? 'held' : 'ready'
}
