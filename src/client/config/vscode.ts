import { join } from 'node:path'
import { isShim, stdio } from './entries.ts'
import { jsonServers } from './json-servers.ts'
import { appData } from './places.ts'
import type { ClientForm, Entry } from './types.ts'

const value = (entry: Entry) => (isShim(entry) ? { type: 'stdio', ...stdio(entry) } : { type: 'http', url: entry.url })

export const vscode: ClientForm = {
  title: 'VS Code',
  format: jsonServers(['servers']),
  file: (place) => appData(place, 'Code', 'User', 'mcp.json'),
  also: (place) => [
    // Where servers stood before they had a file of their own.
    { file: appData(place, 'Code', 'User', 'settings.json'), format: jsonServers(['mcp', 'servers']) },
    { file: appData(place, 'Code - Insiders', 'User', 'mcp.json') },
    { file: join(place.home, '.copilot', 'mcp-config.json'), format: jsonServers(['mcpServers']) },
  ],
  project: '.vscode/mcp.json',
  value,
  link: (entry) => `vscode:mcp/install?${encodeURIComponent(JSON.stringify({ name: entry.name, ...value(entry) }))}`,
  after: 'VS Code sees it at once: `MCP: List Servers` in the command palette.',
}
