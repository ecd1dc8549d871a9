import type { Command } from 'commander'
import type { ResourceRow } from '../api/contract.ts'
import { type ServerFlags, withJson, withServer } from './connection.ts'
import { NO_SERVER, webIfKnown } from './mcp-config.ts'
import { labelsText, list } from './output.ts'
import { visibleResources } from './resources.ts'

interface Row extends ResourceRow {
  /** clients on this computer that have it, through Chaperone */
  readonly clients: readonly string[]
}

export function listing(command: Command): void {
  withJson(
    withServer(command.command('ls').description('the MCP servers that you may see; `chaperone` is our own, at which agents ask for access')),
  ).action(async (flags: ServerFlags & { json?: boolean }) => {
    const servers = await visibleResources(flags, 'mcp')
    const having = await clientsHere(flags)
    const rows = servers.map((row): Row => ({ ...row, clients: [...new Set([...(having.get(row.name) ?? []), ...(having.get('') ?? [])])].sort() }))
    list(
      rows,
      [
        { title: 'NAME', of: (row) => row.name },
        { title: 'STATE', of: stateText },
        { title: 'IN', of: ({ clients }) => clients.join(', ') },
        { title: 'ABOUT', of: (row) => row.about },
        { title: 'ADDRESS', of: (row) => row.address },
        { title: 'LABELS', of: (row) => labelsText(row.labels) },
        { title: 'WARNING', of: (row) => row.warning },
      ],
      { json: flags.json, none: `There is no MCP server that you may see. ${NO_SERVER}` },
    )
  })
}

const STATES = {
  ready: 'ready',
  login: 'wants your login',
  login_of_all: 'wants a login',
  held: 'some of it is held back',
} as const

const stateText = ({ state }: Row): string => (state === undefined ? '' : STATES[state])

/** Server -> clients of this computer that reach it through Chaperone; under '' those that have all of them as one. */
async function clientsHere(flags: ServerFlags): Promise<ReadonlyMap<string, readonly string[]>> {
  const { findServers } = await import('../client/importing/find.ts')
  const { thisPlace } = await import('../client/config/places.ts')
  const { serverOfEntry } = await import('../client/config/entries.ts')
  const web = await webIfKnown(flags)
  const { servers } = await findServers(thisPlace(), [process.cwd()], web)
  const having = new Map<string, string[]>()
  for (const { source, value, ours, copy } of servers) {
    if (!ours || copy) continue
    const name = serverOfEntry(value, web)
    having.set(name, [...(having.get(name) ?? []), source.client])
  }
  return having
}
