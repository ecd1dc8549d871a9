import { entryFor, isShim, type WayIn } from './entries.ts'
import type { Client } from './types.ts'

/** What an administrator rolls out so that clients reach MCP servers through the gateway alone. */
export interface ManagedSettings {
  readonly allowedMcpServers: readonly ({ readonly serverUrl: string } | { readonly serverCommand: readonly string[] })[]
  readonly allowManagedMcpServersOnly: true
}

/**
 * managed-settings.json of Claude Code, whose grammar GitHub Copilot shares: our URLs, and the shim by its exact words (an
 * entry must be the whole command line, so there is one for each server and one for all).
 */
export function managedSettings(web: string, servers: readonly string[], clients: readonly Client[], way: Omit<WayIn, 'web'>): ManagedSettings {
  const commands = clients.flatMap((client) =>
    [undefined, ...servers].map((server) => {
      const entry = entryFor(client, server, way)
      return isShim(entry) ? [entry.command, ...entry.args] : []
    }),
  )
  return {
    // Exactly our own address: a wildcard in the name of the host would be somebody else's too.
    allowedMcpServers: [{ serverUrl: `${web}/mcp` }, { serverUrl: `${web}/mcp/*` }, ...commands.map((serverCommand) => ({ serverCommand }))],
    allowManagedMcpServersOnly: true,
  }
}

/** VS Code: policies by their own names (ADMX on Windows, a profile on macOS, /etc/vscode/policy.json on Linux). */
export const vscodePolicies = (web: string) => ({ McpGalleryServiceUrl: web, ChatMCP: 'registry' })
