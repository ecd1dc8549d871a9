import { homedir } from 'node:os'
import { join } from 'node:path'
import { ChaperoneError } from '../errors.ts'
import { setMember } from './json-edit.ts'

/** The programs whose configuration we can write. Each starts `chaperone mcp connect` as a stdio server. */
export const CLIENTS = ['claude-code', 'claude-desktop', 'cursor', 'vscode', 'codex', 'gemini'] as const
export type Client = (typeof CLIENTS)[number]

/** How a client starts the shim for one server. */
export interface Entry {
  /** the server's name in the catalog, and the entry's */
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

interface Form {
  readonly file: (home: string, env: NodeJS.ProcessEnv, platform: NodeJS.Platform) => string
  /** The file's text with the entry set. */
  readonly set: (text: string, entry: Entry) => string
}

const appData = (home: string, env: NodeJS.ProcessEnv, platform: NodeJS.Platform, ...rest: string[]) => {
  if (platform === 'darwin') return join(home, 'Library', 'Application Support', ...rest)
  if (platform === 'win32') return join(env.APPDATA ?? join(home, 'AppData', 'Roaming'), ...rest)
  return join(env.XDG_CONFIG_HOME || join(home, '.config'), ...rest)
}

const plain = ({ command, args, env }: Entry) => ({ command, args, ...(Object.keys(env).length > 0 ? { env } : {}) })

const inJson =
  (key: string, typed: boolean): Form['set'] =>
  (text, entry) =>
    setMember(text, [key, entry.name], typed ? { type: 'stdio', ...plain(entry) } : plain(entry))

const FORMS: Readonly<Record<Client, Form>> = {
  'claude-code': { file: (home) => join(home, '.claude.json'), set: inJson('mcpServers', true) },
  'claude-desktop': {
    file: (home, env, platform) => appData(home, env, platform, 'Claude', 'claude_desktop_config.json'),
    set: inJson('mcpServers', false),
  },
  cursor: { file: (home) => join(home, '.cursor', 'mcp.json'), set: inJson('mcpServers', false) },
  vscode: { file: (home, env, platform) => appData(home, env, platform, 'Code', 'User', 'mcp.json'), set: inJson('servers', true) },
  codex: { file: (home, env) => join(env.CODEX_HOME || join(home, '.codex'), 'config.toml'), set: setTomlTable },
  gemini: { file: (home) => join(home, '.gemini', 'settings.json'), set: inJson('mcpServers', false) },
}

/** Which file a client reads its MCP servers from, for this user. */
export function configFile(
  client: Client,
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  home: string = homedir(),
): string {
  return FORMS[client].file(home, env, platform)
}

/** The text of that file with the entries set, everything else as it was. */
export function configText(client: Client, text: string, entries: readonly Entry[]): string {
  return entries.reduce((soFar, entry) => FORMS[client].set(soFar, entry), text)
}

// A basic string of TOML takes the escapes of JSON; only U+007F must be escaped besides.
const tomlString = (text: string) => JSON.stringify(text).replaceAll('\u007f', '\\u007F')
const tomlKey = (text: string) => (/^[A-Za-z0-9_-]+$/.test(text) ? text : tomlString(text))

/** Replaces the table `[mcp_servers.NAME]` with its subtables, or adds it at the end. */
function setTomlTable(text: string, entry: Entry): string {
  const name = tomlKey(entry.name)
  const env = Object.entries(entry.env).map(([key, value]) => `${tomlKey(key)} = ${tomlString(value)}`)
  const table = [
    `[mcp_servers.${name}]`,
    `command = ${tomlString(entry.command)}`,
    `args = [${entry.args.map(tomlString).join(', ')}]`,
    ...(env.length > 0 ? [`env = { ${env.join(', ')} }`] : []),
  ]
  const lines = text.split('\n')
  const heading = (line: string) => /^\s*\[\[?\s*([^\]]*?)\s*\]\]?\s*(#.*)?$/.exec(line)?.[1]?.replace(/\s*\.\s*/g, '.')
  const ours = (line: string) => {
    const title = heading(line)?.replaceAll('"', '').replaceAll("'", '')
    return title === `mcp_servers.${entry.name}` || title?.startsWith(`mcp_servers.${entry.name}.`)
  }
  // A `[` at the start of a line inside a multi-line string or array could be taken for a heading; then nothing is touched.
  if (/"""|'''/.test(text))
    throw new ChaperoneError('invalid_document', 'The file has multi-line strings and is not edited.', { fix: 'Add the printed table by hand.' })
  const start = lines.findIndex(ours)
  if (start < 0) return `${text === '' || text.endsWith('\n') ? text : `${text}\n`}${text.trim() === '' ? '' : '\n'}${table.join('\n')}\n`
  let end = start + 1
  while (end < lines.length && (heading(lines[end]!) === undefined || ours(lines[end]!))) end++
  while (end > start + 1 && lines[end - 1]!.trim() === '') end--
  return [...lines.slice(0, start), ...table, ...lines.slice(end)].join('\n')
}
