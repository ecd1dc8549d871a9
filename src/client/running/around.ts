import type { ResourceRow, WhoAmI } from '../../api/contract.ts'
import type { Abilities } from '../../api/runs-contract.ts'
import type { ChaperoneError } from '../../errors.ts'
import { openApi } from '../api.ts'
import type { Keeper } from '../credential.ts'
import { openDataPlane } from '../data-plane.ts'
import type { RunDatabase } from './databases.ts'
import { listTools } from './listing.ts'
import type { Missing } from './summary.ts'

/** What there is for this identity, as the server says it. */
export interface Seen {
  readonly limits: readonly string[]
  readonly abilities: Abilities
  readonly roles: readonly string[]
  readonly servers: readonly string[]
  /** servers whose tools could not be listed: whether one may be used is not known */
  readonly unlisted: readonly string[]
  readonly databases: readonly RunDatabase[]
  readonly missing: readonly Missing[]
}

export async function lookAround(keeper: Keeper): Promise<Seen> {
  const { key, certificate, profile } = keeper.current()
  const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: { key, certificate } })
  try {
    const list = (kind: string) => api.call<{ resources: readonly ResourceRow[] }>('GET', `/v1/resources/${kind}`)
    const can = () => api.call<Abilities>('GET', '/v1/abilities')
    const [whoami, before, mcp, postgres] = await Promise.all([api.call<WhoAmI>('GET', '/v1/whoami'), can(), list('mcp'), list('postgres')])
    const unknown = await listIdle(keeper, idleOf(before))
    const abilities = unknown === undefined ? before : await can()
    const idle = idleOf(abilities)
    return {
      limits: whoami.chain.flatMap(({ leaves = [] }) => leaves),
      abilities,
      roles: whoami.roles,
      servers: mcp.resources.map(({ name }) => name),
      unlisted: idle.filter((name) => unknown?.has(name)),
      databases: postgres.resources.flatMap(({ name, databases: has = [] }) => has.map((database): RunDatabase => ({ resource: name, database }))),
      missing: idle.map((name) => missingTools(name, unknown?.get(name))),
    }
  } finally {
    api.close()
  }
}

const idleOf = ({ servers }: Abilities) => servers.filter(({ allowed, asks }) => allowed.length + asks.length === 0).map(({ name }) => name)

/** Undefined when there was none to ask. */
async function listIdle(keeper: Keeper, idle: readonly string[]): Promise<ReadonlyMap<string, ChaperoneError> | undefined> {
  if (idle.length === 0) return undefined
  const plane = openDataPlane(keeper)
  try {
    return await listTools(plane, idle)
  } finally {
    plane.close()
  }
}

function missingTools(name: string, why: ChaperoneError | undefined): Missing {
  if (why === undefined) return { text: `no tool of ${name} may be used`, fix: `Why one is refused: chaperone explain mcp ${name} TOOL` }
  return {
    text: `what ${name} offers is not known: ${why.message.replace(/\.$/, '')}`,
    fix: why.fix ?? 'It is listed once a client asks for its tools; they can be used all the same.',
  }
}
