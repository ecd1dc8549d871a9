import { fileURLToPath } from 'node:url'
import { prefixOf } from '../../gateways/mcp/many/exposed-names.ts'
import type { Client, Entry, ShimEntry } from './types.ts'

/** What the one entry for all servers is called in a client's file. */
export const ONE = 'chaperone'

/** How a client starts the shim, or reaches the web listener. */
export interface WayIn {
  /** Another program than this very installation. */
  readonly command?: string
  /** `--server`: another Chaperone than the one that is used by default */
  readonly server?: string
  readonly profile?: string
  /** `https://host:port` of the web listener: then the client speaks HTTP itself. */
  readonly web?: string
  /** CHAPERONE_HOME of whoever writes the entry: the shim must find the same sign-in. */
  readonly home?: string
}

/** Clients take letters, digits, `_` and `-`; the tools of a database have a slash in their name. */
export const entryName = (server: string): string => (server.includes('/') ? prefixOf(server) : server)

/** Where an MCP server is, on the listener at `base`; undefined: all of them as one. */
function mcpUrl(base: string, server: string | undefined): string {
  if (server === undefined) return `${base}/mcp`
  const slash = server.indexOf('/')
  return slash < 0 ? `${base}/mcp/${server}` : `${base}/mcp/${server.slice(0, slash)}/${encodeURIComponent(server.slice(slash + 1))}`
}

/** The shim's command line as this installation starts it: desktop programs have no shell and often no PATH. */
export function shimCommand(command?: string): readonly string[] {
  if (command !== undefined) return [command]
  return [process.execPath, fileURLToPath(new URL('../../../bin/chaperone.js', import.meta.url))]
}

/** The entry for one server of the catalog, or, without a name, for all that one may use. */
export function entryFor(client: Client, server: string | undefined, way: WayIn): Entry {
  const name = server === undefined ? ONE : entryName(server)
  if (way.web !== undefined) return { name, url: mcpUrl(way.web, server) }
  const [command = '', ...first] = shimCommand(way.command)
  const args = [
    ...first,
    'mcp',
    'connect',
    ...(server === undefined ? [] : [server]),
    '--client',
    client,
    ...(way.server === undefined ? [] : ['--server', way.server]),
    ...(way.profile === undefined ? [] : ['--profile', way.profile]),
  ]
  return { name, command, args, env: way.home === undefined ? {} : { CHAPERONE_HOME: way.home } }
}

export const isShim = (entry: Entry): entry is ShimEntry => 'command' in entry

/** `command`, `args`, and `env` where there is any: what nearly all clients call them. */
export const stdio = ({ command, args, env }: ShimEntry) => ({ command, args, ...(Object.keys(env).length > 0 ? { env } : {}) })

/** What a client's file says of a server, in whatever words that client has. */
export interface Reached {
  readonly command?: readonly string[]
  readonly url?: string
}

const texts = (value: unknown): readonly string[] => (Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [])

/** `url`, `serverUrl` (Windsurf), `httpUrl` (Gemini CLI), `command` with `args`, or an object of them (older Zed). */
export function reached(value: unknown): Reached {
  if (typeof value !== 'object' || value === null) return {}
  const { command, args, url, serverUrl, httpUrl } = value as Readonly<Record<string, unknown>>
  if (typeof command === 'object' && command !== null) {
    const { path, args } = command as { path?: unknown; args?: unknown }
    return typeof path === 'string' ? { command: [path, ...texts(args)] } : {}
  }
  if (typeof command === 'string' && command !== '') return { command: [command, ...texts(args)] }
  const address = [url, serverUrl, httpUrl].find((one) => typeof one === 'string')
  return typeof address === 'string' ? { url: address } : {}
}

/** Whether an entry goes through Chaperone: it starts the shim, or its URL is one of ours. */
export function isOurs(value: unknown, web?: string): boolean {
  const { command, url } = reached(value)
  if (url !== undefined) return web !== undefined && (url === `${web}/mcp` || url.startsWith(`${web}/mcp/`))
  const at = command?.findIndex((word, i) => word === 'mcp' && command[i + 1] === 'connect') ?? -1
  if (at < 1) return false
  // Whatever `--command` named: nobody else has these words.
  return command!.includes('--client', at) || command!.slice(0, at).some((word) => /(?:^|[\\/])chaperone(?:\.(?:js|cmd|exe))?$/i.test(word))
}

/** The server that an entry of ours is for; empty: all of them as one. */
export function serverOfEntry(value: unknown, web?: string): string {
  const { command, url } = reached(value)
  if (url !== undefined) return web !== undefined && url.startsWith(`${web}/mcp/`) ? decodeURIComponent(url.slice(web.length + '/mcp/'.length)) : ''
  const at = command?.findIndex((word, i) => word === 'mcp' && command[i + 1] === 'connect') ?? -1
  const name = command?.[at + 2]
  return at < 0 || name === undefined || name.startsWith('-') ? '' : name
}
