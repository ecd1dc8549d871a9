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
          `OpenAI's servers call ${entry.url}, not your computer: before you go on, see that it opens in a browser outside of your network, without a warning of its certificate.`,
          'At chatgpt.com, open Settings, then Apps & Connectors, then Advanced settings, and switch Developer mode on. (Business, Enterprise and Edu: an administrator allows it first.)',
          'Back under Apps & Connectors: Create.',
          `Name: ${entry.name}`,
          `MCP server URL: ${entry.url}`,
          'Authentication: OAuth.',
          'Create: a browser opens, and you sign in to Chaperone.',
        ],
  callsFrom: "OpenAI's",
  after: 'Choose it in a new chat.',
}
