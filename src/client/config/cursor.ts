import { join } from 'node:path'
import { isShim, stdio } from './entries.ts'
import { jsonServers } from './json-servers.ts'
import type { ClientForm, Entry } from './types.ts'

const value = (entry: Entry) => (isShim(entry) ? stdio(entry) : { url: entry.url })

export const cursor: ClientForm = {
  title: 'Cursor',
  format: jsonServers(['mcpServers']),
  file: ({ home }) => join(home, '.cursor', 'mcp.json'),
  project: '.cursor/mcp.json',
  value,
  link(entry) {
    const config = Buffer.from(JSON.stringify(value(entry))).toString('base64')
    return `cursor://anysphere.cursor-deeplink/mcp/install?name=${encodeURIComponent(entry.name)}&config=${encodeURIComponent(config)}`
  },
  after: 'Cursor sees it at once: Settings, then Tools & MCP.',
}
