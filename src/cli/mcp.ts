import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import type { Applied } from '../api/contract.ts'
import { CLIENTS, type Client, configFile, configText, type Entry } from '../client/config.ts'
import { ChaperoneError } from '../errors.ts'
import { printApplied } from './apply.ts'
import type { Register } from './commands.ts'
import { collect, holdOpen, keepFor, type ServerFlags, wholeNumber, withApi, withJson, withServer } from './connection.ts'
import { line, printJson, say } from './output.ts'
import { listResources, visibleResources } from './resources.ts'
import { stopSignal } from './terminal.ts'

type Flags = ServerFlags & { json?: boolean; client?: string; purpose?: string }

export const register: Register = (command) => {
  connect(command)
  proxy(command)
  withJson(withServer(command.command('ls').description('the MCP servers that you may see'))).action((flags: Flags) =>
    listResources(flags, 'mcp', 'There is no MCP server that you may see.'),
  )
  add(command)
  config(command)
}

function connect(command: Command): void {
  withServer(command.command('connect').description('speak MCP on stdin and stdout; desktop clients start this'))
    .argument('<name>', 'name of the MCP server')
    .option('--client <name>', 'act as YOU/<name>; default: what the client calls itself')
    .option('--purpose <text>', 'what this run is for; stands in every record')
    .action(async (name: string, flags: Flags) => {
      const { runShim } = await import('../client/shim.ts')
      const code = await runShim({
        server: name,
        input: process.stdin,
        output: process.stdout,
        say,
        connect: (label) => keepFor(flags, label, say),
        signal: stopSignal(),
        ...(flags.client === undefined ? {} : { client: flags.client }),
      })
      // stdin may still be open after a signal, and would keep the process waiting for a client that is not coming back.
      process.exit(code)
    })
}

function proxy(command: Command): void {
  withServer(command.command('proxy').description('an MCP endpoint on the loopback, for clients that speak only HTTP'))
    .argument('<name>', 'name of the MCP server')
    .option('--port <number>', 'default: any free one', wholeNumber('--port', 0, 65_535))
    .option('--origin <url>', 'a web page that may call it, for example http://localhost:6274; may be repeated', collect)
    .option('--client <name>', 'act as YOU/<name>', 'mcp-proxy')
    .option('--purpose <text>', 'what this run is for; stands in every record')
    .action(async (name: string, flags: Flags & { port?: number; origin?: string[] }) => {
      const stop = stopSignal()
      const keeper = await keepFor(flags, flags.client ?? 'mcp-proxy', say)
      const { openLoopback } = await import('../client/loopback.ts')
      const loopback = await openLoopback({ server: name, keeper, port: flags.port ?? 0, origins: flags.origin ?? [] })
      line(loopback.url)
      say('whoever knows this URL acts as you on this server, until this process ends')
      await holdOpen(loopback, keeper, stop)
    })
}

interface AddFlags extends ServerFlags {
  readonly url?: string
  readonly label?: readonly string[]
  readonly env?: readonly string[]
  readonly header?: readonly string[]
  readonly isolation?: string
  readonly read?: readonly string[]
  readonly write?: readonly string[]
  readonly trusted?: boolean
  readonly print?: boolean
  readonly json?: boolean
}

function add(command: Command): void {
  withJson(withServer(command.command('add').description('approve an MCP server: a command to start, or a URL')))
    .argument('<name>')
    .argument('[command...]', 'after --: the program and its arguments')
    .option('--url <url>', 'a Streamable HTTP server')
    .option('--label <key=value>', 'may be repeated', collect)
    .option('--env <KEY=value>', 'environment of the program; KEY=secret:NAME takes a sealed secret; may be repeated', collect)
    .option('--header <key=value>', 'header for the URL; key=secret:NAME takes a sealed secret; may be repeated', collect)
    .option('--isolation <how>', 'user, bubblewrap or none; default: the strongest that the server has')
    .option('--read <folder>', 'what the program may read; may be repeated', collect)
    .option('--write <folder>', 'what the program may write; may be repeated', collect)
    .option('--trusted', "believe the server's own annotations of its tools")
    .option('--print', 'print the document instead of applying it')
    .addHelpText('after', '\nExample:\n  chaperone mcp add files --read /srv/reports -- npx -y @modelcontextprotocol/server-filesystem /srv/reports')
    .action(async (name: string, words: string[], flags: AddFlags) => {
      const document = {
        kind: 'mcp',
        name,
        ...(flags.label ? { labels: pairs(flags.label, '--label') } : {}),
        spec: {
          ...(words.length > 0 ? { command: words } : {}),
          ...(flags.url === undefined ? {} : { url: flags.url }),
          ...(flags.env ? { env: secrets(pairs(flags.env, '--env')) } : {}),
          ...(flags.header ? { headers: secrets(pairs(flags.header, '--header')) } : {}),
          ...(flags.isolation === undefined ? {} : { isolation: flags.isolation }),
          ...(flags.read ? { read: flags.read } : {}),
          ...(flags.write ? { write: flags.write } : {}),
          ...(flags.trusted ? { trusted: true } : {}),
        },
      }
      const { stringify } = await import('yaml')
      const text = stringify(document, { lineWidth: 0 })
      if (flags.print) return void process.stdout.write(text)
      const applied = await withApi(flags, (api) => api.call<Applied>('POST', '/v1/apply', { files: [{ path: 'mcp add', text }] }))
      if (flags.json) return printJson(applied)
      printApplied(applied)
    })
}

