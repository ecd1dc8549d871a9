import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { entryName, ONE, shimCommand } from '../config/entries.ts'
import { tomlServers } from '../config/toml-servers.ts'

/** Programs whose way to MCP servers we know: by its own flags and files, for one run, and nothing of the person's is changed. */
export interface KnownProgram {
  /** the client's name at Chaperone: `boris/claude-code` */
  readonly client: string
  readonly title: string
  /** What of the person's environment it needs, whatever it looks like: the key and the address of its model. */
  readonly needs: readonly RegExp[]
  configure(ask: ConfigureAsk): Promise<Configured>
}

export interface ConfigureAsk {
  /** what stands behind the program's name */
  readonly args: readonly string[]
  readonly servers: readonly ServerEntry[]
  /** a folder of the run, for files */
  readonly folder: string
  readonly home: string
  readonly env: NodeJS.ProcessEnv
}

export interface Configured {
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** A folder in that of the run which the program writes to. */
  readonly writes?: readonly string[]
  /** Of servers that the person's own configuration brings and that could not be left out. */
  readonly note?: { readonly text: string; readonly fix: string }
}

/** How a server is reached from inside: the shim, over the socket of the run. Nothing in it is secret. */
export interface ServerEntry {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** Each is a process of its own, and clients wait for all of them when they start. */
const MOST_ENTRIES = 12

export function serverEntries(servers: readonly string[], socket: string): readonly ServerEntry[] {
  const [command = '', ...first] = shimCommand()
  const entry = (name: string, more: readonly string[]): ServerEntry => ({
    name,
    command,
    args: [...first, 'mcp', 'connect', ...more],
    env: { CHAPERONE_SOCKET: socket },
  })
  return servers.length > MOST_ENTRIES ? [entry(ONE, [])] : servers.map((name) => entry(entryName(name), [name]))
}

const plain = (servers: readonly ServerEntry[]) => Object.fromEntries(servers.map(({ name, command, args, env }) => [name, { command, args, env }]))
const typed = (servers: readonly ServerEntry[]) =>
  Object.fromEntries(servers.map(({ name, command, args, env }) => [name, { type: 'stdio', command, args, env }]))
const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`

/** Anything that knows none of the above reads this, or starts `chaperone mcp connect` by itself. */
export async function writeMcpConfig(folder: string, servers: readonly ServerEntry[]): Promise<string> {
  const file = join(folder, 'mcp.json')
  await writeFile(file, json({ mcpServers: typed(servers) }), { mode: 0o600 })
  return file
}

const claude: KnownProgram = {
  client: 'claude-code',
  title: 'Claude Code',
  needs: [/^ANTHROPIC_/, /^CLAUDE_/, /^DISABLE_/, /^AWS_BEARER_TOKEN_BEDROCK$/],
  async configure({ args, servers, folder }) {
    const file = await writeMcpConfig(folder, servers)
    // `claude mcp list` reads no file that is named by a flag, only that of its own folder (2.1.330); it needs no sign-in there.
    if (args[0] === 'mcp') {
      const own = join(folder, 'claude')
      await mkdir(own, { mode: 0o700 })
      await writeFile(join(own, '.claude.json'), json({ mcpServers: typed(servers) }), { mode: 0o600 })
      return { args, env: { CLAUDE_CONFIG_DIR: own }, writes: [own] }
    }
    return { args: ['--mcp-config', file, '--strict-mcp-config', ...args] }
  },
}

const codex: KnownProgram = {
  client: 'codex',
  title: 'Codex',
  needs: [/^OPENAI_/, /^CODEX_/, /^AZURE_OPENAI_/],
  async configure({ args, servers, home, env }) {
    // A basic string of TOML takes the escapes of JSON; only U+007F must be escaped besides.
    const text = (value: string) => JSON.stringify(value).replaceAll('\u007f', '\\u007F')
    const table = ({ command, args: words, env: own }: ServerEntry) =>
      `{command=${text(command)},args=[${words.map(text).join(',')}],env={${Object.entries(own).map(([key, value]) => `${key}=${text(value)}`)}}}`
    const flags = servers.flatMap((server) => ['-c', `mcp_servers.${server.name}=${table(server)}`])
    // What `-c` says is laid over the person's own file, which stays: its servers are switched off by name.
    const file = join(env.CODEX_HOME || join(home, '.codex'), 'config.toml')
    const theirs = tomlServers('mcp_servers')
      .list(await readFile(file, 'utf8').catch(() => ''))
      .flatMap(({ name }) => (servers.some((server) => server.name === name) ? [] : [name]))
    const off = theirs.filter((name) => /^[A-Za-z0-9_-]+$/.test(name))
    const left = theirs.filter((name) => !off.includes(name))
    return {
      args: [...flags, ...off.flatMap((name) => ['-c', `mcp_servers.${name}.enabled=false`]), ...args],
      ...(left.length === 0 ? {} : { note: { text: `Codex also has servers of its own: ${left.join(', ')}`, fix: `Remove them from ${file}.` } }),
    }
  },
}

const gemini: KnownProgram = {
  client: 'gemini',
  title: 'Gemini CLI',
  needs: [/^GEMINI_/, /^GOOGLE_(?:API_KEY|GEMINI_|GENAI_|CLOUD_(?:PROJECT|LOCATION))/],
  async configure({ args, servers, folder, home, env }) {
    // It takes no file with servers by a flag, and system settings only from folders that nobody else may write to, not from
    // /dev/shm (0.61.0). So it is given a home: the person's files by links, and settings that differ in the servers alone.
    const theirs = join(env.GEMINI_CLI_HOME || home, '.gemini')
    const own = join(folder, 'gemini')
    await mkdir(join(own, '.gemini'), { recursive: true, mode: 0o700 })
    for (const name of await readdir(theirs).catch(() => []))
      if (name !== 'settings.json') await symlink(join(theirs, name), join(own, '.gemini', name))
    const settings = await readFile(join(theirs, 'settings.json'), 'utf8').catch(() => '{}')
    await writeFile(join(own, '.gemini', 'settings.json'), withServers(settings, servers), { mode: 0o600 })
    return { args, env: { GEMINI_CLI_HOME: own }, writes: [own] }
  },
}

/** Everything else as it was; servers of a project are left out by name. Settings that are no JSON count for nothing, as for Gemini itself. */
function withServers(text: string, servers: readonly ServerEntry[]): string {
  let before: { readonly mcp?: object } = {}
  try {
    before = JSON.parse(text) as typeof before
  } catch {
    // With comments, say. What matters is that the servers are those of the run.
  }
  return json({ ...before, mcpServers: plain(servers), mcp: { ...before.mcp, allowed: servers.map(({ name }) => name) } })
}

const cursor: KnownProgram = {
  client: 'cursor',
  title: 'Cursor',
  needs: [/^CURSOR_/],
  async configure({ args, servers, folder }) {
    const file = await writeMcpConfig(folder, servers)
    return {
      args,
      note: {
        text: `cursor-agent reads its MCP servers from ~/.cursor/mcp.json alone, and none of them is of this run`,
        fix: `Copy what it is to use into the .cursor/mcp.json of your project: ${file}`,
      },
    }
  },
}

const PROGRAMS: Readonly<Record<string, KnownProgram>> = { claude, codex, gemini, 'cursor-agent': cursor }

/** By the name of the file, as it was typed: `claude`, `/opt/claude/bin/claude`. `.exe` is what Claude Code's own package has on every system. */
export function knownProgram(command: string): KnownProgram | undefined {
  const name = basename(command).replace(/\.(?:exe|js|cmd)$/, '')
  return Object.hasOwn(PROGRAMS, name) ? PROGRAMS[name] : undefined
}

/** The name of a run at Chaperone: `boris/<client>`. */
export const clientOf = (command: string): string =>
  knownProgram(command)?.client ??
  (basename(command)
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, '')
    .slice(0, 40) ||
    'program')
