import type { ResourceRow } from '../api/contract.ts'
import { type ServerFlags, withApi } from './connection.ts'
import { labelsText, list, say } from './output.ts'

type Kind = 'mcp' | 'postgres'

/** The resources of a kind that the caller may see. */
export async function visibleResources(flags: ServerFlags, kind: Kind): Promise<readonly ResourceRow[]> {
  return (await withApi(flags, (api) => api.call<{ resources: ResourceRow[] }>('GET', `/v1/resources/${kind}`))).resources
}

/** `mcp ls` and `db ls`. */
export async function listResources(flags: ServerFlags & { readonly json?: boolean }, kind: Kind, none: string): Promise<void> {
  list(
    await visibleResources(flags, kind),
    [
      { title: 'NAME', of: (row) => row.name },
      { title: 'ABOUT', of: (row) => row.about },
      { title: 'ADDRESS', of: (row) => row.address },
      { title: 'LABELS', of: (row) => labelsText(row.labels) },
      { title: 'WARNING', of: (row) => row.warning },
    ],
    { json: flags.json, none },
  )
}

/** A name that was mistyped would show only as a server that does not connect. What cannot be asked now is written all the same. */
export async function sayUnknownServers(names: readonly string[], flags: ServerFlags): Promise<void> {
  const { OWN_SERVER } = await import('../catalog/mcp-server.ts')
  const seen = await visibleResources(flags, 'mcp').catch(() => undefined)
  const unknown = seen === undefined ? [] : names.filter((name) => name !== OWN_SERVER && !seen.some((row) => row.name === name))
  for (const name of unknown) say(`there is no MCP server ${name} that you may see now; those that there are: chaperone mcp ls`)
}
