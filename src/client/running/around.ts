import type { ResourceRow, WhoAmI } from '../../api/contract.ts'
import type { Abilities } from '../../api/runs-contract.ts'
import { openApi } from '../api.ts'
import type { Keeper } from '../credential.ts'
import type { RunDatabase } from './databases.ts'
import type { Missing } from './summary.ts'

/** What there is for this identity, as the server says it. */
export interface Seen {
  readonly limits: readonly string[]
  readonly abilities: Abilities
  readonly servers: readonly string[]
  readonly databases: readonly RunDatabase[]
  readonly missing: readonly Missing[]
}

export async function lookAround(keeper: Keeper): Promise<Seen> {
  const { key, certificate, profile } = keeper.current()
  const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: { key, certificate } })
  try {
    const list = (kind: string) => api.call<{ resources: readonly ResourceRow[] }>('GET', `/v1/resources/${kind}`)
    const [whoami, abilities, mcp, postgres] = await Promise.all([
      api.call<WhoAmI>('GET', '/v1/whoami'),
      api.call<Abilities>('GET', '/v1/abilities'),
      list('mcp'),
      list('postgres'),
    ])
    const idle = abilities.servers.filter(({ allowed, asks }) => allowed.length + asks.length === 0)
    return {
      limits: whoami.chain.flatMap(({ leaves = [] }) => leaves),
      abilities,
      servers: mcp.resources.map(({ name }) => name),
      databases: postgres.resources.flatMap(({ name, databases: has = [] }) => has.map((database): RunDatabase => ({ resource: name, database }))),
      missing: idle.map(({ name }) => ({
        text: `no tool of ${name} is known that may be used`,
        fix: `What it offers is known once somebody has listed its tools. Why one is refused: chaperone explain mcp ${name} TOOL`,
      })),
    }
  } finally {
    api.close()
  }
}