function pairs(given: readonly string[], flag: string): Record<string, string> {
  return Object.fromEntries(
    given.map((text) => {
      const at = text.indexOf('=')
      if (at < 1) throw new ChaperoneError('usage', `${flag} ${text} has no value.`, { fix: `Write ${flag} NAME=VALUE.` })
      return [text.slice(0, at), text.slice(at + 1)]
    }),
  )
}

const secrets = (values: Record<string, string>) =>
  Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key, value.startsWith('secret:') ? { secret: value.slice('secret:'.length) } : value]),
  )

function config(command: Command): void {
  withServer(command.command('config').description('configuration that makes a client use Chaperone'))
    .argument('<client>', CLIENTS.join(', '))
    .argument('[names...]', 'MCP servers; default: all that you may see')
    .option('--write', "edit the client's file, and keep everything else in it")
    .option('--file <path>', 'another file than the usual one')
    .option('--command <path>', 'how the client starts Chaperone; default: this very installation')
    .action(async (client: string, names: string[], flags: ServerFlags & { write?: boolean; file?: string; command?: string }) => {
      if (!(CLIENTS as readonly string[]).includes(client))
        throw new ChaperoneError('usage', `${client} is not known.`, { fix: `Write one of ${CLIENTS.join(', ')}.` })
      const servers = names.length > 0 ? names : (await visibleResources(flags, 'mcp')).map((row) => row.name)
      if (servers.length === 0)
        throw new ChaperoneError('not_found', 'There is no MCP server that you may see.', { fix: 'Name one, or ask your administrator for a role.' })
      const entries = servers.map((name) => entryFor(name, client, flags))
      if (!flags.write) return void process.stdout.write(configText(client as Client, '', entries))
      const { file, changed } = await writeConfig(client as Client, entries, flags.file)
      line(changed ? `Wrote ${servers.join(', ')} to ${file}. Start ${client} again to see it.` : `${file} has it already.`)
    })
}

/** Desktop programs have no shell and often no PATH: Node and the script are named by their full paths. */
function entryFor(name: string, client: string, flags: ServerFlags & { command?: string }): Entry {
  const args = ['mcp', 'connect', name, '--client', client, ...(flags.server === undefined ? [] : ['--server', flags.server])]
  const env: Record<string, string> = process.env.CHAPERONE_HOME ? { CHAPERONE_HOME: process.env.CHAPERONE_HOME } : {}
  if (flags.command !== undefined) return { name, command: flags.command, args, env }
  const script = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))
  return { name, command: process.execPath, args: [script, ...args], env }
}

async function writeConfig(client: Client, entries: readonly Entry[], given?: string): Promise<{ file: string; changed: boolean }> {
  const { mkdir, realpath, stat } = await import('node:fs/promises')
  const { writePrivately } = await import('../client/profile.ts')
  let file = given ?? configFile(client)
  let before = ''
  let mode = 0o600
  try {
    // A link into a folder of dotfiles stays a link.
    file = await realpath(file)
    before = await readFile(file, 'utf8')
    mode = (await stat(file)).mode & 0o777
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    await mkdir(dirname(file), { recursive: true })
  }
  const after = configText(client, before, entries)
  if (after === before) return { file, changed: false }
  await writePrivately(file, after, mode)
  return { file, changed: true }
}
