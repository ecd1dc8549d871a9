import { join } from 'node:path'
import { isShim, stdio } from './entries.ts'
import { tomlServers } from './toml-servers.ts'
import type { ClientForm } from './types.ts'

export const codex: ClientForm = {
  title: 'Codex',
  format: tomlServers('mcp_servers'),
  file: ({ home, env }) => join(env.CODEX_HOME || join(home, '.codex'), 'config.toml'),
  project: '.codex/config.toml',
  value: (entry) => (isShim(entry) ? stdio(entry) : { url: entry.url }),
  after: 'Start Codex again, then look with `codex mcp list`.',
}
