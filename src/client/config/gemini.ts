import { join } from 'node:path'
import { isShim, stdio } from './entries.ts'
import { jsonServers } from './json-servers.ts'
import type { ClientForm } from './types.ts'

export const gemini: ClientForm = {
  title: 'Gemini CLI',
  format: jsonServers(['mcpServers']),
  file: ({ home }) => join(home, '.gemini', 'settings.json'),
  project: '.gemini/settings.json',
  value: (entry) => (isShim(entry) ? stdio(entry) : { type: 'http', url: entry.url }),
  after: 'Start Gemini CLI again, in a folder that it trusts, then look with `gemini mcp list`.',
}
