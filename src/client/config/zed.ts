import { join } from 'node:path'
import { isShim, stdio } from './entries.ts'
import { jsonServers } from './json-servers.ts'
import { appData } from './places.ts'
import type { ClientForm } from './types.ts'

export const zed: ClientForm = {
  title: 'Zed',
  format: jsonServers(['context_servers']),
  // On macOS too it is ~/.config.
  file: (place) =>
    place.platform === 'darwin'
      ? join(place.home, '.config', 'zed', 'settings.json')
      : appData(place, place.platform === 'win32' ? 'Zed' : 'zed', 'settings.json'),
  project: '.zed/settings.json',
  value: (entry) => (isShim(entry) ? stdio(entry) : { url: entry.url }),
  after: 'Zed sees it at once: look at the settings of the Agent Panel.',
}
