import { isShim, stdio } from './entries.ts'
import { jsonServers } from './json-servers.ts'
import { appData } from './places.ts'
import type { ClientForm } from './types.ts'

/** Its file takes programs only. What has a URL is a connector, which Anthropic's own servers call: it must be public. */
export const claudeDesktop: ClientForm = {
  title: 'Claude Desktop',
  format: jsonServers(['mcpServers']),
  file: (place) => appData(place, 'Claude', 'claude_desktop_config.json'),
  value: (entry) => (isShim(entry) ? stdio(entry) : undefined),
  clicks: (entry) =>
    isShim(entry)
      ? undefined
      : [
          `Anthropic's servers call ${entry.url}, not your computer: before you go on, see that it opens in a browser outside of your network, without a warning of its certificate. Else leave --url out.`,
          'In Claude Desktop or at claude.ai, open Settings, then Connectors. (Team and Enterprise: an owner does it first, in the settings of the organization.)',
          'Add custom connector.',
          `Name: ${entry.name}`,
          `Remote MCP server URL: ${entry.url}`,
          'Add, then Connect: a browser opens, and you sign in to Chaperone.',
        ],
  callsFrom: "Anthropic's",
  after: 'Quit Claude Desktop and start it again.',
}
