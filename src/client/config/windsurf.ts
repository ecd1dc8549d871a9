import { join } from 'node:path'
import { isShim, stdio } from './entries.ts'
import { jsonServers } from './json-servers.ts'
import type { ClientForm } from './types.ts'

export const windsurf: ClientForm = {
  title: 'Windsurf',
  format: jsonServers(['mcpServers']),
  file: ({ home }) => join(home, '.codeium', 'windsurf', 'mcp_config.json'),
  // Of its plugin for other editors.
  also: ({ home }) => [{ file: join(home, '.codeium', 'mcp_config.json') }],
  value: (entry) => (isShim(entry) ? stdio(entry) : { serverUrl: entry.url }),
  after: 'In Windsurf: Cascade, then MCPs, then Refresh.',
}
