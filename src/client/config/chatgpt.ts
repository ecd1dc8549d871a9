import { isShim } from './entries.ts'
import { jsonServers } from './json-servers.ts'
import type { ClientForm } from './types.ts'

/** It has no file, and its servers are called from OpenAI's side. */
export const chatgpt: ClientForm = {
  title: 'ChatGPT',
  format: jsonServers(['mcpServers']),
  value: () => undefined,
  clicks: (entry) =>
    isShim(entry)
      ? undefined
      : [
          'At chatgpt.com, open Settings, then Apps & Connectors, then Advanced settings, and switch Developer mode on. (Business, Enterprise and Edu: an administrator allows it first.)',
          'Back under Apps & Connectors: Create.',
          `Name: ${entry.name}`,
          `MCP server URL: ${entry.url}`,
          'Authentication: OAuth.',
          'Create: a browser opens, and you sign in to Chaperone.',
          "OpenAI's servers call this URL, not your computer: it must be public, with a certificate that everybody trusts.",
        ],
  after: 'Choose it in a new chat.',
}
