import { join } from 'node:path'
import { isShim, stdio } from './entries.ts'
import { jsonServers, within } from './json-servers.ts'
import type { ClientForm } from './types.ts'

/** Claude Code 2.1: the user's servers, and those of one folder each (`claude mcp add -s local`), are in one file. */
export const claudeCode: ClientForm = {
  title: 'Claude Code',
  format: jsonServers(['mcpServers'], (whole) => Object.keys(within(whole, ['projects']) ?? {}).map((folder) => ['projects', folder, 'mcpServers'])),
  file: ({ home, env }) => (env.CLAUDE_CONFIG_DIR ? join(env.CLAUDE_CONFIG_DIR, '.claude.json') : join(home, '.claude.json')),
  project: '.mcp.json',
  value: (entry) => (isShim(entry) ? { type: 'stdio', ...stdio(entry) } : { type: 'http', url: entry.url }),
  after: 'Start Claude Code again, then look with `claude mcp list`.',
}
